"""The bootstrap over entities: errors of a whole pipeline, the same bits after a kill, and no failure forgotten."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal, assert_series_equal

import villageflow as vf
from villageflow.calibrate.bootstrap import bootstrap, resample_panel, resample_problem
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.errors import CalibrationError

MODEL = """{UTF-8}
shops = INTEG(entry - exit rate*shops, initial shops) ~ shop ~|
entry = 10 ~ shop/Year ~|
exit rate = 0.2 ~ 1/Year ~|
initial shops = 20 ~ shop ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 6 ~ Year ~|
TIME STEP = 1 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "shops.mdl"
    path.write_text(MODEL)
    rng = np.random.default_rng(3)
    names, times = ["a", "b", "c", "d"], np.arange(1.0, 7.0)
    start = dict(zip(names, (10.0, 20.0, 30.0, 40.0), strict=True))
    table = pd.DataFrame([
        (name, time, "shops", 50 + (start[name] - 50) * 0.8**time + rng.normal(0, 2), "=", "made")
        for name in names for time in times
    ], columns=["entity", "time", "observable", "value", "comparator", "source_id"])
    brought = pd.DataFrame([(name, "initial shops", np.nan, value, "made") for name, value in start.items()],
                           columns=["entity", "name", "time", "value", "source_id"])
    parameters = pd.DataFrame({"name": ["entry", "spread"], "scale": "log", "lower": [1.0, 0.1], "upper": [90.0, 20.0]})
    return Problem(
        model=vf.read_model(path), parameters=parameters, covariates=brought, measurements=table[table["time"] < 6],
        holdout=table[table["time"] == 6], observables=(Observable("shops", "shops", "level", "normal", "spread"),),
    )


def panel(n=40, seed=1):
    """Stocks and exits of n places; places of one kind lose a larger share for good."""
    rng = np.random.default_rng(seed)
    share = 0.2 * np.exp(0.4 * rng.normal(size=n))
    stock = rng.uniform(50, 150, size=(n, 3))
    table = pd.DataFrame({
        "entity": np.repeat([f"v{i:03d}" for i in range(n)], 3), "time": np.tile([1.0, 2.0, 3.0], n),
        "stock": stock.ravel(), "exits": (share[:, None] * stock).ravel(),
    })
    return table.assign(entry=20 + rng.normal(0, 1, size=len(table)))


def rate(table):
    return float(table["stock"] @ table["exits"] / (table["stock"] @ table["stock"]))


def two_stages(table):
    """The exit rate by a regression through the origin; with it the level at which entry and exit are equal."""
    return {"rate": rate(table), "level": table["entry"].mean() / rate(table)}


def test_errors_of_a_mean_are_those_of_sampling_entities():
    table = panel()
    found = bootstrap(lambda part: {"mean": part["exits"].mean()}, table, draws=2000, seed=1)
    means = table.groupby("entity")["exits"].mean()
    exact = means.std(ddof=0) / np.sqrt(len(means))  # of the mean of a sample with replacement
    assert_allclose(found.std_errors["mean"], exact, rtol=4 / np.sqrt(2 * 2000))
    assert abs(found.bias["mean"]) < 4 * exact / np.sqrt(2000)
    reach = 2.02269092 * found.std_errors["mean"]  # 97.5 % quantile of t(39), from tables
    assert_allclose(found.conf_int(kind="t").loc["mean"], found.estimate["mean"] + np.array([-reach, reach]))
    assert_allclose(found.conf_int(0.9).loc["mean"], np.quantile(found.draws["mean"], [0.05, 0.95]))
    assert found.notes() == () and "40 entities drawn whole, 2000 draws, 0 failed" in found.summary()


def test_a_second_stage_that_takes_the_first_as_known_has_too_short_errors():
    table = panel()
    held = rate(table)
    whole = bootstrap(two_stages, table, draws=300, seed=1)
    second = bootstrap(lambda part: {"level": part["entry"].mean() / held}, table, draws=300, seed=1)
    true = np.std([two_stages(panel(seed=seed))["level"] for seed in range(100, 700)])
    assert_allclose(whole.std_errors["level"], true, rtol=0.3)
    assert second.std_errors["level"] < 0.2 * true


