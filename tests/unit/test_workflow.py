"""The reproduction machinery, tried on a small workflow: what is rebuilt, what is not, and what is said."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from villageflow.errors import ReportError
from villageflow.report.sources import code_digest, import_closure, value_digest
from villageflow.report.workflow import RECORD, reproduce

TASKS = """
    from pathlib import Path
    from typing import Annotated

    import numpy as np
    import xarray as xr
    from pytask import Product

    from villageflow.report import record
    from villageflow.report.sources import code, fixed

    HERE = Path(__file__).parent
    BLD = HERE / "bld"


    def task_simulate(
        produces: Annotated[Path, Product] = BLD / "walk.nc",
        seed: int = fixed({seed}),
        source: str = code("villageflow.report.record"),
    ) -> None:
        produces.parent.mkdir(exist_ok=True)
        walk = np.random.default_rng(seed).normal(size=(3, 20)).cumsum(axis=1)
        xr.Dataset({{"walk": (("member", "time"), walk)}}).to_netcdf(produces, engine="h5netcdf")


    def task_estimate(
        walk: Path = BLD / "walk.nc", produces: Annotated[Path, Product] = BLD / "estimates.json"
    ) -> None:
        {body}
        with xr.open_dataset(walk, engine="h5netcdf") as dataset:
            record.write_json(produces, {{"walk.mean": float(dataset["walk"].mean())}})


    def task_record(
        walk: Path = BLD / "walk.nc",
        estimates: Path = BLD / "estimates.json",
        produces: Annotated[Path, Product] = BLD / "record.json",
    ) -> None:
        made = record.make_record({{"walk": walk}}, record.read_json(estimates), [estimates], base=BLD)
        record.write_json(produces, made)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "paper").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/tolerances.csv").write_text("quantity,rtol,atol,reason\nwalk.*,1e-9,0,summation order\n")
    config = Path(__file__).parents[2] / "paper/pytask.toml"
    (tmp_path / "paper/pytask.toml").write_text(config.read_text())
    write_tasks(tmp_path)
    return tmp_path


def write_tasks(checkout: Path, seed: int = 1, body: str = "pass") -> None:
    (checkout / "paper/tasks.py").write_text(dedent(TASKS).format(seed=seed, body=body))


def outcomes(printed: str) -> list[str]:
    return [line.split()[-1] for line in printed.splitlines() if line.startswith("[")]


def test_a_second_call_rebuilds_nothing_and_says_what_there_is(checkout, capsys):
    assert reproduce(checkout) == 0
    first = capsys.readouterr().out
    assert "3 steps built, 0 unchanged, 0 failed" in first
    assert "paper/bld/walk.nc" in first
    assert reproduce(checkout) == 0
    second = capsys.readouterr().out
    assert outcomes(second) == ["unchanged"] * 3
    assert "paper/bld/walk.nc" in second


def test_a_changed_seed_rebuilds_what_depends_on_it(checkout, capsys):
    reproduce(checkout)
    before = (checkout / RECORD).read_bytes()
    write_tasks(checkout, seed=2)
    assert reproduce(checkout) == 0
    assert "3 steps built" in capsys.readouterr().out
    assert (checkout / RECORD).read_bytes() != before


def test_two_clean_runs_write_the_same_bytes(checkout):
    reproduce(checkout)
    before = (checkout / RECORD).read_bytes()
    assert reproduce(checkout, clean=True) == 0
    assert (checkout / RECORD).read_bytes() == before


def test_a_deleted_product_is_built_again(checkout, capsys):
    reproduce(checkout)
    (checkout / "paper/bld/estimates.json").unlink()
    capsys.readouterr()
    reproduce(checkout)
    assert outcomes(capsys.readouterr().out)[0] == "unchanged"
    assert (checkout / "paper/bld/estimates.json").is_file()


def test_check_compares_with_the_accepted_record(checkout, capsys):
    assert reproduce(checkout, check=True) == 1
    assert "no committed record" in capsys.readouterr().err
    assert reproduce(checkout, accept=True) == 0
    assert reproduce(checkout, clean=True, check=True) == 0
    write_tasks(checkout, seed=2)
    assert reproduce(checkout, check=True) == 1
    printed = capsys.readouterr().out
    assert "walk/walk: expected" in printed
    assert "walk.mean: expected" in printed


def test_a_users_error_is_one_line_and_stops_what_depends_on_it(checkout, capsys):
    body = "from villageflow.errors import DataError; raise DataError('the column gmv is missing')"
    write_tasks(checkout, body=body)
    assert reproduce(checkout) == 1
    printed = capsys.readouterr()
    assert printed.err.strip() == "DataError: the column gmv is missing"
    assert "not run: an earlier step failed" in printed.out


def test_any_other_error_keeps_its_traceback(checkout, capsys):
    write_tasks(checkout, body="1 / 0")
    assert reproduce(checkout) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_tasks_that_cannot_be_imported_are_reported(checkout, capsys):
    (checkout / "paper/tasks.py").write_text("import a_module_that_is_not_there\n")
    assert reproduce(checkout) == 1
    assert "a_module_that_is_not_there" in capsys.readouterr().err


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(ReportError, match="checkout"):
        reproduce(tmp_path)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "toy"
    (root / "_kernels").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "a.py": "from toy.b import f\n",
        "b.py": "def f():\n    import toy.c as c\n    return c\n",
        "c.py": "from toy._kernels import _tape\n",
        "d.py": "import numpy\n",
        "_kernels/__init__.py": "",
        "_kernels/_tape.pyx": "",
        "_kernels/_vmath.pxd": "",
    }.items():
        (root / name).write_text(text)
    return root


def test_import_closure_follows_imports_into_functions_and_kernels(package):
    names = [path.relative_to(package).as_posix() for path in import_closure("toy.a", package=package)]
    assert names == [
        "_kernels/__init__.py",
        "_kernels/_tape.pyx",
        "_kernels/_vmath.pxd",
        "a.py",
        "b.py",
        "c.py",
    ]
    assert [path.name for path in import_closure("toy.d", package=package)] == ["d.py"]


def test_import_closure_names_an_unknown_module(package):
    with pytest.raises(ReportError, match=r"toy\.nothing"):
        import_closure("toy.a", "toy.nothing", package=package)


def test_digests_depend_on_what_they_stand_for():
    assert code_digest("villageflow.errors") != code_digest("villageflow.report.record")
    assert value_digest({"seed": 1, "n": 2}) == value_digest({"n": 2, "seed": 1})
    assert value_digest(1) != value_digest(2)
