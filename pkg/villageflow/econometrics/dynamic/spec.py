"""Difference and system GMM as data: the equation, which lags and terms are instruments, steps and covariance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from villageflow.datasets.terms import columns_of, parse_formula
from villageflow.econometrics.spec import (
    CONVENTIONS,
    Clustered,
    Convention,
    Covariance,
    Unadjusted,
    as_covariance,
    as_names,
    as_times,
    check_choice,
    check_formula,
)
from villageflow.errors import EstimationError


@dataclass(frozen=True)
class Instruments:
    """Lags of a term as instruments, a column for each lag and period (or for each lag, if collapsed).

    Parameters
    ----------
    variable : str
        A term, such as ``n``.
    first : int
        First lag of its level in the differenced equation: 2 for the outcome and what it moves at once, 1 for what is
        moved by past errors only. System GMM adds the lag before it, ``first - 1`` (or 0), of the term's difference
        in the level equation.
    last : int, optional
        Last lag; all there are by default.
    """

    variable: str
    first: int = 2
    last: int | None = None

    def __post_init__(self) -> None:
        if self.first < 0 or (self.last is not None and self.last < self.first):
            raise EstimationError(f"{self}: lags run from 0 or later to 'first' or later. Such as first=2, last=4.")

    def __str__(self) -> str:
        return f"{self.variable}, lags {self.first} to {'all' if self.last is None else self.last}"


def as_lags(gmm: Any) -> tuple[Instruments, ...]:
    """Lags of one term or several as a tuple."""
    lags = tuple(gmm) if isinstance(gmm, Iterable) and not isinstance(gmm, str) else (gmm,)
    if wrong := [item for item in lags if not isinstance(item, Instruments)]:
        raise EstimationError(f"gmm holds {wrong[0]!r}. Write Instruments('n', first=2, last=4) for lags of n.")
    return lags


@dataclass(frozen=True)
class DynamicSpec:
    """A dynamic panel regression as data.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term``, such as ``n ~ lag(n) + lag(n, 2) + w + lag(w)``; a lagged outcome is not required.
    gmm : tuple of Instruments
        Lags that serve as instruments; of the outcome from the second on if empty.
    iv : tuple of str or None
        Terms that are their own instruments: differenced in the differenced equation, as they are in the level one,
        in one column for both. By default every regressor without a column of the outcome or of `gmm`.
    system : bool
        Whether the level equation, with a constant, is added to the differenced one.
    collapse : bool
        Whether lags have one column for all periods.
    steps : {1, 2}
    time_effects : bool
        Dummies of the periods as regressors and as their own instruments; the first period of the level equation is
        the base. They are differenced with the differenced equation, which spans the same as undifferenced dummies.
    cov_type : Clustered(("entity",)) or Unadjusted
        Clustered: the sandwich over entities after one step, the correction of Windmeijer after two. Unadjusted:
        errors independent and of equal variance after one step, the uncorrected errors after two.
    convention : {"linearmodels", "stata", "fixest"}
        All the same here: no small-sample factor, normal distribution.
    times : tuple of int
        Periods of the outcome to keep; lags may reach before them. All if empty.
    """

    formula: str
    gmm: tuple[Instruments, ...] = ()
    iv: tuple[str, ...] | None = None
    system: bool = False
    collapse: bool = False
    steps: Literal[1, 2] = 2
    time_effects: bool = False
    cov_type: Covariance = field(default_factory=Clustered)
    convention: Convention = "linearmodels"
    times: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_formula(self.formula)
        object.__setattr__(self, "cov_type", as_covariance(self.cov_type))
        object.__setattr__(self, "times", as_times(self.times))
        object.__setattr__(self, "gmm", as_lags(self.gmm))
        object.__setattr__(self, "iv", None if self.iv is None else as_names("iv", self.iv))
        if self.steps not in (1, 2):
            raise EstimationError(f"steps={self.steps!r}: GMM has one step or two. Write 1 or 2.")
        if self.cov_type not in (Clustered(), Unadjusted()):
            raise EstimationError(f"cov_type={self.cov_type!r} is not defined for {self.words}. Use 'clustered' (by "
                                  "entity; Windmeijer's correction after two steps) or 'unadjusted'.")
        check_choice("convention", self.convention, CONVENTIONS)
        formula = parse_formula(self.formula)
        if formula.endogenous:
            raise EstimationError(f"Formula {self.formula!r} has a bracket. Name instruments in gmm and iv instead.")
        if not formula.regressors:
            raise EstimationError(f"Formula {self.formula!r} has no regressor. Such as 'y ~ lag(y) + x'.")

    @property
    def words(self) -> str:
        """The estimator in words."""
        parts = [self._name, *(["period effects"] if self.time_effects else [])]
        return ", ".join([*parts, *(["collapsed instruments"] if self.collapse else [])])

    @property
    def kind(self) -> tuple[str, ...]:
        """Estimator, covariance and convention."""
        return (self._name, repr(self.cov_type), self.convention)

    @property
    def _name(self) -> str:
        return f"{'one' if self.steps == 1 else 'two'}-step {'system' if self.system else 'difference'} GMM"

    @property
    def lags(self) -> tuple[Instruments, ...]:
        """`gmm`, or its default."""
        return self.gmm or (Instruments(parse_formula(self.formula).outcome),)

    @property
    def standard(self) -> tuple[str, ...]:
        """`iv`, or its default."""
        if self.iv is not None:
            return self.iv
        formula = parse_formula(self.formula)
        instrumented = (formula.outcome, *(item.variable for item in self.lags))
        moved = {column for term in instrumented for column in columns_of(term)}
        return tuple(term for term in formula.regressors if not moved & set(columns_of(term)))
