"""Stored programs: they run as they were compiled, and any damage is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import villageflow as vf
from villageflow.errors import ProgramError, StoredFileError
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.program import store
from villageflow.program.emit import compile_model
from villageflow.program.store import load_program, save_program
from villageflow.sealed import seal, unseal, write_whole
from villageflow.timegrid import TimeGrid

MODEL = """{UTF-8}
level = INTEG(MIN(rate * level, cap), 1) ~ m ~ |
rate = 0.1 ~ 1/Day ~ |
cap = table(Time) ~ m/Day ~ |
table((0,0.5),(2,1),(9,4)) ~ m/Day ~ |
late = DELAY FIXED(level, 2, 0) ~ m ~ |
held = SAMPLE IF TRUE(Time > 2, level, 0) ~ m ~ |
INITIAL TIME = 0 ~ Day ~ |
FINAL TIME = 9 ~ Day ~ |
TIME STEP = 0.5 ~ Day ~ |
SAVEPER = TIME STEP ~ Day ~ |
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "m.mdl"
    path.write_text(MODEL)
    return compile_model(vf.read_model(path), varied=("rate",), saves=("level", "cap", "late", "held"))


@pytest.fixture
def path(tmp_path, program):
    save_program(program, tmp_path / "m.program")
    return tmp_path / "m.program"


def resealed(path, change):
    """The file with its JSON changed, under a seal that fits."""
    machine, digest, text = unseal("program", store.VERSION, path.read_bytes()).split("\n", 2)
    stored = json.loads(text)
    change(stored)
    path.write_bytes(seal("program", store.VERSION, f"{machine}\n{digest}\n{json.dumps(stored)}"))


def test_a_program_comes_back_with_its_digest_and_gives_the_same_bits(program, path):
    found = load_program(path)
    assert found.digest == program.digest
    for field in dataclasses.fields(program):
        mine, other = getattr(found, field.name), getattr(program, field.name)
        if isinstance(other, np.ndarray):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)
            assert mine.flags.c_contiguous
        elif not dataclasses.is_dataclass(other):
            assert mine == other
    grid, rates = TimeGrid(0.0, 9.0, 0.5, 0.5), np.array([[0.1, 0.4, 2.0]])
    runs = [run_program(item, grid, rates, settings=RunSettings())[0].tobytes() for item in (found, program)]
    assert runs[0] == runs[1]


def test_saving_twice_gives_the_same_file(program, path, tmp_path):
    save_program(load_program(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_public_names():
    assert vf.load_program is load_program
    assert vf.save_program is save_program
    assert vf.compile_model is compile_model


def test_every_flipped_bit_is_refused(path):
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in (0x01, 0x20, 0x80) if place < 120 else (0x01,):
            damaged = bytearray(content)
            damaged[place] ^= bit
            path.write_bytes(bytes(damaged))
            with pytest.raises(ProgramError) as caught:
                load_program(path)
            assert len(str(caught.value).splitlines()) == 1


def test_every_truncation_and_any_more_is_refused(path):
    content = path.read_bytes()
    for end in [*range(0, len(content), 13), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(ProgramError):
            load_program(path)
    path.write_bytes(content + b"\n")
    with pytest.raises(ProgramError, match="damaged"):
        load_program(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is not a stored program"),
        (b"\x93NUMPY\x01\x00", "is not a stored program"),
        (b"\x80\x04\x95", "is not a stored program"),
        (seal("model", 1, "x\ny\nz"), "is not a stored program"),
        (seal("program", 1, "x\ny\nz"), "version '1'; this package reads version 2; compile the model again"),
        (seal("program", 2, "x"), "compile the model again"),
        (seal("program", 2, "x\ny\nz"), "another table of operations; compile the model again"),
        (seal("program", 2, f"{store.machine()}\ny\n{{}}"), "holds no valid program"),
    ],
)
def test_what_is_no_such_file_is_refused_by_name(tmp_path, content, match):
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ProgramError, match=match):
        load_program(tmp_path / "p")


def test_a_program_for_another_table_of_operations_is_refused(path, monkeypatch):
    monkeypatch.setattr(store, "kernel_text", lambda: "other")
    with pytest.raises(ProgramError, match="another table of operations"):
        load_program(path)


def test_a_program_that_breaks_a_rule_is_refused_under_any_seal(path):
    def jump_out_of_the_registers(stored):
        whole = stored["rows"][-1]
        whole[1 + stored["classes"][-1][1:].index("n_vectors")] = 1

    resealed(path, jump_out_of_the_registers)
    with pytest.raises(ProgramError, match="no valid program"):
        load_program(path)


def test_a_program_other_than_its_digest_says_is_refused(path):
    def rename(stored):
        whole = stored["rows"][-1]
        whole[1 + stored["classes"][-1][1:].index("saves")][0] = "other"

    resealed(path, rename)
    with pytest.raises(ProgramError, match="another program than its digest says"):
        load_program(path)


def test_every_array_of_another_shape_is_refused(path, program):
    content = path.read_bytes()
    names = [field.name for field in dataclasses.fields(program)]
    for name in [name for name in names if isinstance(getattr(program, name), np.ndarray)]:
        for shape in ([], [1, -1], [-1, 1], [1, 1, -1]):
            old = getattr(program, name)
            new = [old.size if size == -1 else size for size in shape]
            if new == list(old.shape):
                continue
            path.write_bytes(content)
            place = 1 + names.index(name)
            resealed(path, lambda stored, place=place, new=new: stored["rows"][-1][place].__setitem__(1, new))
            with pytest.raises(ProgramError):
                load_program(path)


@pytest.mark.parametrize("name", ["gone/m.program", "folder"])
def test_paths_that_cannot_be_used(program, tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProgramError, match="cannot be written"):
        save_program(program, tmp_path / name)
    with pytest.raises(ProgramError, match="cannot be read"):
        load_program(tmp_path / name)
    assert not list(tmp_path.glob("**/.*"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    assert [item.name for item in tmp_path.iterdir()] == ["f"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("text", ["", "a\n\nb", "é\U0001f600", "x" * 100_000])
def test_sealed_text_comes_back(text):
    sealed = seal("kind", 7, text)
    assert unseal("kind", 7, sealed) == text
    with pytest.raises(StoredFileError, match="version '7'; this package reads version 8"):
        unseal("kind", 8, sealed)
