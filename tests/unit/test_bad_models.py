"""Bad model files: each is refused by one clear error, and no file yields a number that its author did not write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import villageflow as vf
from villageflow.errors import DesignError, LoweringError, ModelFileError, UnsupportedError, VillageflowError

CONTROLS = """
INITIAL TIME = 0 ~ Day ~|
FINAL TIME = 2 ~ Day ~|
TIME STEP = 1 ~ Day ~|
SAVEPER = TIME STEP ~ Day ~|
"""
XMILE = """<?xml version="1.0" encoding="utf-8"?>
<xmile version="1.0" xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0">
<header><vendor>v</vendor></header>
<sim_specs method="Euler" time_units="Day"><start>0</start><stop>2</stop><dt>1</dt></sim_specs>
<model><variables>
{variables}
</variables></model></xmile>
"""


@pytest.fixture
def vensim(tmp_path):
    def write(equations: str | bytes, controls: str = CONTROLS) -> Path:
        path = tmp_path / "bad.mdl"
        path.write_bytes(
            equations if isinstance(equations, bytes) else f"{{UTF-8}}\n{equations}{controls}".encode()
        )
        return path

    return write


@pytest.fixture
def xmile(tmp_path):
    def write(variables: str | bytes, old: str = "", new: str = "", encoding: str = "utf-8") -> Path:
        path = tmp_path / "bad.xmile"
        if isinstance(variables, bytes):
            path.write_bytes(variables)
        else:
            text = XMILE.replace("{variables}", variables)
            assert old in text
            text = text.replace(old, new, 1) if old else text
            path.write_bytes(text.replace('"utf-8"', f'"{encoding}"').encode(encoding))
        return path

    return write


def aux(equation: str, name: str = "y") -> str:
    return f'<aux name="{name}"><eqn>{equation}</eqn></aux>'


def graph(inside: str) -> str:
    return f'<aux name="y"><eqn>TIME</eqn><gf>{inside}</gf></aux>'


def refused(path: Path, error: type[VillageflowError], match: str) -> None:
    """One error of the class, its message one line that names the file and holds `match`."""
    with pytest.raises(error, match=match) as caught:
        vf.read_model(path)
    message = str(caught.value)
    assert path.name in message
    assert len(message.splitlines()) == 1
    assert "object at 0x" not in message


def first_value(path: Path, name: str = "y") -> float:
    return float(vf.simulate(vf.read_model(path), save=[name], errors="flag")[name].values[0, 0])


# --------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("gone.mdl", "does not exist"),
        ("model.txt", "not a kind of model"),
        ("model", "no suffix"),
        ("folder.mdl", "folder"),
    ],
)
def test_path_that_is_no_model(tmp_path, name, match):
    (tmp_path / "folder.mdl").mkdir()
    (tmp_path / "model.txt").write_text("y = 1 ~~|")
    refused(tmp_path / name, ModelFileError, match)


def test_name_too_long_for_the_file_system(tmp_path):
    with pytest.raises(ModelFileError):
        vf.read_model(tmp_path / ("x" * 5000 + ".mdl"))


def test_unreadable_file(vensim, monkeypatch):
    path = vensim("y = 1 ~~|")

    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    refused(path, ModelFileError, "Permission denied")


@pytest.mark.parametrize("suffix", [".mdl", ".xmile", ".stmx"])
@pytest.mark.parametrize(
    "content",
    [b"", b" \n\t", bytes(range(256)), b"\x89PNG\r\n\x1a\n" + bytes(64), b"hello", b"{", b"<", b"|", b"~~|"],
)
def test_content_that_is_no_model(tmp_path, suffix, content):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    refused(path, VillageflowError, "bad")


@pytest.mark.parametrize(
    "encoding", ["klingon", "rot13", "hex", "\x00", "../os", "undefined", "idna", "punycode", "utf-16"]
)
def test_unknown_or_unfit_encoding_is_refused(vensim, encoding):
    refused(vensim(f"{{{encoding}}}\ny = 1 ~ \xe9 ~|{CONTROLS}".encode("latin-1")), ModelFileError, "bad.mdl")


def test_undecodable_byte_is_placed(vensim):
    refused(vensim(b"{UTF-8}\ny = 1 ~~|\nz = \xff ~~|"), ModelFileError, r"line 3: byte 0xff is not utf-8")


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{{UTF-8}}\ny = 4 ~~|{CONTROLS}".encode(),
        f"\ufeffy = 4 ~~|{CONTROLS}".encode(),
        f"y = 4 ~~|{CONTROLS}".encode("utf-16"),
        f"{{latin-1}}\ny = 4 ~ Stück ~|{CONTROLS}".encode("latin-1"),
        f"{{UTF-8}}\r\ny = 4 ~~|{CONTROLS}".replace("\n", "\r\n").encode(),
        f"{{UTF-8}}\ny = 4 ~~|{CONTROLS}".replace("\n", "\r").encode(),
    ],
)
def test_marks_encodings_and_line_ends_are_read(vensim, content):
    assert first_value(vensim(content)) == 4.0


def test_wide_text_without_a_mark_is_refused(vensim):
    refused(vensim(f"y = 4 ~~|{CONTROLS}".encode("utf-16-le")), ModelFileError, "null characters")


# ------------------------------------------------------------------------------------- Vensim: structure


@pytest.mark.parametrize(
    ("equations", "error", "match"),
    [
        ("y = 1 ~~|\nz = 2", ModelFileError, "line 3: cannot read the equation of 'z', '2 INITIAL TIME = 0'"),
        ("y = 1 ~~|\nz = 2 ~ unit ~ text", ModelFileError, "not closed"),
        ("y = 1 ~ unit ~ text with | a bar |", ModelFileError, "not closed"),
        ("x = 2 ~ unit |\ny = 1 ~~|", ModelFileError, "'x = 2 ~ unit |' has a unit but no text"),
        ("y = 1 ~~ text\nx = 2 ~ unit |", ModelFileError, "run together at 'text x = 2'"),
        ("y = 1 \nx = 2 ~~|", ModelFileError, "'1 x = 2'"),
        ('"y = 1 ~~|', ModelFileError, "y = 1"),
        ("y ~~|", ModelFileError, "'y'"),
        ("y = ~~|", ModelFileError, "'y'"),
        ("= 1 ~~|", ModelFileError, "= 1"),
        (":MACRO: f(a)\nf = a ~~|\n:END OF MACRO:\ny = f(1, 2) ~~|", LoweringError, "macro 'f' with 2 arguments"),
        (":MACRO: f(a)\nf = f(a) ~~|\n:END OF MACRO:\ny = f(1) ~~|", LoweringError, "which calls itself"),
        (":MACRO: f(a)\nf = a + x ~~|\n:END OF MACRO:\ny = f(1) ~~|\nx = 2 ~~|", LoweringError, r"write x\$"),
        (":MACRO: f(a)\nf = a ~~|\ny = f(1) ~~|", ModelFileError, ":END OF MACRO:"),
        (":MACRO: f(a)\nd: p, q ~~|\nf = a ~~|\n:END OF MACRO:\ny = f(1) ~~|", UnsupportedError, "range 'd'"),
        ("dim <-> other ~~|\ny = 1 ~~|", ModelFileError, "'other', which is not a range"),
        ("dim: a, b, a ~~|\ny = 1 ~~|", ModelFileError, "holds 'a' twice"),
        ("dim: a, b ~~|\ndim: c ~~|\ny = 1 ~~|", ModelFileError, "range 'dim' twice"),
        ("dim: a, sub ~~|\nsub: b, dim ~~|\ny = 1 ~~|", ModelFileError, "holds itself"),
        ("dim: a, b -> other ~~|\ny = 1 ~~|", ModelFileError, "'other', which is not a subscript range"),
        ("dim: a, b -> (o: c) ~~|\no: c, d ~~|\ny = 1 ~~|", ModelFileError, "has 2 elements and is mapped to 1"),
        ("y[a] = 1 ~~|", LoweringError, "the subscript 'a', which is not defined"),
        ("x = 1 ~~|\ny = x[a] ~~|", LoweringError, "'x' with 1 subscripts; it has 0"),
        ("d: a, b ~~|\nx[d] = 1 ~~|\ny = x ~~|", LoweringError, "array 'x' without subscripts"),
        ("d: a, b ~~|\nx[d] = 1 ~~|\ny = x[d] ~~|", LoweringError, "over 'd', which its left side does not have"),
        ("d: a, b ~~|\nx[d] = 1 ~~|\ny = x[d!] ~~|", LoweringError, "outside of a function such as SUM"),
        ("d: a, b ~~|\nx[d] = 1 ~~|\ny = SUM(x[a]) ~~|", LoweringError, "mark one with !"),
        ("d: a, b ~~|\nx[d] = 1 ~~|\ny = SUM(x[d!], x[d!]) ~~|", LoweringError, "takes 1"),
        ("d: a, b ~~|\nx[d] = 1, 2, 3 ~~|\ny = 1 ~~|", LoweringError, "3 values for 2 elements"),
        ("d: a, b ~~|\nx[d] = 1 ~~|\nx[a] = 2 ~~|\ny = 1 ~~|", LoweringError, r"'x\[a\]' a second time"),
        ("d: a, b ~~|\nx[a] = 1 ~~|\ny = x[b] ~~|", LoweringError, r"'x\[b\]', which is not defined"),
        ("d: a, b ~~|\ne: p, q ~~|\nx[a] = 1 ~~|\nx[p] = 2 ~~|\ny = 1 ~~|", LoweringError, "no one dimension holds"),
        ("d: a, b ~~|\nx[d, d] = 1 ~~|\ny = 1 ~~|", LoweringError, "one dimension twice"),
        ("d: a, b ~~|\nx[d] :EXCEPT: [a, b] = 1 ~~|\ny = 1 ~~|", LoweringError, "an exception of 2 subscripts"),
        ("y :RAW: ~~|", ModelFileError, "no data file has a series 'y'"),
        ("y ~~|", ModelFileError, "no data file has a series 'y'"),
        ("y = 1 ~ u [a,b] ~|", ModelFileError, r"'u \[a,b\]'"),
        ("y = 1 ~ u [0,1] [2,3] ~|", ModelFileError, "limits"),
        ("y = 1 ~ u 0,1] ~|", ModelFileError, "limits"),
        ("y = 1 ~ u [,] ~|", ModelFileError, "limits"),
        ("y = 1 ~ u [1] ~|", ModelFileError, "limits"),
        ("y = 1 ~~|\nY = 2 ~~|", LoweringError, "defines 'y' 2 times"),
        ('y = 1 ~~|\n"y" = 2 ~~|', LoweringError, "defines 'y' 2 times"),
        ("Time = 5 ~~|\ny = Time ~~|", LoweringError, "line 2: 'Time' is the name of the clock"),
    ],
)
def test_structure(vensim, equations, error, match):
    refused(vensim(equations), error, match)


def test_last_equation_that_is_not_closed_is_not_dropped(vensim):
    refused(vensim("y = 1 ~~|", CONTROLS + "z = 2"), ModelFileError, "not closed by .*'z = 2'")
    refused(vensim("y = 1 ~~|", CONTROLS + "z = 2 ~ unit ~ text"), ModelFileError, "not closed by .*'z = 2")


@pytest.mark.parametrize("control", ["INITIAL TIME", "FINAL TIME", "TIME STEP", "SAVEPER"])
def test_missing_control(vensim, control):
    controls = "\n".join(line for line in CONTROLS.splitlines() if not line.startswith(control))
    refused(vensim("y = 1 ~~|", controls), LoweringError, f"does not define {control}($|;)")


@pytest.mark.parametrize(
    "equation",
    ["INTEG(1, 2)", "(0,1),(1,2)"],
)
def test_control_that_is_a_stock_or_lookup(vensim, equation):
    written = f"TIME STEP({equation})" if equation[0] == "(" else f"TIME STEP = {equation}"
    refused(vensim("y = 1 ~~|", CONTROLS.replace("TIME STEP = 1", written)), LoweringError, "TIME STEP")


@pytest.mark.parametrize(
    "equation", ["Time + 1", "SMOOTH(1, 2)", "DELAY FIXED(1, 2, 1)", "y", "INTEG(1, 2) * 1"]
)
def test_control_that_changes(vensim, equation):
    refused(
        vensim("y = INTEG(1, 0) ~~|", CONTROLS.replace("TIME STEP = 1", f"TIME STEP = {equation}")),
        UnsupportedError,
        "TIME STEP",
    )


@pytest.mark.parametrize(
    ("equation", "match"),
    [
        ("0", "greater than 0"),
        ("-1", "greater than 0"),
        ("0/0", "finite"),
        ("1/0", "finite"),
        ("TIME STEP", "depends on itself"),
        ("SAVEPER", "depends on itself"),
        ("WITH LOOKUP(1, ((0,1),(2,1)))", "TIME STEP depends on"),
        ("STEP(1, 0)", "TIME STEP depends on"),
        ("1e-12", "more than"),
    ],
)
def test_control_without_a_usable_value(vensim, equation, match):
    model = vf.read_model(vensim("y = 1 ~~|", CONTROLS.replace("TIME STEP = 1", f"TIME STEP = {equation}")))
    with pytest.raises(DesignError, match=match):
        vf.simulate(model)


# ------------------------------------------------------------------------------------- Vensim: equations


@pytest.mark.parametrize(
    ("equation", "error", "match"),
    [
        ("nofun(3)", UnsupportedError, "line 3: 'y' uses the function 'nofun'"),
        ("RANDOM GAMMA(0, 9, 2, 0, 1, 0)", UnsupportedError, "random_gamma"),
        ("add(1, 2)", UnsupportedError, "function 'add'"),
        ("negative(3)", UnsupportedError, "function 'negative'"),
        ("arithmetic(x, x)", UnsupportedError, "function 'arithmetic'"),
        ("logic(x, x)", UnsupportedError, "function 'logic'"),
        ("reference(x)", UnsupportedError, "function 'reference'"),
        ("call(x, x)", UnsupportedError, "function 'call'"),
        ("data()", UnsupportedError, "data"),
        ("lookup(1, 2, 3, 4, 5)", UnsupportedError, "lookup"),
        ("x(3)", UnsupportedError, "function 'x'"),
        ("GET XLS DATA('a.xls', 'b', 'c', 'd')", ModelFileError, "'y': .*a.xls"),
        ("GET DIRECT CONSTANTS('a.csv', 'b', 'c')", ModelFileError, "'y': .*a.csv"),
        ("1 + GET DIRECT CONSTANTS('a', 'b', 'c')", UnsupportedError, "GET DIRECT CONSTANTS inside a larger"),
        ("GET TIME VALUE(2, 0, 1)", UnsupportedError, "clock of the computer"),
        ("INTEG(1, 0) * 2", UnsupportedError, "INTEG inside"),
        ("SMOOTH N(x, 2, 1, Time)", UnsupportedError, "order of SMOOTH N"),
        ("DELAY N(x, 2, 1, 1.5)", UnsupportedError, "order of DELAY N"),
        ("DELAY N(x, 2, 1, Time + SIN(1))", UnsupportedError, "order of DELAY N is"),
        ("1,2,3", LoweringError, "'y' has 3 values for 1 element"),
        ("contact rte", LoweringError, "'contact_rte', which is not defined. Did you mean 'contact_rate'"),
        ("nan", LoweringError, "'nan', which is not defined"),
        ("lk", LoweringError, "lookup 'lk' without an argument"),
        ("lk + 1", LoweringError, "lookup 'lk' without an argument"),
        ("-lk", LoweringError, "lookup 'lk' without an argument"),
        ("lk(lk)", LoweringError, "lookup 'lk' without an argument"),
        ("SMOOTH(lk, 2)", LoweringError, "lookup 'lk' without an argument"),
        ("INTEG(lk, 2)", LoweringError, "lookup 'lk' without an argument"),
        ("INTEG(1, lk)", LoweringError, "lookup 'lk' without an argument"),
        ("WITH LOOKUP(lk, ((0,0),(1,1)))", LoweringError, "lookup 'lk' without an argument"),
        ("LOOKUP FORWARD(lk, lk)", LoweringError, "lookup 'lk' without an argument"),
        ("lk(1, 2)", LoweringError, "'lk' with 2 arguments"),
        ("lk()", LoweringError, "'lk' with 0 arguments"),
        ("LOOKUP FORWARD(x, 1)", LoweringError, "first argument that is not a lookup"),
        ("STEP(1)", LoweringError, "'step' with 1 arguments; it takes 2"),
        ("MAX(1, 2, 3)", LoweringError, "'max' with 3 arguments"),
        ("IF THEN ELSE(1, 2)", LoweringError, "'if_then_else' with 2"),
        ("SMOOTH(x)", ModelFileError, "'smooth' does not take 1 arguments"),
        ("DELAY FIXED(x)", ModelFileError, "'delay_fixed' does not take 1 arguments"),
        ("INTEG(x)", ModelFileError, "'integ' does not take 1 arguments"),
        ("MAX(1 2)", ModelFileError, "not separated by commas"),
        ("MAX(1, 2,)", ModelFileError, "not separated by commas"),
        ("(x", ModelFileError, "not understood"),
        ("x)", ModelFileError, "not understood"),
        ("x :AND:", ModelFileError, "not understood"),
        ("1 < 2 < 3", ModelFileError, "not understood"),
        ("x ** 2", ModelFileError, "not understood"),
        ("x & 2", ModelFileError, "not understood"),
        ("1 2", ModelFileError, "without an operator or comma"),
        ("1e", ModelFileError, "not understood"),
        ("0x10", ModelFileError, "not understood"),
        ("1e400", ModelFileError, "too large"),
        ("'text'", ModelFileError, "not understood"),
        ("WITH LOOKUP(x, ((0,0),(1,1e999)))", ModelFileError, "not a finite number"),
        ("WITH LOOKUP(x, ((0,0) (1,1)))", ModelFileError, "list of points"),
        ("WITH LOOKUP(x, ())", ModelFileError, "not understood"),
        ("(" * 300 + "1" + ")" * 300, ModelFileError, "deeper than 200"),
    ],
)
def test_equation(vensim, equation, error, match):
    refused(vensim(f"x = 3 ~~|\ny = {equation} ~~|\nlk((0,0),(1,1)) ~~|\ncontact rate = 1 ~~|"), error, match)


def test_all_faults_of_a_pass_are_listed(vensim):
    path = vensim("y = aa ~~|\nz = bb ~~|\n")
    refused(path, LoweringError, "'aa'.*'bb'")


@pytest.mark.parametrize(
    ("equations", "match"),
    [
        (
            "y = Z ~~|\nZ = W ~~|\nW = y ~~|",
            "algebraic loop: 'y' -> 'Z' -> 'W' -> 'y'|'Z' -> 'W' -> 'y' -> 'Z'|'W' -> 'y' -> 'Z' -> 'W'",
        ),
        ("y = y + 1 ~~|", "algebraic loop: 'y' -> 'y'"),
        ("y = ACTIVE INITIAL(y + 1, 2) ~~|", "algebraic loop: 'y'"),
        ("y = INTEG(1, z) ~~|\nz = INTEG(1, y) ~~|", "loop among initial values: '[yz]' -> '[yz]' -> '[yz]'"),
        ("y = SMOOTH(y, 2) ~~|", "loop among initial values"),
        ("y = INITIAL(y) ~~|", "loop among initial values"),
    ],
)
def test_algebraic_loop_names_its_path(vensim, equations, match):
    refused(vensim(equations), LoweringError, match)


@pytest.mark.parametrize(
    "equations",
    [
        "y = INTEG(-y, 1) ~~|",
        "y = DELAY FIXED(y + 1, 1, 1) ~~|",
        "y = SMOOTHI(y, 2, 1) ~~|",
        "z = INTEG(y, 1) ~~|\ny = ACTIVE INITIAL(z, 1) ~~|",
    ],
)
def test_loop_through_memory_is_none(vensim, equations):
    assert first_value(vensim(equations)) == 1.0


# -------------------------------------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("equation", "value"),
    [
        ("-2^2", -4.0),
        ("2^-1", 0.5),
        ("-x^2", -9.0),
        ("x-2^2", -1.0),
        ("(-2)^2", 4.0),
        ("x*-2^2", -12.0),
        ("2^3^2", 512.0),
        ("-2^3^2", -512.0),
        ("x^2^0.5", 3.0**2.0**0.5),
        ("2^-2^2", 2.0**-4),
        ("- 2 ^ 2", -4.0),
        ("-(-x)^2", -9.0),
        ("x/-2^2", -0.75),
        ("MAX(\\\n\t\t-2^2, -9)", -4.0),
        ("x - -2", 5.0),
        ("--2", 2.0),
        ("+x", 3.0),
        ("2*-x", -6.0),
        ("-x*-x", 9.0),
        ("-7^2+1", -48.0),
        ("EXP(-x^2/9)", np.exp(-1.0)),
        ("1 :OR: 0 :AND: 0", 1.0),
        ("0 :AND: 0 :OR: 1", 1.0),
        ("(1 :OR: 0) :AND: 0", 0.0),
        (":NOT: 0 :AND: 0", 0.0),
        ("0 :AND: 1 :OR: 1 :AND: 1", 1.0),
        (":NOT: (1 = 2)", 1.0),
        ("(:NOT: 1) = 0", 1.0),
        ("x = 3", 1.0),
        ("MODULO(-7, 3)", -1.0),
        ("INTEGER(-2.7)", -2.0),
        ("XIDZ(1, 1e-7, 9)", 9.0),
        ("ZIDZ(1, 0)", 0.0),
        ("POWER(x, 2)", 9.0),
        ("LOG(8, 2)", 3.0),
        ("SQRT(9)", 3.0),
        (".5e1", 5.0),
        ("1.", 1.0),
        ("WITH LOOKUP(x, ([(0,0)-(1,1)],(0,0),(6,1)))", 0.5),
        ("IF THEN ELSE(x > 2, -2^2, 0/0)", -4.0),
        ("pi0 :OR: 0", 1.0),
    ],
)
def test_value_of_an_equation(vensim, equation, value):
    path = vensim(f"x = 3 ~~|\npi0 = 7 ~~|\ny = {equation} ~~|")
    assert first_value(path) == pytest.approx(value, rel=4e-16, abs=0)


def test_same_power_groups_alike_after_a_sign(vensim):
    assert first_value(vensim("a = 1.1 ~~|\nb = 1.2 ~~|\nc = 1.3 ~~|\ny = -a^b^c + a^b^c ~~|")) == 0.0


@pytest.mark.parametrize(
    ("equation", "value"),
    [
        ("-2^2", -4.0),
        ("2^3^2", 512.0),
        ("IF 1 &lt; 2 THEN -2^2 ELSE 0", -4.0),
        ("1 OR 0 AND 0", 1.0),
        ("notch", 2.0),
        ("not_in", 5.0),
        ("NOT ch", 0.0),
        ("not(ch = 6)", 0.0),
        ("10<!-- was 3 --> + 5", 15.0),
        ("1<!-- -->0", 10.0),
        ("1<?pi x?>0", 10.0),
        ("<![CDATA[1 < 2]]>", 1.0),
        ("7 mod 4", 3.0),
        ("1 +\n2", 3.0),
        ("ch-2^2", 2.0),
        ("SAFEDIV(1, 0)", 0.0),
        ("IFR", 8.0),
        ("1 AND -2^2 = -4", 1.0),
        ("DT", 1.0),
        ("INT(2.7)", 2.0),
        ("PI", np.pi),
    ],
)
def test_value_of_an_xmile_equation(xmile, equation, value):
    others = aux("6", "ch") + aux("1", "in") + aux("2", "notch") + aux("5", "not_in") + aux("8", "IFR")
    assert first_value(xmile(others + aux(equation))) == value


def test_long_sum_is_read_and_run(vensim):
    assert first_value(vensim("a = 1 ~~|\ny = ZIDZ(a, 2)" + " + a" * 4000 + " ~~|")) == 4000.5


def test_bracketed_nesting_below_the_limit_is_read(vensim):
    assert first_value(vensim("y = " + "MAX(1, " * 190 + "2" + ")" * 190 + " ~~|")) == 2.0


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ('"net | flow ~ (m3)"', '"Net | Flow ~ (m3)"'),
        ('"a \\"b\\""', '"a \\"b\\""'),
        ("变量", "变量"),
        ("é", "É"),
        ("price $", "PRICE  $"),
        ("men's work", "men's_work"),
        ('"x (-2^3)"', '"x (-2^3)"'),
    ],
)
def test_names_with_quotes_and_letters_of_any_script(vensim, name, use):
    model = vf.read_model(vensim(f"{name} = 4 ~~|\ny = {use} + 1 ~~|"))
    assert vf.simulate(model)["y"].values[0, 0] == 5.0
    assert name.strip('"') in {variable.name for variable in model.variables.values()}


def test_quoted_name_like_an_inner_one_stays_apart(vensim):
    path = vensim(
        'x = 3 ~~|\n"#y 1 smooth_1" = 7 ~~|\n"#y.1.smooth_1" = 7 ~~|\ny = SMOOTH(x, 2) + "#y 1 smooth_1" ~~|'
    )
    assert first_value(path) == 10.0


def test_sketch_and_groups_are_no_equations(vensim):
    text = "y = 4 ~~|\n****\n .Group\n****~\n\t\tText\n\t|\n" + CONTROLS + "\\\\\\---/// Sketch\nz = 1 |||~"
    assert set(vf.read_model(vensim(text, "")).variables) == {
        "y",
        "initial_time",
        "final_time",
        "time_step",
        "saveper",
    }


def test_supplementary_flag_and_increment_of_limits_are_read(vensim):
    model = vf.read_model(vensim("y = 4 ~ u [0, ?, 1] ~ text ~ :SUPPLEMENTARY |"))
    assert model.variables["y"].limits == (0.0, None)
    assert model.variables["y"].units == "u"


# ---------------------------------------------------------------------------------------------- XMILE


@pytest.mark.parametrize(
    ("variables", "error", "match"),
    [
        (aux(""), ModelFileError, "line 6: <eqn> is empty"),
        (aux("1<b/>+2"), ModelFileError, "<eqn> holds other elements"),
        (aux("1") + aux("2"), LoweringError, "defines 'y' 2 times"),
        ('<aux name="y"/>', ModelFileError, "'y' has 0 equations"),
        ('<aux name="y"><eqn>1</eqn><eqn>2</eqn></aux>', ModelFileError, "'y' has 2 equations"),
        ("<aux><eqn>1</eqn></aux>", ModelFileError, "line 6: a variable has no name"),
        ('<aux name=" "><eqn>1</eqn></aux>', ModelFileError, "no name"),
        (aux("1", "Time"), LoweringError, "name of the clock"),
        (aux("zz"), LoweringError, "line 6: 'y' refers to 'zz'"),
        (aux("???"), ModelFileError, "not understood"),
        (aux("7 mod 4 * 2"), ModelFileError, "mod stands beside"),
        (aux("2 * 7 mod 4"), ModelFileError, "mod stands beside"),
        (aux("not 1 = 2"), ModelFileError, "NOT stands before a comparison"),
        (aux("MAX(1 2)"), ModelFileError, "commas"),
        (aux("negative(3)"), UnsupportedError, "'negative'"),
        (aux("stock(1, 2, 3)"), UnsupportedError, "'stock'"),
        (aux("inline_lookup(1, 2)"), UnsupportedError, "'inline_lookup'"),
        (aux("SMTH1(1)"), ModelFileError, "'smth1' does not take 1 arguments"),
        (aux("LOOKUP(TIME, 2)"), LoweringError, "first argument that is not a lookup"),
        ('<stock name="y"><eqn>1</eqn><inflow>zz</inflow></stock>', LoweringError, "'zz'"),
        ('<stock name="y"><eqn>1</eqn><inflow/></stock>', ModelFileError, "<inflow> is empty"),
        ('<stock name="y"><inflow>a</inflow></stock>' + aux("1", "a"), ModelFileError, "0 equations"),
        ('<module name="m"/>', UnsupportedError, "modules"),
        (
            '<stock name="y"><eqn>1</eqn><conveyor><len>1</len></conveyor></stock>',
            UnsupportedError,
            "conveyors",
        ),
        (
            '<aux name="y"><dimensions><dim name="d"/></dimensions><eqn>1</eqn></aux>',
            LoweringError,
            "the subscript 'd', which is not defined",
        ),
        ('<aux name="y"><range min="a" max="2"/><eqn>1</eqn></aux>', ModelFileError, "'a'"),
        (graph("<xscale min='0' max='2'/><ypts>1,2,abc</ypts>"), ModelFileError, "needs numbers"),
        (graph("<xscale min='0' max='2'/><ypts>1,,3</ypts>"), ModelFileError, "needs numbers"),
        (graph("<xscale min='a' max='2'/><ypts>1,2,3</ypts>"), ModelFileError, "needs numbers"),
        (graph("<xscale min='0'/><ypts>1,2,3</ypts>"), ModelFileError, "needs numbers"),
        (graph("<xscale min='2' max='0'/><ypts>1,2,3</ypts>"), ModelFileError, "do not increase"),
        (graph("<xscale min='nan' max='2'/><ypts>1,2,3</ypts>"), ModelFileError, "do not increase"),
        (graph("<xpts>0,1,2</xpts><ypts>1,2,3,4</ypts>"), ModelFileError, "3 x values and 4 y values"),
        (graph("<xpts>0,1,2</xpts><ypts>1,2</ypts>"), ModelFileError, "3 x values and 2 y values"),
        (graph("<xpts>0,2,1</xpts><ypts>1,2,3</ypts>"), ModelFileError, "do not increase"),
        (graph("<ypts>1,2,3</ypts>"), ModelFileError, "needs numbers"),
        (graph("<xscale min='0' max='2'/>"), ModelFileError, "needs numbers"),
        (graph("<xscale min='0' max='2'/><ypts>1,nan,3</ypts>"), ModelFileError, "not a finite number"),
        (
            graph("<xscale min='0' max='2'/><ypts>1,2</ypts>").replace("<gf>", "<gf type='odd'>"),
            ModelFileError,
            "'odd'",
        ),
    ],
)
def test_xmile_variable(xmile, variables, error, match):
    refused(xmile(variables), error, match)


@pytest.mark.parametrize(
    ("old", "new", "error", "match"),
    [
        ("<start>0</start>", "", ModelFileError, "no <start>"),
        ("<dt>1</dt>", "<dt/>", ModelFileError, "<dt> is empty"),
        ("<stop>2</stop>", "<stop>zz</stop>", LoweringError, "'zz'"),
        ("sim_specs", "specs", ModelFileError, "malformed"),
        ("</model>", "</model><model/>", UnsupportedError, "2 models"),
        ("<model>", "<dimensions><dim name='d'/></dimensions><model>", ModelFileError, "'d' has no elements"),
        ("<model>", "<dimensions><dim><elem name='a'/></dim></dimensions><model>", ModelFileError, "has no name"),
        ("<model>", "<dimensions><dim name='d'><elem/></dim></dimensions><model>", ModelFileError, "has no name"),
        ("<model>", "<macro name='m'/><model>", ModelFileError, "a macro needs a name and an <eqn>"),
        ("<model>", "<model><foo:bar/>", ModelFileError, "malformed XML"),
        ("</model>", "", ModelFileError, "malformed XML"),
        ("</variables></model></xmile>", "", ModelFileError, "malformed XML"),
        (' xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0"', "", ModelFileError, "not an XMILE model"),
        ('"utf-8"', '"klingon"', ModelFileError, "malformed XML"),
        ('"utf-8"?>', '"utf-8"?><!DOCTYPE xmile>', ModelFileError, "document type"),
        (
            '"utf-8"?>',
            '"utf-8"?><!DOCTYPE xmile SYSTEM "file:///etc/hostname">',
            ModelFileError,
            "document type",
        ),
    ],
)
def test_xmile_document(xmile, old, new, error, match):
    refused(xmile('<stock name="y"><eqn>1</eqn></stock>', old, new), error, match)


def test_xmile_without_sim_specs(xmile):
    path = xmile(aux("1"))
    path.write_text(path.read_text().replace("sim_specs", "specs"))
    refused(path, ModelFileError, "no sim_specs")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "entities",
    [
        '<!ENTITY x "0">',
        '<!ENTITY x SYSTEM "file:///etc/hostname">',
        '<!ENTITY a "ha"><!ENTITY x "&a;&a;&a;&a;">',
    ],
)
def test_entities_are_refused_in_every_encoding(xmile, encoding, entities):
    path = xmile(aux("1&x;2"), '"utf-8"?>', f'"utf-8"?><!DOCTYPE xmile [{entities}]>', encoding)
    refused(path, ModelFileError, "document type or entities")


def test_rk2_is_refused_when_run(xmile):
    model = vf.read_model(xmile(aux("1"), 'method="Euler"', 'method="rk2"'))
    with pytest.raises(DesignError, match="'rk2', which is not supported"):
        vf.simulate(model)
    assert vf.simulate(model, method="euler").attrs["method"] == "euler"


def test_prefix_that_is_not_declared_is_read(xmile):
    assert first_value(xmile(aux("4"), "<model>", "<model><isee:thing isee:a='1'/>")) == 4.0


def test_variables_straight_under_the_model_are_read(xmile):
    path = xmile(aux("4"))
    path.write_text(path.read_text().replace("<variables>", "").replace("</variables>", ""))
    assert first_value(path) == 4.0


def test_points_of_a_graph_win_over_its_scale(xmile):
    path = xmile(
        '<aux name="y"><eqn>5</eqn><gf><xscale min="0" max="0"/><xpts>0,10</xpts><ypts>0,1</ypts></gf></aux>'
    )
    assert first_value(path) == 0.5


def test_range_with_one_end_is_a_limit(xmile):
    path = xmile('<aux name="y"><range min="1"/><eqn>4</eqn></aux>')
    with pytest.raises(DesignError, match=r"outside the limits \[1, inf\]"):
        vf.simulate(vf.read_model(path), {"y": 0.5})


# -------------------------------------------------------------------------------------------- hostile

PAYLOADS = [
    "__import__('os').system('touch PWNED')",
    "open('PWNED', 'w')",
    "[open('PWNED','w') for _ in [1]]",
]


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    "equations",
    [
        "x = WITH LOOKUP(Time, ([{}],(0,0),(1,1))) ~~|",
        "x = WITH LOOKUP(Time, ([(0,0)-(1,1)],({},0),(1,1))) ~~|",
        "x([{}],(0,0),(1,1)) ~~|",
        "x = {} ~~|",
        "x = 1 ~ {} ~ {} |",
        '"{}" = 1 ~~|\nx = "{}" ~~|',
        "x = GET XLS DATA('{}', 'a', 'b', 'c') ~~|",
        "x = 1 ~ unit [{}, 1] ~|",
        "x = 1 ~~ {}) \n'''\n{}\n |",
    ],
)
def test_no_text_of_a_vensim_file_is_executed(vensim, tmp_path, monkeypatch, payload, equations):
    monkeypatch.chdir(tmp_path)
    path = vensim(equations.replace("{}", payload))
    try:
        vf.simulate(vf.read_model(path))
    except VillageflowError as error:
        assert len(str(error).splitlines()) == 1
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    "variables",
    [
        '<aux name="y"><eqn>{}</eqn></aux>',
        '<aux name="{}"><eqn>1</eqn></aux>',
        '<aux name="y"><doc>{}</doc><eqn>1</eqn></aux>',
        '<aux name="y"><eqn>1</eqn><gf><xscale min="0" max="1"/><ypts>{},1</ypts></gf></aux>',
    ],
)
def test_no_text_of_an_xmile_file_is_executed(xmile, tmp_path, monkeypatch, payload, variables):
    monkeypatch.chdir(tmp_path)
    path = xmile(variables.replace("{}", payload))
    try:
        vf.simulate(vf.read_model(path))
    except VillageflowError as error:
        assert len(str(error).splitlines()) == 1
    assert not (tmp_path / "PWNED").exists()


def test_reading_leaves_the_recursion_limit_alone(vensim):
    before = sys.getrecursionlimit()
    vf.read_model(vensim("y = 1 ~~|"))
    with pytest.raises(VillageflowError):
        vf.read_model(vensim("y = ( ~~|"))
    assert sys.getrecursionlimit() == before


# ---------------------------------------------------------------------------------------------- fuzz

SEEDS = {
    ".mdl": (
        "{UTF-8}\nstock = INTEG(in - out, 5) ~ Box [0,?] ~ text |\nin = lk(Time) * -2^2 ~ Box/Day ~|\n"
        "out = SMOOTH3(stock / 3, 2) ~~|\nlk([(0,0)-(9,9)],(0,1),(2,3)) ~~|\n"
        'hold = IF THEN ELSE(stock > 2 :AND: :NOT: (in < 0), DELAY FIXED(in, 1, 0), "a b") ~~|\n"a b" = 1e-3 ~~|\n'
        + CONTROLS
    ).encode(),
    ".xmile": XMILE.replace(
        "{variables}",
        '<stock name="s"><eqn>5</eqn><inflow>f</inflow><outflow>o</outflow></stock>'
        '<flow name="f"><eqn>SMTH1(s,2) mod 3</eqn></flow>'
        '<flow name="o"><eqn>IF s &gt; 1 THEN 0.1 * s ELSE g</eqn></flow><aux name="g"><eqn>TIME</eqn>'
        '<gf><xscale min="0" max="2"/><ypts>1,2,3</ypts></gf></aux>',
    ).encode(),
}
PIECES = [
    b"~",
    b"|",
    b"(",
    b")",
    b"[",
    b"]",
    b",",
    b'"',
    b"'",
    b"\\",
    b"^",
    b"-",
    b":NOT:",
    b":AND:",
    b"<",
    b">",
    b"&",
    b"{",
    b"}",
    b"\x00",
    b"\xff",
    b"1e999",
    b"nan",
    b"INTEG(",
    b"<!--",
    b"-->",
    b"</eqn>",
    b"<eqn>",
    b"INITIAL(",
    b"Time",
    b"stock",
    b"lk",
    b"\n",
    b" mod ",
    b"not ",
    b":MACRO:",
    b"\\\\\\---///",
    b"{UTF-8}",
]


@pytest.mark.parametrize("suffix", sorted(SEEDS))
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_only_our_errors_escape_from_damaged_files(tmp_path, suffix, data):
    content = bytearray(SEEDS[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        drop = data.draw(st.integers(0, 12))
        content[at : at + drop] = data.draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)))
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(bytes(content))
    try:
        ds = vf.simulate(vf.read_model(path), errors="flag", final_time=2, time_step=1, save_every=1)
    except VillageflowError as error:
        assert len(str(error).splitlines()) == 1
        assert os.fspath(path.parent) not in str(error) or path.name in str(error)
    else:
        assert ds.sizes["member"] == 1


@pytest.mark.parametrize("suffix", sorted(SEEDS))
def test_every_truncation_of_a_file_is_refused_or_run(tmp_path, suffix):
    path = tmp_path / f"short{suffix}"
    for end in range(0, len(SEEDS[suffix]), 7):
        path.write_bytes(SEEDS[suffix][:end])
        try:
            vf.simulate(vf.read_model(path), errors="flag")
        except VillageflowError as error:
            assert len(str(error).splitlines()) == 1
        else:  # only the last blank may be missing
            assert SEEDS[suffix][end:].strip() == b""
