"""The cache of read models: a hit is what reading would give, and nothing that goes wrong with it matters."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import villageflow as vf
from villageflow import cache
from villageflow.cache import _CODEC, Entry, _Kept
from villageflow.frontend import pysd_adapter
from villageflow.sealed import seal, unseal

MODEL = """{UTF-8}
a = b * 2 ~ m ~ What a means. |
b = 3 ~ m ~ |
INITIAL TIME = 0 ~ Day ~ |
FINAL TIME = 2 ~ Day ~ |
TIME STEP = 1 ~ Day ~ |
SAVEPER = TIME STEP ~ Day ~ |
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.mdl"
    path.write_text(MODEL)
    return path


@pytest.fixture
def parsed(monkeypatch):
    """The files that were parsed."""
    names = []
    original = pysd_adapter.read_source

    def counted(path, **options):
        names.append(Path(path).name)
        return original(path, **options)

    monkeypatch.setattr(pysd_adapter, "read_source", counted)
    return names


def entries(folder):
    return sorted(folder.glob("*.model"))


def test_a_model_is_parsed_once(folder, path, parsed):
    first, second = vf.read_model(path), vf.read_model(path)
    assert parsed == ["m.mdl"]
    assert _CODEC.write(_Kept(first, {}, ())) == _CODEC.write(_Kept(second, {}, ()))
    assert first.digest == second.digest
    assert len(entries(folder)) == 1
    assert float(vf.simulate(second, save=["a"])["a"][0, 0]) == 6.0


def test_changed_content_another_name_or_other_options_are_parsed(folder, path, parsed, tmp_path):
    vf.read_model(path)
    path.write_text(MODEL.replace("= 3", "= 4"))
    assert vf.read_model(path).constants["b"] == 4.0
    (tmp_path / "n.mdl").write_text(MODEL)
    assert vf.read_model(tmp_path / "n.mdl").name == "n"
    (tmp_path / "d.csv").write_text("time,x\n0,1\n1,2\n")
    vf.read_model(path, data_files=[tmp_path / "d.csv"])
    assert parsed == ["m.mdl", "m.mdl", "n.mdl", "m.mdl"]
    path.write_text(MODEL)
    assert vf.read_model(path).constants["b"] == 3.0
    assert len(parsed) == 4


def test_a_change_of_the_code_that_reads_outdates_every_entry(folder, path, parsed, monkeypatch):
    vf.read_model(path)
    monkeypatch.setattr(cache, "_sources", lambda: "other")
    vf.read_model(path)
    assert len(parsed) == 2
    assert len(entries(folder)) == 2


def test_the_code_that_reads_is_read_in_full(tmp_path, monkeypatch):
    """Every source under these folders counts, so that an edit of any of them is seen."""
    before = cache._sources()
    real, seen = Path.read_bytes, []

    def noted(self):
        seen.append(self)
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", noted)
    cache._sources.cache_clear()
    assert cache._sources() == before
    package = Path(cache.__file__).parent
    for folder in ("frontend", "ir", "lower"):
        assert set((package / folder).glob("*.py")) <= set(seen)
        assert not [item for item in (package / folder).iterdir() if item.is_dir() and item.name != "__pycache__"]
    names = {item.name for item in seen}
    assert {"names.py", "vensim_element.py", "xmile_element.py", "components.peg", "equations.peg", "nodes.py"} <= names
    cache._sources.cache_clear()
    monkeypatch.setattr(Path, "read_bytes", lambda self: real(self) + (b"#" if self.name == "walk.py" else b""))
    assert cache._sources() != before
    cache._sources.cache_clear()


def test_sources_that_cannot_be_read_mean_no_cache(folder, path, parsed, monkeypatch):
    monkeypatch.setattr(cache, "_sources", lambda: "")
    vf.read_model(path)
    vf.read_model(path)
    assert len(parsed) == 2
    assert not folder.exists()


def test_warnings_are_repeated(folder, path, parsed, caplog):
    path.write_text(MODEL.replace("a = b", "check :THE CONDITION: b = 1 :IMPLIES: a = 2 ~~|\na = b"))
    with caplog.at_level(logging.WARNING):
        vf.read_model(path)
        vf.read_model(path)
    assert parsed == ["m.mdl"]
    assert len(caplog.messages) == 2
    assert caplog.messages[0] == caplog.messages[1]
    assert "reality check" in caplog.messages[0]


# ------------------------------------------------------------------------------------- other files

EXTERNAL = MODEL.replace("b = 3", "b = GET DIRECT CONSTANTS('d.csv', ',', 'A1')")


def test_other_files_that_a_model_reads_are_part_of_it(folder, path, parsed, tmp_path):
    path.write_text(EXTERNAL)
    (tmp_path / "d.csv").write_text("5\n")
    for value in ("5", "5", "7", "7"):
        (tmp_path / "d.csv").write_text(f"{value}\n")
        assert vf.read_model(path).constants["b"] == float(value)
    assert len(parsed) == 2