def test_draws_depend_neither_on_their_number_nor_on_the_order_of_the_rows():
    table = panel(n=8)
    found = bootstrap(two_stages, table, draws=12, seed=4)
    mixed = table.sample(frac=1, random_state=1).sort_values("time", kind="stable")
    assert_frame_equal(bootstrap(two_stages, table, draws=5, seed=4).draws, found.draws.iloc[:5])
    assert_array_equal(bootstrap(two_stages, mixed, draws=12, seed=4).draws, found.draws)
    by_index = bootstrap(two_stages, table.set_index(["entity", "time"]), draws=12, seed=4)
    assert_array_equal(by_index.draws, found.draws)
    assert not np.array_equal(bootstrap(two_stages, table, draws=12, seed=5).draws, found.draws)


def test_a_killed_run_goes_on_with_the_same_bits(tmp_path):
    table, file = panel(n=8), tmp_path / "draws.jsonl"
    whole = bootstrap(two_stages, table, draws=9, seed=4)
    calls = []

    def killed(part):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return two_stages(part)

    with pytest.raises(KeyboardInterrupt):
        bootstrap(killed, table, draws=9, seed=4, resume=file)
    assert len(file.read_text().splitlines()) == 1 + 4
    with file.open("a") as lines:
        lines.write('{"draw": 4, "found": [0.1')  # cut short within a line
    calls.clear()
    again = bootstrap(lambda part: calls.append(1) or two_stages(part), table, draws=9, seed=4, resume=file)
    assert len(calls) == 1 + 5
    assert_frame_equal(again.draws, whole.draws)
    assert_series_equal(again.estimate, whole.estimate)
    longer = bootstrap(two_stages, table, draws=11, seed=4, resume=file)
    assert_frame_equal(longer.draws, bootstrap(two_stages, table, draws=11, seed=4).draws)


def test_a_file_of_another_run_is_refused(tmp_path):
    table, file, other = panel(n=8), tmp_path / "draws.jsonl", tmp_path / "other"
    bootstrap(two_stages, table, draws=2, seed=4, resume=file)
    with pytest.raises(CalibrationError, match="another seed"):
        bootstrap(two_stages, table, draws=2, seed=5, resume=file)
    with pytest.raises(CalibrationError, match="another entities"):
        bootstrap(two_stages, table[table["entity"] != "v000"], draws=2, seed=4, resume=file)
    with pytest.raises(CalibrationError, match="another estimate"):
        bootstrap(lambda part: {**two_stages(part), "level": 1.0}, table, draws=2, seed=4, resume=file)
    head = file.read_text().splitlines()[0] + "\n"
    faulty = [
        "no newline", "", "\n", "5\n", "{}}\n", "\xff\xfe\n", head + "7\n", head + '{"draw": 0}\n',
        *(f'{head}{{"draw": 0, "found": {found}}}\n' for found in ("[1.0]", '["a", "b"]', "null", "[NaN, 1.0]")),
        head + '{"draw": "a", "found": [1.0, 2.0]}\n',
    ]
    for text in faulty:
        other.write_text(text, encoding="latin-1")
        with pytest.raises(CalibrationError, match=r"cannot be read as draws .*; remove it to start anew, or name"):
            bootstrap(two_stages, table, draws=2, seed=4, resume=other)
        assert other.read_text(encoding="latin-1") == text
    with pytest.raises(CalibrationError, match=r"cannot be read \(Is a directory\); name another file"):
        bootstrap(two_stages, table, draws=2, seed=4, resume=tmp_path)
    with pytest.raises(CalibrationError, match=r"cannot be written .*; name another file"):
        bootstrap(two_stages, table, draws=2, seed=4, resume=tmp_path / "nowhere" / "draws.jsonl")


def test_failures_are_counted_and_said(tmp_path):
    table, file = panel(n=6), tmp_path / "draws.jsonl"

    def fragile(part):
        if "v000 #2" in set(part["entity"]):
            raise ValueError("singular matrix")
        return {"spread": np.nan if "v001 #2" in set(part["entity"]) else part["exits"].std()}

    told = []
    found = bootstrap(fragile, table, draws=60, seed=1, resume=file, progress=lambda *done: told.append(done))
    assert told[0][:2] == (1, 60) and told[-1] == (60, 60, len(found.failures))
    assert set(found.failures) == {"ValueError: singular matrix", "spread is not finite"}
    assert len(found.draws) + len(found.failures) == 60 and not set(found.draws.index) & set(found.failures.index)
    assert len(found.failures) > 10
    assert f"{len(found.failures)} draws failed" in found.notes()[0] and "tamer" in found.notes()[0]
    assert found.notes()[0] in found.summary()
    assert_series_equal(bootstrap(fragile, table, draws=60, seed=1, resume=file).failures, found.failures)
    assert sum(isinstance(json.loads(line)["found"], str) for line in file.read_text().splitlines()[1:]) > 10

    def mistaken(part):
        return {"spread": part["exits"].std()} if "v000 #2" not in set(part["entity"]) else undefined  # noqa: F821

    with pytest.raises(NameError):
        bootstrap(mistaken, table, draws=60, seed=1)


