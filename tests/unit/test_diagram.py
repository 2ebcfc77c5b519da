"""Diagrams: stocks, flows and links of the equations, in any kind of file."""

from __future__ import annotations

import pytest

import villageflow as vf
from villageflow.errors import ReportError

TEXT = """{UTF-8}
kind: small, large
	~~|
stores[kind] = INTEG(openings[kind] - closures[kind] + 1, 2) ~ store ~ Stores. ~|
openings[kind] = imitation * stores[kind] ~ store/Year ~ New stores. ~|
closures[kind] = hazard * stores[kind] ~ store/Year ~ Closed stores. ~|
"<b>all" = SUM(stores[kind!]) ~ store ~ A name that is no markup. ~|
imitation = 0.8 ~ 1/Year ~ Imitation. ~|
hazard = 0.1 ~ 1/Year ~ Hazard. ~|
INITIAL TIME = 0 ~ Year ~ ~|
FINAL TIME = 8 ~ Year ~ ~|
TIME STEP = 0.125 ~ Year ~ ~|
SAVEPER = 1 ~ Year ~ ~|
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "stores.mdl"
    path.write_text(TEXT, encoding="utf-8")
    return vf.read_model(path)


def drawn(model, tmp_path, **options):
    from pygraphviz import AGraph

    path = tmp_path / "out.dot"
    vf.diagram(model, path, **options)
    return AGraph(path.read_text(encoding="utf-8"))


def test_stocks_are_boxes_flows_hexagons_and_pipes_have_a_direction(model, tmp_path):
    graph = drawn(model, tmp_path)
    assert graph.get_node("stores[small]").attr["shape"] == "box"
    assert graph.get_node("openings[small]").attr["shape"] == "hexagon"
    assert graph.get_edge("openings[small]", "stores[small]").attr["penwidth"] == "2.4"
    assert graph.get_edge("stores[small]", "closures[small]").attr["penwidth"] == "2.4"
    assert graph.has_edge("stores[small]", "openings[small]")
    assert graph.has_edge("cloud of openings[small]", "openings[small]")
    assert graph.has_edge("closures[small]", "cloud of closures[small]")
    assert not graph.has_node("imitation")


def test_variables_may_be_chosen_and_an_array_stands_for_its_elements(model, tmp_path):
    graph = drawn(model, tmp_path, variables=["Stores", "openings[large]"], constants=True)
    real = {node for node in graph.nodes() if not node.startswith("cloud")}
    assert real == {"stores[small]", "stores[large]", "openings[large]", "imitation"}


def test_a_name_is_text_not_markup(model, tmp_path):
    vf.diagram(model, tmp_path / "out.dot")
    assert 'label=" <b>all"' in (tmp_path / "out.dot").read_text(encoding="utf-8")


@pytest.mark.parametrize(("suffix", "starts"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")])
def test_kinds_of_files(suffix, starts, model, tmp_path):
    path = tmp_path / f"out{suffix}"
    vf.diagram(model, path)
    assert path.read_bytes().startswith(starts)


def test_mistakes_are_refused_by_name(model, tmp_path):
    with pytest.raises(ReportError, match="no variable 'openning'"):
        vf.diagram(model, tmp_path / "out.svg", variables=["openning"])
    with pytest.raises(ReportError, match=r"out\.jpg is no kind of drawing"):
        vf.diagram(model, tmp_path / "out.jpg")


def named(tmp_path, name):
    path = tmp_path / "named.mdl"
    path.write_text(TEXT.replace('"<b>all"', f'"{name}"'), encoding="utf-8")
    return vf.read_model(path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a &lt; b &#60;", ["a &lt; b &#60;"]),
        (r"a \"shop\" here", ['a "shop" here']),
        ("数" * 70, ["数" * 32, "数" * 32, "数" * 6]),
        ("[shape=box]; a -> b", ["[shape=box]; a ->", "b"]),
    ],
)
def test_a_drawing_shows_a_name_as_it_is(name, shown, tmp_path):
    from xml.etree import ElementTree

    vf.diagram(named(tmp_path, name), tmp_path / "out.svg")
    texts = [text.text for text in ElementTree.parse(tmp_path / "out.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "|".join(shown) in "|".join(texts)


def test_a_name_with_a_control_character_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"has the character '\\x07', which no drawing can hold; rename it"):
        vf.diagram(named(tmp_path, "a\x07b"), tmp_path / "out.svg")


def test_the_kind_of_a_file_may_be_in_capitals(model, tmp_path):
    vf.diagram(model, tmp_path / "out.PNG")
    assert (tmp_path / "out.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_place_that_cannot_be_written_and_an_empty_drawing_are_refused(model, tmp_path):
    with pytest.raises(ReportError, match=r"out\.svg cannot be written; name a file in a folder that exists"):
        vf.diagram(model, tmp_path / "none" / "out.svg")
    with pytest.raises(ReportError, match="no variable of model 'stores' to draw"):
        vf.diagram(model, tmp_path / "out.svg", variables=[])
