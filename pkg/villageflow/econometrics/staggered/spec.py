"""An effect of a staggered treatment as data: who is compared with whom, and over what the effects are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from villageflow.econometrics.spec import CONVENTIONS, Clustered, Convention, as_times, check_choice, check_formula
from villageflow.errors import EstimationError

Method = Literal["group_time", "interaction_weighted", "imputation"]
Aggregation = Literal["dynamic", "group", "calendar", "simple", "dynamic_overall", "group_overall", "calendar_overall"]
Target = Literal["group_time"] | Aggregation
Control = Literal["never", "not_yet"]
Base = Literal["varying", "universal"]
Adjustment = Literal["regression", "ipw", "doubly_robust"]

AGGREGATIONS: Final[tuple[Aggregation, ...]] = get_args(Aggregation)
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "method": get_args(Method),
    "target": ("group_time", *AGGREGATIONS),
    "control": get_args(Control),
    "base": get_args(Base),
    "convention": CONVENTIONS,
    "adjustment": get_args(Adjustment),
}
_BY_ENTITY: Final = Clustered(("entity",))
_METHOD_WORDS: Final[dict[Method, str]] = {
    "group_time": "group-time averages (Callaway-Sant'Anna)",
    "interaction_weighted": "interaction-weighted least squares (Sun-Abraham)",
    "imputation": "imputation (Borusyak-Jaravel-Spiess)",
}
_CONTROL_WORDS: Final[dict[Control, str]] = {"never": "never treated", "not_yet": "not yet treated"}
_ADJUSTMENT_WORDS: Final[dict[Adjustment, str]] = {
    "regression": "outcome regression",
    "ipw": "inverse probability weights",
    "doubly_robust": "doubly robust",
}


@dataclass(frozen=True)
class StaggeredSpec:
    """The effect of a treatment that entities take up at different times and keep.

    Parameters
    ----------
    formula : str
        ``outcome ~ 1`` or ``outcome ~ covariate + covariate``; terms as in `villageflow.datasets.terms.evaluate`.
    cohort : str
        Column with the first treated time of the entity, the same in all its rows; blank, 0 or infinite if the entity
        is never treated.
    method : {"group_time", "interaction_weighted", "imputation"}
        Callaway and Sant'Anna [1]_, Sun and Abraham [2]_, or Borusyak, Jaravel and Spiess [3]_.
    target : str
        ``group_time``: one effect per cohort and period. Averages of them: ``dynamic`` by time since treatment,
        ``group`` by cohort, ``calendar`` by period, ``simple`` over all; ``dynamic_overall`` and so on average once
        more, over event times >= 0, cohorts or periods.
    control : {"never", "not_yet"}
        With whom the treated are compared. ``interaction_weighted`` takes as not yet treated the last cohort, and
        leaves out the periods in which it is treated; ``imputation`` knows only ``not_yet``.
    anticipation : int
        Units of time before treatment in which it may already have an effect.
    base : {"universal", "varying"}
        ``universal``: all effects are relative to the last period before treatment (less anticipation), which has
        no coefficient. ``varying``: those before treatment are changes from one period to the next; ``group_time``
        alone knows it.
    adjustment : {"regression", "ipw", "doubly_robust"}
        How ``group_time`` uses covariates [4]_; without any the three are the same. The other methods take covariates
        linearly.
    cov_type : Clustered
        By ``entity``, or by a column that is constant within entities: the level of assignment.
    convention : {"linearmodels", "stata", "fixest"}
        Factor of the covariance: 1 for ``linearmodels``, G/(G-1) for the others. The reference distribution is t with
        G-1 degrees of freedom under all, G counting clusters.
    times : tuple of int
        Periods to keep; all if empty.

    Raises
    ------
    EstimationError
        If a choice is not known, or the method does not know it.

    References
    ----------
    .. [1] Callaway and Sant'Anna (2021), Journal of Econometrics 225.
    .. [2] Sun and Abraham (2021), Journal of Econometrics 225.
    .. [3] Borusyak, Jaravel and Spiess (2024), Review of Economic Studies 91.
    .. [4] Sant'Anna and Zhao (2020), Journal of Econometrics 219.
    """

    formula: str
    cohort: str
    method: Method = "group_time"
    target: Target = "dynamic"
    control: Control = "never"
    anticipation: int = 0
    base: Base = "universal"
    adjustment: Adjustment = "regression"
    cov_type: Clustered = _BY_ENTITY
    convention: Convention = "linearmodels"
    times: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_formula(self.formula)
        if not isinstance(self.cohort, str):
            raise EstimationError(f"cohort={self.cohort!r}: name the column with the first treated time.")
        object.__setattr__(self, "times", as_times(self.times))
        for name, known in _CHOICES.items():
            check_choice(name, getattr(self, name), known)
        if isinstance(self.anticipation, bool) or not isinstance(self.anticipation, int) or self.anticipation < 0:
            raise EstimationError(f"anticipation={self.anticipation!r} must be a whole number of periods from 0.")
        by = self.cov_type.by if isinstance(self.cov_type, Clustered) else ()
        if len(by) != 1 or by == ("time",):
            raise EstimationError(
                f"cov_type={self.cov_type!r}: the errors come from influences of entities, added up within clusters. "
                "Use Clustered(('entity',)) or a column that is constant within entities."
            )
        if self.method != "group_time":
            for name, only in (("base", "universal"), ("adjustment", "regression")):
                if getattr(self, name) != only:
                    raise EstimationError(
                        f"{name}={getattr(self, name)!r} is not defined for method={self.method!r}. "
                        f"Use {only!r}, or method='group_time'."
                    )
        if self.method == "imputation" and self.control != "not_yet":
            raise EstimationError(
                f"control={self.control!r}: imputation learns from all who are not yet treated. Use 'not_yet'."
            )

    @property
    def cluster(self) -> str:
        """What the errors are clustered by."""
        return self.cov_type.by[0]

    @property
    def words(self) -> str:
        """The estimator in words, with its comparison and average."""
        parts = [_METHOD_WORDS[self.method], f"compared with {_CONTROL_WORDS[self.control]}"]
        if self.method == "group_time":
            parts += [_ADJUSTMENT_WORDS[self.adjustment], f"{self.base} base period"]
        if self.anticipation:
            parts.append(f"anticipation {self.anticipation}")
        return ", ".join([*parts, f"{self.target.replace('_', ' ')} effects"])

    @property
    def kind(self) -> tuple[str, ...]:
        """Estimator, covariance and convention."""
        return (f"staggered {self.method}", repr(self.cov_type), self.convention)
