"""Every model of the corpus, kept and found again, is the same model and compiles to the same program."""

from __future__ import annotations

from pathlib import Path

import pytest

from villageflow import cache
from villageflow.cache import Entry
from villageflow.errors import VillageflowError
from villageflow.ir.model import Kind
from villageflow.library import read_model
from villageflow.program.emit import compile_model
from villageflow.program.store import load_program, save_program

CORPUS = Path(__file__).parents[2].parent / "shared" / "conformance" / "test-models"
FILES = sorted(path for path in CORPUS.rglob("*") if path.suffix.lower() in (".mdl", ".xmile", ".stmx"))

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(not FILES, reason=f"the model corpus is not beside the project, at {CORPUS}"),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORPUS).as_posix())
def test_kept_and_saved_models_are_the_same(path, tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    try:
        model = read_model(path)
    except VillageflowError:
        assert not list(tmp_path.iterdir())  # what is refused is not kept
        return
    found = Entry(path).find()
    assert found is not None
    assert found is not model
    saves = tuple(name for name, item in model.variables.items() if item.kind in (Kind.STOCK, Kind.AUXILIARY))
    varied = tuple(name for name in model.constants if name not in model.structural)
    program = compile_model(model, varied=varied, saves=saves)
    assert compile_model(found, varied=varied, saves=saves).digest == program.digest
    assert list(found.variables.items()) == list(model.variables.items())
    save_program(program, tmp_path / "program")
    assert load_program(tmp_path / "program").digest == program.digest
