"""Functions that XMILE and Vensim share by name but not wholly by meaning; pysimlin is the second opinion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simlin

import villageflow as vf
from villageflow.errors import UnsupportedError

XMILE = """<?xml version="1.0" encoding="utf-8"?>
<xmile version="1.0" xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0">
<header><name>m</name><vendor>v</vendor><product version="1.0">p</product></header>
<sim_specs><start>0</start><stop>6</stop><dt>1</dt>{specs}</sim_specs>
<model><variables>{variables}</variables></model></xmile>
"""


def write(folder: Path, *equations: str, specs: str = "") -> Path:
    variables = "".join(f'<aux name="v{i}"><eqn>{text}</eqn></aux>' for i, text in enumerate(equations))
    path = folder / "m.xmile"
    path.write_text(XMILE.format(variables=variables, specs=specs))
    return path


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("INT(3.5)", 3.0), ("5 mod 3", 2.0), ("(-6) mod 3", 0.0),
        ("SAFEDIV(1, 0)", 0.0), ("SAFEDIV(1, 0, 7)", 7.0), ("SAFEDIV(1, 1e-7)", 1e7), ("SAFEDIV(1, 4, 7)", 0.25),
    ],
)
def test_meaning(tmp_path: Path, equation: str, expected: float) -> None:
    path = write(tmp_path, equation)
    assert vf.simulate(vf.read_model(path))["v0"].values[0, 0] == pytest.approx(expected, rel=1e-15)
    assert simlin.load(path).run().results["v0"].iloc[0] == pytest.approx(expected, rel=1e-12)


def test_a_pulse_with_interval_0_comes_once(tmp_path: Path) -> None:
    found = vf.simulate(vf.read_model(write(tmp_path, "PULSE(10, 1, 0)", "PULSE(10, 1, 2)")))
    np.testing.assert_array_equal(found["v0"][0], [0, 10, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found["v1"][0], [0, 10, 0, 10, 0, 10, 0])


def test_vensim_keeps_its_own_meaning(tmp_path: Path) -> None:
    path = tmp_path / "m.mdl"
    path.write_text(
        "a = INTEGER(-3.5) ~~|\nb = MODULO(-5, 3) ~~|\nc = ZIDZ(1, 1e-7) ~~|\n"
        "INITIAL TIME = 0 ~~|\nFINAL TIME = 1 ~~|\nTIME STEP = 1 ~~|\nSAVEPER = 1 ~~|\n"
    )
    found = vf.simulate(vf.read_model(path)).isel(member=0, time=0)
    assert [float(found[name]) for name in "abc"] == [-3.0, -2.0, 0.0]


def test_what_would_be_dropped_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="savestep"):
        vf.read_model(write(tmp_path, "1", specs="<savestep>2</savestep>"))
    path = tmp_path / "init.xmile"
    path.write_text(XMILE.format(
        variables='<aux name="v0"><eqn>TIME</eqn><init_eqn>7</init_eqn></aux>', specs=""
    ))
    with pytest.raises(UnsupportedError, match="'v0' has an <init_eqn>"):
        vf.read_model(path)
