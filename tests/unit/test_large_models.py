"""Files made to be slow: each is read, or refused, in seconds; time grows with size, not with its square."""

from __future__ import annotations

import time

import pytest

import villageflow as vf
from villageflow.errors import ModelFileError, UnsupportedError, VillageflowError
from villageflow.program.emit import compile_model

CONTROLS = """
INITIAL TIME = 0 ~ ~|
FINAL TIME = 2 ~ ~|
TIME STEP = 1 ~ ~|
SAVEPER = 1 ~ ~|
"""
SIZE = 64_000


def many(text: str) -> str:
    return text * (SIZE // len(text))


def numbered(template: str, count: int) -> str:
    return "".join(template.format(i=i, next=i + 1) for i in range(count))


# fmt: off
SLOW = {
    "terms": "y = " + many("1 + ") + "1 ~~|",
    "undefined terms": "y = " + many("x + ") + "1 ~~|",
    "powers": "y = " + many("2^") + "1 ~~|",
    "signs": "y = " + many("-") + "1 ~~|",
    "conditions": "y = " + many("1 :AND: ") + "1 ~~|",
    "brackets": "y = " + many("(" * 190 + "1" + ")" * 190 + "+") + "1 ~~|",
    "arguments": "y = MAX(" + many("1,") + "1) ~~|",
    "subscripts": "y = x[" + many("a,") + "a] ~~|",
    "quotes": many('\\"~'),
    "quoted names": many('"a" '),
    "blanks": "y = " + many(" ") + "1 ~~|",
    "line ends": many("\n") + "y = 1 ~~|",
    "comments": many("{a}") + "y = 1 ~~|",
    "a comment": "y = 1 ~~ " + many("words ") + "|",
    "units": "y = 1 ~ " + many("[0, ") + "~|",
    "digits": "y = " + many("9") + " ~~|",
    "points": "y(" + many("(1,1),") + "(1,1)) ~~|",
    "macros": numbered(":MACRO: f{i}(a)\nf{i} = a ~~|\n:END OF MACRO:\n", 1200) + "y = 1 ~~|",
    "equations": numbered("a{i} = 1 ~~|", 5000),
    "chain": numbered("a{i} = a{next} ~~|", 3500) + "a3500 = 1 ~~|",
    "initial values": numbered("a{i} = INTEG(1, a{next}) ~~|", 2500) + "a2500 = 1 ~~|",
    "undefined names": numbered("a{i} = b{i} ~~|", 4000),
    "smooths of smooths": "y = " + "SMOOTH3(" * 190 + "Time" + ", 2)" * 190 + " ~~|",
    "delays of delays": "y = " + "DELAY3(" * 190 + "Time" + ", 2)" * 190 + " ~~|",
    "forecasts of forecasts": "y = " + "FORECAST(" * 60 + "Time" + ", 2, 1)" * 60 + " ~~|",
}
# fmt: on


@pytest.mark.parametrize("name", SLOW)
def test_no_file_of_64_kb_takes_long(tmp_path, name):
    path = tmp_path / "slow.mdl"
    path.write_text("{UTF-8}\n" + SLOW[name] + CONTROLS)
    begun = time.process_time()
    try:
        model = vf.read_model(path)
        compile_model(model, saves=["y"] if "y" in model.variables and name != "points" else [])
    except VillageflowError as error:
        assert len(str(error).splitlines()) == 1
    assert time.process_time() - begun < 20  # 3 at most on a machine that does nothing else


def test_a_row_of_powers_is_refused_by_name(tmp_path):
    path = tmp_path / "m.mdl"
    path.write_text("y = " + "1^" * 199 + "1 ~~|" + CONTROLS)
    vf.read_model(path)
    path.write_text("y = " + "1^" * 200 + "1 ~~|" + CONTROLS)
    with pytest.raises(ModelFileError, match=r"'y'.*more than 200 powers in a row; simplify"):
        vf.read_model(path)


def test_a_smooth_that_starts_at_its_input_is_written_without_it(tmp_path):
    path = tmp_path / "m.mdl"
    path.write_text("x = 3 ~~|\na = SMOOTH(x, 2) ~~|\nb = SMOOTHI(x, 2, 4) ~~|\nc = DELAY3(x, 2) ~~|" + CONTROLS)
    found = {name: variable.equation for name, variable in vf.read_model(path).variables.items()}
    assert [found[name] for name in "abc"] == ["smooth(x, 2.0, 1.0)", "smooth(x, 2.0, 4.0, 1.0)", "delay(x, 2.0, 3.0)"]


def test_a_smooth_of_a_smooth_has_one_stock_for_each(tmp_path):
    """The inner smooth is input and initial value of the outer one, and still one smooth."""
    path = tmp_path / "m.mdl"
    path.write_text("y = SMOOTH(SMOOTH(SMOOTH(Time + 3, 2), 4), 5) ~~|" + CONTROLS)
    model = vf.read_model(path)
    assert len(model.stocks) == 3
    assert float(vf.simulate(model, save=["y"])["y"][0, 0]) == 3.0


def test_lines_are_told_whatever_stands_between(tmp_path):
    path = tmp_path / "m.mdl"
    path.write_text(
        '{UTF-8}\nx = 1 ~~ about y\\\n\t= 2 |\n\n"q\\"|" = 2 ~~|\ny\n  = bb + \\\n\t x ~~|\n'
        ":MACRO: f(a)\nf = a ~~|\n:END OF MACRO:\n\nz z  = f(1) + dd ~~|" + CONTROLS
    )
    with pytest.raises(VillageflowError) as caught:
        vf.read_model(path)
    assert "line 6: 'y' refers to 'bb'" in str(caught.value)
    assert "line 13: 'z z' refers to 'dd'" in str(caught.value)


XMILE = """<?xml version="1.0" encoding="utf-8"?>
<xmile version="1.0" xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0"><header><vendor>v</vendor></header>
<sim_specs><start>0</start><stop>2</stop><dt>1</dt></sim_specs>
<dimensions>{dimensions}</dimensions><model><variables>{variables}</variables></model>{rest}</xmile>
"""


def of_elements(count: int) -> str:
    named = "".join(f'<elem name="e{i}"/>' for i in range(count))
    parts = "".join(f'<element subscript="e{i}"><eqn>TIME * {i}</eqn></element>' for i in range(count))
    return XMILE.format(
        dimensions=f'<dim name="d">{named}</dim>', rest="",
        variables=f'<aux name="y"><dimensions><dim name="d"/></dimensions>{parts}</aux>',
    )


def of_dimensions(count: int) -> str:
    return XMILE.format(
        dimensions="".join(f'<dim name="d{i}"><elem name="a{i}"/></dim>' for i in range(count)), rest="",
        variables="".join(
            f'<aux name="y{i}"><dimensions><dim name="d{i}"/></dimensions><eqn>TIME</eqn></aux>' for i in range(count)
        ),
    )


def of_macros(count: int) -> str:
    return XMILE.format(
        dimensions="", variables="".join(f'<aux name="y{i}"><eqn>f {i}(TIME)</eqn></aux>' for i in range(count)),
        rest="".join(f'<macro name="f {i}"><parm>p</parm><eqn>p</eqn></macro>' for i in range(count)),
    )


def vensim(equations: str) -> str:
    return "{UTF-8}\n" + equations + CONTROLS


# fmt: off
GROWING = {
    "equations of elements in XMILE": (1000, of_elements),
    "dimensions in XMILE": (1200, of_dimensions),
    "macros in XMILE": (800, of_macros),
    "equations of elements": (4000, lambda n: vensim(f"D: (A1-A{n}) ~~|" + numbered("x[A{next}] = Time ~~|", n))),
    "exceptions": (1000, lambda n: vensim(
        f"D: (A1-A{n}) ~~|\nx[D] :EXCEPT: {','.join(f'[A{i}]' for i in range(1, n))} = Time ~~|\n"
    )),
    "dimensions": (2500, lambda n: vensim(numbered("S{i}: A{i}, B{i} ~~|\nx{i}[S{i}] = Time ~~|\n", n))),
    "mappings": (6000, lambda n: vensim(
        f"D: (A1-A{n}) ~~|\nE: (B1-B{n}) -> D ~~|\nx[E] = Time ~~|\ny[D] = x[E] ~~|\n"
    )),
    "terms": (8000, lambda n: vensim("y = " + numbered("Time + ", n) + "1 ~~|\n")),
}
# fmt: on


@pytest.mark.parametrize("name", GROWING)
def test_four_times_the_model_takes_four_times_as_long(tmp_path, name):
    size, write = GROWING[name]
    taken = []
    for count in (size, 4 * size):
        path = tmp_path / ("m.xmile" if "XMILE" in name else "m.mdl")
        path.write_text(write(count))
        begun = time.process_time()
        vf.read_model(path)
        taken.append(time.process_time() - begun)
    assert taken[1] < 8 * taken[0] + 0.3, taken


def test_what_an_element_map_is_written_out_to_is_bounded(tmp_path):
    path = tmp_path / "m.mdl"
    path.write_text(vensim("D: (A1-A400) ~~|\nx[D] = Time ~~|\ny[D] = VECTOR ELM MAP(x[A1], D - 1) ~~|\n"))
    with pytest.raises(UnsupportedError, match="'vector_elm_map'; make its dimensions smaller"):
        vf.read_model(path)


def test_quotes_that_never_close_are_refused_in_time(tmp_path):
    path = tmp_path / "m.xmile"
    equation = '\\"' * 60_000
    path.write_text(XMILE.format(
        dimensions="", rest="", variables=f'<aux name="y"><eqn>{equation}</eqn></aux>'
    ))
    begun = time.process_time()
    with pytest.raises(ModelFileError, match="'y'"):
        vf.read_model(path)
    assert time.process_time() - begun < 5