def test_a_problem_is_sampled_with_all_that_belongs_to_its_entities(problem):
    found = resample_problem(problem, ["b", "d", "b", "b"])
    assert found.entities == ("b", "d", "b #2", "b #3")
    for name in ("measurements", "holdout", "covariates"):
        before, after = getattr(problem, name), getattr(found, name)
        for copy in ("b", "b #2", "b #3"):
            own, source = after[after["entity"] == copy], before[before["entity"] == "b"]
            assert_frame_equal(
                own.drop(columns="entity").reset_index(drop=True), source.drop(columns="entity").reset_index(drop=True)
            )
        assert not after["entity"].isin(["a", "c"]).any()
    values = np.array([[10.0, 1.0]])
    once, twice = problem.entity_log_likelihood(values[:, None].repeat(4, 1)), found.entity_log_likelihood(
        values[:, None].repeat(4, 1)
    )
    assert_array_equal(twice[0], once[0][[1, 3, 1, 1]])


def test_a_sample_has_the_same_bits_whatever_the_order_of_measurements(problem):
    def pipeline(sampled):
        return {"loglik": sampled.log_likelihood(pd.DataFrame({"entry": [9.7], "spread": [1.7]}))[0]}

    mixed = Problem(
        model=problem.model, parameters=problem.parameters, observables=problem.observables, holdout=problem.holdout,
        measurements=problem.measurements.sample(frac=1, random_state=1), covariates=problem.covariates[::-1],
    )
    assert mixed.entities != problem.entities
    found, again = (bootstrap(pipeline, item, draws=20, seed=1) for item in (problem, mixed))
    assert_frame_equal(again.draws, found.draws, check_exact=True)
    assert_series_equal(again.estimate, found.estimate, check_exact=True)
    samples = [resample_problem(item, ["b", "d", "b"]) for item in (problem, mixed)]
    for name in ("measurements", "holdout", "covariates"):
        assert_frame_equal(*(getattr(item, name) for item in samples), check_exact=True)


def test_entities_that_are_numbers_are_sampled(problem):
    numbers = {"a": 1, "b": 2, "c": 3, "d": 4}
    tables = {
        name: getattr(problem, name).assign(entity=getattr(problem, name)["entity"].map(numbers))
        for name in ("measurements", "holdout", "covariates")
    }
    found = resample_problem(replace(problem, **tables), ["2", "4", "2"])
    assert found.entities == ("2", "4", "2 #2") and len(found.measurements) == 15


def test_a_panel_keeps_its_index_and_the_order_within_entities():
    table = panel(n=3).set_index(["entity", "time"])[::-1]
    found = resample_panel(table, ["v002", "v000", "v002"])
    assert found.index.names == ["entity", "time"]
    assert list(found.index.unique(0)) == ["v002", "v000", "v002 #2"]
    assert_array_equal(found.loc["v002 #2"], table.loc["v002"])
    numbered = resample_panel(panel(n=2).assign(entity=np.repeat([7, 8], 3)), ["7", "7"])
    assert list(numbered["entity"].unique()) == ["7", "7 #2"]


