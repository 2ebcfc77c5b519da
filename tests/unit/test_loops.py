"""Causal links, the signs of their derivatives, and the polarity of loops."""

from __future__ import annotations

import pandas as pd
import pytest

import villageflow as vf
from villageflow.errors import DesignError

TEXT = """{UTF-8}
kind: small, large
	~~|
stores[kind] = INTEG(openings[kind] - closures[kind], 2) ~ store ~ Stores that trade. ~|
openings[kind] = imitation * stores[kind] * room + support * PULSE(start, 1) ~ store/Year ~ New stores. ~|
room = 1 - SUM(stores[kind!]) / ceiling ~ dmnl ~ Share of places that are free. ~|
closures[kind] = stores[kind] * hazard ~ store/Year ~ Stores that close. ~|
swing = SIN(full circle * Time / FINAL TIME) * SUM(stores[kind!]) ~ store ~ A sign that depends on time. ~|
seen = SMOOTH(room, 2) ~ dmnl ~ What is known of the room. ~|
full circle = 6.283 ~ dmnl ~ Of the swing. ~|
imitation = 0.8 ~ 1/Year ~ Imitation. ~|
ceiling = 300 ~ store ~ Places. ~|
hazard = 0.1 ~ 1/Year ~ Closures a year. ~|
support = 0 ~ store/Year ~ Support. ~|
start = 3 ~ Year ~ Start of support. ~|
INITIAL TIME = 0 ~ Year ~ ~|
FINAL TIME = 8 ~ Year ~ ~|
TIME STEP = 0.125 ~ Year ~ ~|
SAVEPER = 0.5 ~ Year ~ ~|
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "stores.mdl"
    path.write_text(TEXT, encoding="utf-8")
    return vf.read_model(path)


def signs(model, *links, design=None):
    return vf.link_signs(model, links, design)["sign"].tolist()


def test_links_are_what_an_equation_reads(model):
    links = vf.causal_links(model)
    assert set(links["openings[small]"]) == {"imitation", "stores[small]", "room", "support", "start"}
    assert set(links["stores[large]"]) == {"openings[large]", "closures[large]"}
    assert set(links["room"]) == {"stores[small]", "stores[large]", "ceiling"}


def test_signs_of_derivatives(model):
    found = signs(
        model, ("openings[small]", "stores[small]"), ("closures[small]", "stores[small]"),
        ("stores[small]", "room"), ("ceiling", "room"), ("room", "openings[large]"), ("hazard", "closures[large]"),
    )
    assert found == ["+", "-", "-", "+", "+", "+"]


def test_a_link_that_does_nothing_has_no_sign(model):
    assert signs(model, ("room", "openings[small]"), design={"imitation": 0.0}) == ["0"]


def test_a_sign_that_depends_on_state_is_reported_with_its_shares(model):
    table = vf.link_signs(model, [("stores[small]", "swing")], moments=9).iloc[0]
    assert table["sign"] == "±"
    assert table["positive"] == pytest.approx(4 / 9, abs=0.12)
    assert table["positive"] + table["negative"] + table["zero"] == pytest.approx(1)


def test_an_event_is_looked_at_at_its_time(model):
    table = vf.link_signs(model, [("support", "openings[small]")], {"support": 1.0}, moments=17).iloc[0]
    assert table["positive"] == pytest.approx(2 / 17)
    assert table["negative"] == 0


def test_members_of_a_design_count(model):
    design = vf.Design.from_frame(pd.DataFrame({"hazard": [0.1, -0.1]}))
    assert signs(model, ("stores[small]", "closures[small]"), design=design) == ["±"]


def test_polarity_of_loops(model):
    chains = {
        "R": ["stores[small]", "openings[small]"],
        "B": ["stores[small]", "room", "openings[small]"],
        "S": ["stores[large]", "closures[large]"],
    }
    table = vf.loop_signs(model, chains).set_index("loop")
    assert table["polarity"].to_dict() == {"R": "R", "B": "B", "S": "B"}
    assert table.loc["B", "signs"] == "-++" and table.loc["S", "signs"] == "+-"
    assert (table["depends"] == "").all()


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (("room", "closures[small]"), "has no link room > closures"),
        (("ceiling", "rooms"), "ends in no equation of model 'stores'"),
        (("room", "seen"), "with memory"),
    ],
)
def test_links_that_are_not_there_are_refused(model, link, said):
    with pytest.raises(DesignError) as caught:
        vf.link_signs(model, [link])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_taken_in_any_spelling(model):
    assert signs(model, ("Stores[Small]", "Closures[ Small ]")) == ["+"]
    table = vf.loop_signs(model, {"R": ["Stores[small]", "Openings[Small]"]})
    assert table["polarity"].tolist() == ["R"]


def test_no_links_have_no_signs(model):
    assert vf.link_signs(model, []).empty
    assert vf.loop_signs(model, {}).empty


def test_what_is_no_link_or_no_loop_is_refused(model):
    with pytest.raises(DesignError, match="'room' is no link; give pairs"):
        vf.link_signs(model, ("room", "closures[small]"))
    with pytest.raises(DesignError, match="moments is 0; it must be at least 1"):
        vf.link_signs(model, [("stores[small]", "closures[small]")], moments=0)
    for chain in ([], "stores[small] > closures[small]"):
        with pytest.raises(DesignError, match=r"loop 'R' is .*; give its variables as a list"):
            vf.loop_signs(model, {"R": chain})


@pytest.mark.parametrize(
    "call",
    [vf.causal_links, lambda model: vf.link_signs(model, [("a", "b")]), vf.check, lambda m: vf.diagram(m, "a.svg")],
)
def test_a_name_in_place_of_a_model_is_refused(call):
    with pytest.raises(vf.VillageflowError, match="read_model"):
        call("village_cluster")
