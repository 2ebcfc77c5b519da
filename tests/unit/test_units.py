"""Units as written: what counts as the same."""

from __future__ import annotations

import pytest

from villageflow.units import same_unit


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("", "dmnl"), ("1", "Dimensionless"), ("store/Year", "Store / year"), ("1/Year", "dmnl/year"),
        ("RMB/(Year*person)", "rmb/person/year"), ("person*store", "store*person"), ("km^2", "km*km"),
        ("(a/b)^2", "a*a/(b*b)"), ("a*b/b", "a"), ("1/s^-1", "s"), ("not a unit *", "NOT A UNIT*"),
    ],
)
def test_same(a, b):
    assert same_unit(a, b) and same_unit(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Year", "Month"), ("1/Year", "Year"), ("", "Year"), ("RMB/Year*person", "RMB/(Year*person)"),
        ("km", "km^2"), ("a*", "a"), ("(a", "a"), ("a)", "a"), ("100", "1"), ("percent", "dmnl"),
    ],
)
def test_different(a, b):
    assert not same_unit(a, b) and not same_unit(b, a)