def test_a_regression_feeds_a_fit_on_the_same_sample(problem):
    """The fixed constant of the fit is the exit rate of the sample's own panel."""
    rng = np.random.default_rng(5)
    names = problem.entities
    table = pd.DataFrame({"entity": np.repeat(names, 5), "stock": rng.uniform(50, 150, 20)})
    table["exits"] = table["stock"] * np.repeat([0.15, 0.18, 0.22, 0.25], 5)
    seen = []

    def pipeline(parts):
        exit_rate = rate(parts["panel"])
        assert set(parts["panel"]["entity"]) == set(parts["problem"].entities)
        sampled = parts["problem"]
        known = Problem(
            model=sampled.model, parameters=sampled.parameters, observables=sampled.observables,
            measurements=sampled.measurements, covariates=sampled.covariates, fixed={"exit rate": exit_rate},
        )
        result = vf.fit(known, seed=1, cov_type="hessian", n_draws=10)
        seen.append((exit_rate, result.params["entry"]))
        return {"entry": result.params["entry"], "level": result.params["entry"] / exit_rate}

    found = bootstrap(pipeline, {"panel": table, "problem": problem}, draws=3, seed=2)
    assert len(found.draws) == 3 and found.n_entities == 4
    assert len({row[0] for row in seen}) == 4
    assert_array_equal(found.draws["level"], [entry / exit_rate for exit_rate, entry in seen[1:]])
    other = {"panel": table[table["entity"] != "a"], "problem": problem}
    with pytest.raises(CalibrationError, match="only one of 'panel' and 'problem' has entity 'a'"):
        bootstrap(pipeline, other, draws=3, seed=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 0}, "draws is 0; it must be a whole number of at least 1"),
        ({"data": panel(n=1)}, "the data have 1 entity; a bootstrap over entities needs two or more"),
        ({"data": panel().drop(columns="entity")}, "no column 'entity' and no index of entity and time"),
        ({"data": [1, 2]}, "the data are a list; give a DataFrame, a Problem"),
        ({"pipeline": lambda part: {"x": np.inf}}, "'x' is inf on the data"),
        ({"pipeline": lambda part: {}}, "the pipeline gives no statistic"),
        ({"pipeline": lambda part: {str("v000" in set(part["entity"])): 1.0}}, "on a sample or on the data, not on"),
        *(({"draws": n}, f"draws is {n!r}; it must be a whole number of at least 1") for n in (1.5, "a", None, True)),
        *(({"seed": seed}, f"seed is {seed!r}; it must be a whole number from 0 on") for seed in
          (-1, "a", None, 1.5, True)),
        ({"pipeline": None}, "the pipeline is None; give a callable"),
        *(({"pipeline": lambda part, given=given: given}, f"the pipeline gives {said}; it must give a mapping (or Ser")
          for given, said in (
              ([1.0], "[1.0], a list"), (None, "None, a NoneType"), (1.5, "1.5, a float"), ("a", "'a', a str"),
              (np.ones(2), "array([1., 1.]), a ndarray"),
        )),
        *(({"pipeline": lambda part, value=value: {"x": value}}, f"the pipeline gives 'x' as {said}; it must give")
          for value, said in (("1", "'1', a str"), (None, "None, a NoneType"), ([1.0], "[1.0], a list"))),
        ({"pipeline": lambda part: None if "v000 #2" in set(part["entity"]) else {"x": 1.0}},
         "the pipeline gives None, a NoneType"),
        ({"pipeline": lambda part: pd.Series([1.0, 2.0], index=["x", "x"])}, "the pipeline gives 'x' twice"),
        ({"data": panel(n=3).replace({"entity": {"v001": np.nan}})}, "row 3 of the data has no entity; name it"),
        ({"data": panel(n=3).replace({"entity": {"v001": None}}).set_index(["entity", "time"])},
         "row 3 of the data has no entity; name it"),
        ({"resume": 5}, "resume is 5; give the path of a file"),
        ({"data": panel(n=2).replace({"entity": {"v001": "v000 #2"}})}, "an entity is called 'v000 #2'"),
    ],
)
def test_a_faulty_call_is_refused_with_its_remedy(change, message):
    given = {"pipeline": two_stages, "data": panel(n=8), "draws": 20, "seed": 1, **change}
    with pytest.raises(CalibrationError, match=re.escape(message)) as said:
        bootstrap(given.pop("pipeline"), given.pop("data"), **given)
    assert "\n" not in str(said.value)


def test_levels_and_kinds_of_intervals_are_checked():
    found = bootstrap(two_stages, panel(n=4), draws=3, seed=1)
    with pytest.raises(CalibrationError, match="level is 2"):
        found.conf_int(2)
    with pytest.raises(CalibrationError, match="kind='bca' is not known"):
        found.conf_int(kind="bca")
    with pytest.raises(CalibrationError, match="entity 'zz' is not in the data"):
        resample_panel(panel(n=4), ["zz"])