def test_a_copy_of_a_model_reads_the_files_beside_it(folder, path, parsed, tmp_path):
    for name, value in (("one", 5), ("two", 6), ("three", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.mdl").write_text(EXTERNAL)
        (tmp_path / name / "d.csv").write_text(f"{value}\n")
        assert vf.read_model(tmp_path / name / "m.mdl").constants["b"] == value
    (tmp_path / "three" / "d.csv").unlink()
    with pytest.raises(vf.VillageflowError, match="does not exist"):
        vf.read_model(tmp_path / "three" / "m.mdl")


def test_a_link_that_is_turned_elsewhere_is_followed(folder, path, tmp_path):
    path.write_text(EXTERNAL)
    for value in (5, 6):
        (tmp_path / f"d{value}.csv").write_text(f"{value}\n")
        (tmp_path / "d.csv").unlink(missing_ok=True)
        (tmp_path / "d.csv").symlink_to(f"d{value}.csv")
        assert vf.read_model(path).constants["b"] == value


# ------------------------------------------------------------------------------------------ damage


def test_damaged_entries_are_read_anew_and_rewritten(folder, path, parsed):
    vf.read_model(path)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    damages = [b"", whole[:-1], whole[:50], whole[:200] + b"#" + whole[201:], b"\0" * 1000]
    text = unseal("model", 1, whole)
    assert text.endswith(",{},[]]]}")
    tails = ['{"m.mdl":"0"},[]', '{"a\\u0000":"0"},[]', '{"gone":"0"},[]', '{"m.mdl":0},[]', "{},[1]", "[],{}", "{}"]
    for tail in tails:
        damages.append(seal("model", 1, f"{text[:-7]}{tail}]]}}"))
    damages += [seal("model", 1, "{}"), seal("model", 1, text.replace("Num", "Tum")), seal("program", 1, text)]
    for number, damaged in enumerate(damages, start=2):
        entry.write_bytes(damaged)
        assert vf.read_model(path).constants["b"] == 3.0
        assert len(parsed) == number
        assert entry.read_bytes() == whole


def test_a_folder_that_cannot_be_used_is_no_cache(tmp_path, path, parsed, monkeypatch):
    (tmp_path / "file").write_text("")
    for value in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "/proc/nowhere", "a\tb" * 2000):
        monkeypatch.setenv(cache.VARIABLE, value)
        assert vf.read_model(path).constants["b"] == 3.0
    assert len(parsed) == 4


def test_an_empty_variable_switches_it_off(tmp_path, path, parsed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(cache.VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    vf.read_model(path)
    vf.read_model(path)
    assert len(parsed) == 2
    assert sorted(item.name for item in tmp_path.iterdir()) == ["m.mdl"]


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    for shared, expected in (("", ".cache"), ("relative", ".cache"), (str(tmp_path / "shared"), "shared")):
        monkeypatch.setenv("XDG_CACHE_HOME", shared)
        assert cache.folder() == tmp_path / expected / "villageflow"
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "own"))
    assert cache.folder() == tmp_path / "own"


def test_what_was_not_used_for_longest_is_removed(folder, tmp_path, monkeypatch):
    paths = [tmp_path / f"m{i}.mdl" for i in range(4)]
    for path in paths:
        path.write_text(MODEL)
    vf.read_model(paths[0])
    size = entries(folder)[0].stat().st_size
    monkeypatch.setattr(cache, "MAX_BYTES", int(size * 2.5))
    os.utime(entries(folder)[0], (1, 1))
    vf.read_model(paths[1])
    os.utime(next(item for item in entries(folder) if item.stat().st_mtime > 2), (2, 2))
    (folder / "mine.txt").write_text("not ours")
    (folder / ".stopped.part").write_bytes(b"x" * size)
    os.utime(folder / ".stopped.part", (0, 0))
    assert Entry(paths[0]).find() is not None  # now used after m1
    vf.read_model(paths[2])
    assert [Entry(path).find() is not None for path in paths] == [True, False, True, False]
    assert (folder / "mine.txt").exists()
    assert not (folder / ".stopped.part").exists()


def test_processes_share_it(folder, path):
    code = f"import villageflow as vf; m = vf.read_model({str(path)!r}); print(m.constants['b'])"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["3.0"] * 3
    assert len(entries(folder)) == 1
    assert not list(folder.glob("*.part"))


def test_a_hit_imports_neither_the_parser_nor_tables(folder, path):
    vf.read_model(path)
    code = (
        f"import sys, villageflow as vf; vf.read_model({str(path)!r});"
        "print(sorted({'pysd', 'pandas', 'numpy', 'lxml', 'parsimonious', 'pandera'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
