"""Canonical names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from villageflow.errors import VillageflowError, did_you_mean
from villageflow.names import canonical


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Teacup Temperature", "teacup_temperature"),
        ("  teacup\n\ttemperature ", "teacup_temperature"),
        ("teacup__temperature", "teacup_temperature"),
        ("teacup _ temperature", "teacup_temperature"),
        ("teacup\u00a0temperature", "teacup_temperature"),
        ('"Net flow (m3)"', "net_flow_(m3)"),
        ('"a \\"b\\" c"', 'a_"b"_c'),
        ("Births\\nper year", "births_per_year"),
        ("ÉTÉ", "été"),
        ("变量 一", "变量_一"),
        ("men's $", "men's_$"),
        ('"', '"'),
        ('""', "_"),
        ("", "_"),
        ("___", "_"),
    ],
)
def test_canonical(written, name):
    assert canonical(written) == name


@pytest.mark.parametrize(("one", "other"), [('"a+b"', '"a-b"'), ("a1", "a 1"), ('"a (x)"', '"a x"')])
def test_different_names_stay_different(one, other):
    assert canonical(one) != canonical(other)


@given(st.text())
def test_canonical_is_one_word_and_its_spelling_does_not_matter(text):
    name = canonical(text)
    assert name
    assert not any(character.isspace() for character in name)
    assert (
        canonical(f"  {text.replace(' ', '_')}\t") == canonical(text.strip()) or '"' in text or "\\" in text
    )


@pytest.mark.parametrize(
    ("name", "known", "closing"),
    [
        ("contact_rte", ["contact_rate", "recovery"], "Did you mean 'contact_rate'?"),
        ("x", [], "There is none to choose from."),
        ("zzz", ["b", "a"], "Known names: 'a', 'b'."),
        ("zzz", list("abcdefghij"), "Known names: 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ...."),
    ],
)
def test_suggestion(name, known, closing):
    assert did_you_mean(name, known) == closing


def test_text_of_an_error_is_one_line():
    assert str(VillageflowError("a\nb\r\nc\u2028d")) == "a b c d"
