"""A regression as data: enough to run it again on another panel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Any, Final, Literal, Protocol, TypeAlias

from villageflow.errors import EstimationError, did_you_mean, nearest

Estimator = Literal[
    "within", "random", "correlated_random", "first_difference", "between", "poisson", "iv2sls", "ivliml", "ivgmm"
]
Convention = Literal["linearmodels", "stata", "fixest"]
CONVENTIONS: tuple[Convention, ...] = ("linearmodels", "stata", "fixest")

Names: TypeAlias = str | Iterable[str]

_WORDS: Final[dict[Estimator, str]] = {
    "within": "least squares",
    "random": "random effects",
    "correlated_random": "random effects with entity means of the regressors (Mundlak)",
    "first_difference": "least squares in first differences",
    "between": "least squares between entity means",
    "poisson": "Poisson pseudo maximum likelihood",
    "iv2sls": "two-stage least squares",
    "ivliml": "limited-information maximum likelihood",
    "ivgmm": "two-step GMM",
}
_ABSORB_NONE: Final = ("random", "correlated_random", "between")
_VERBS: Final = {
    "pooled": "Use 'within' with effects=().",
    "ols": "Use 'within', with effects=() for none.",
    "iv": "Use 'iv2sls', 'ivliml' or 'ivgmm'.",
}


# --- the edge ----------------------------------------------------------------------------------------------------


def as_names(option: str, given: Any) -> tuple[str, ...]:
    """One name or several as a tuple of different names; ``option`` is what an error calls them."""
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise EstimationError(f"{option}={given!r}: give a name, or a tuple of different names.")
    return names


def as_times(given: Any) -> tuple[int, ...]:
    """Several times as a tuple of plain numbers."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise EstimationError(f"times={given!r}: give several numbers, such as [2015, 2016], or () for all times.")
    times = tuple(given)
    for time in times:
        if isinstance(time, bool) or not isinstance(time, Real):
            raise EstimationError(f"times holds {time!r}, and times are numbers. Such as [2015, 2016].")
    return tuple(int(time) if float(time).is_integer() else float(time) for time in times)  # type: ignore[misc]


def check_formula(formula: Any) -> None:
    """Refuse a formula that is no text."""
    if not isinstance(formula, str):
        raise EstimationError(f"formula={formula!r} is no text. Write 'outcome ~ term + term'.")


def check_choice(option: str, value: Any, known: Iterable[str]) -> None:
    """Refuse a value that is not among the known names."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise EstimationError(f"{option}={value!r} is not known. {did_you_mean(str(value), known)}")


def _check_estimator(value: Any) -> None:
    if not isinstance(value, str) or value not in _WORDS:
        advice = _VERBS.get(str(value)) or nearest(str(value), _WORDS) or f"Use {', '.join(map(repr, _WORDS))}."
        raise EstimationError(f"estimator={value!r} is not known. {advice}")


def _whole(option: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise EstimationError(f"{option}={value!r}: a number of periods of 0 or more is needed.")
    return int(value)


def _distance(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < inf:
        raise EstimationError(f"cutoff={value!r}: a distance in km above 0 is needed.")
    return float(value)


def not_a_spec(given: object, kinds: str = "Spec, DynamicSpec or StaggeredSpec") -> EstimationError:
    """What to raise where a specification is needed and something else is given."""
    return EstimationError(f"{type(given).__name__} is no specification that serves here. Use {kinds}.")


# --- covariances -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unadjusted:
    """Errors independent and of equal variance (for Poisson: variance equal to the mean)."""

    words = "homoskedastic"


@dataclass(frozen=True)
class Robust:
    """Errors independent, of any variance."""

    words = "robust to heteroskedasticity"


@dataclass(frozen=True, init=False)
class Clustered:
    """Errors independent between clusters; meant for many clusters, some 40 or more.

    Parameters
    ----------
    by : str or tuple of str
        One or two of ``entity``, ``time`` or a column. With two, what shares either may be dependent [1]_.

    References
    ----------
    .. [1] Cameron, Gelbach and Miller (2011).
    """

    by: tuple[str, ...]

    def __init__(self, by: Names = ("entity",)) -> None:
        names = as_names("cluster", by)
        if not 1 <= len(names) <= 2:
            raise EstimationError(f"cluster={by!r}: errors are clustered by one or two different names.")
        object.__setattr__(self, "by", names)

    @property
    def words(self) -> str:
        return f"clustered by {' and '.join(self.by)}"


@dataclass(frozen=True)
class Jackknife:
    """Errors independent between clusters, from leaving out one cluster at a time (CRV3); for few or unequal clusters.

    Parameters
    ----------
    by : str
        ``entity``, ``time`` or a column.

    References
    ----------
    MacKinnon, Nielsen and Webb (2023).
    """

    by: str = "entity"

    def __post_init__(self) -> None:
        if not isinstance(self.by, str):
            raise EstimationError(f"cluster={self.by!r}: the jackknife leaves out clusters of one kind. Name one.")

    @property
    def words(self) -> str:
        return f"clustered by {self.by}, jackknife (CRV3)"


@dataclass(frozen=True)
class DriscollKraay:
    """Errors dependent between entities and over a few periods; meant for many periods, some 40 or more.

    Parameters
    ----------
    lags : int, optional
        Lags of the Bartlett kernel; floor(4 (T/100)^(2/9)) by default.
    """

    lags: int | None = None

    words = "Driscoll-Kraay"

    def __post_init__(self) -> None:
        if self.lags is not None:
            object.__setattr__(self, "lags", _whole("lags", self.lags))


@dataclass(frozen=True)
class Conley:
    """Errors dependent between near places in the same period, and over ``lags`` periods of the same entity.

    Parameters
    ----------
    latitude, longitude : str
        Columns with degrees.
    cutoff : float
        Distance in km from which on errors are independent.
    kernel : {"bartlett", "uniform"}
        Weights that fall to 0 at the cutoff, or are 1 up to it. Neither is sure to give a covariance; what is negative
        of it is set to 0, with a note.
    lags : int
        Lags of the Bartlett kernel over periods; 0 for none.
    """

    latitude: str
    longitude: str
    cutoff: float
    kernel: Literal["bartlett", "uniform"] = "bartlett"
    lags: int = 0

    def __post_init__(self) -> None:
        for option in ("latitude", "longitude"):
            if not isinstance(getattr(self, option), str):
                raise EstimationError(f"{option}={getattr(self, option)!r}: name a column with degrees.")
        object.__setattr__(self, "cutoff", _distance(self.cutoff))
        if self.kernel not in ("bartlett", "uniform"):
            raise EstimationError(f"kernel={self.kernel!r} is not known. Use 'bartlett' or 'uniform'.")
        object.__setattr__(self, "lags", _whole("lags", self.lags))

    @property
    def words(self) -> str:
        time = f", {self.lags} lags" if self.lags else ""
        return f"Conley, {self.kernel} kernel to {self.cutoff:g} km{time}"


Covariance: TypeAlias = Unadjusted | Robust | Clustered | Jackknife | DriscollKraay | Conley
CovarianceLike: TypeAlias = Covariance | type[Covariance] | str

_NAMED: Final[dict[str, type[Covariance]]] = {
    "clustered": Clustered,
    "jackknife": Jackknife,
    "driscoll-kraay": DriscollKraay,
    "robust": Robust,
    "unadjusted": Unadjusted,
}


def as_covariance(cov_type: CovarianceLike, cluster: Names = "entity") -> Covariance:
    """A covariance from its name.

    Parameters
    ----------
    cov_type : str or covariance
        ``clustered``, ``jackknife``, ``driscoll-kraay``, ``robust``, ``unadjusted``, or one of the classes of this
        module; an instance is returned as it is.
    cluster : str or tuple of str
        Used by ``clustered`` (one or two) and ``jackknife`` (one).

    Raises
    ------
    EstimationError
        If the covariance is not known, the number of cluster variables does not fit, or clusters are named for another
        covariance.
    """
    by = as_names("cluster", cluster)
    if cov_type is Conley:
        raise EstimationError("Conley errors need places and a distance: Conley('latitude', 'longitude', cutoff=100).")
    name = next((name for name, kind in _NAMED.items() if cov_type is kind), cov_type)
    if not isinstance(name, Covariance):
        check_choice("cov_type", name, _NAMED)
        if name == "clustered":
            return Clustered(by)
        if name == "jackknife":
            return Jackknife(by[0] if len(by) == 1 else by)  # type: ignore[arg-type]
    if by != ("entity",):
        raise EstimationError(f"cluster={by!r} has no use beside cov_type={cov_type!r}. Drop it, or use 'clustered'.")
    return name if isinstance(name, Covariance) else _NAMED[str(name)]()  # type: ignore[call-arg]  # never Conley


def clusters_of(cov_type: Covariance) -> tuple[str, ...]:
    """What the errors are clustered by; nothing for other covariances."""
    match cov_type:
        case Clustered(by=by):
            return by
        case Jackknife(by=one):
            return (one,)
    return ()


# --- specifications ----------------------------------------------------------------------------------------------


class AnySpec(Protocol):
    """What every specification tells of itself, whatever its estimator."""

    @property
    def formula(self) -> str:
        """The equation as text, ``outcome ~ terms``."""

    @property
    def cov_type(self) -> Covariance:
        """The covariance of the estimates."""

    @property
    def convention(self) -> Convention:
        """Small-sample factor and reference distribution."""

    @property
    def words(self) -> str:
        """The estimator in words, with its effects."""

    @property
    def kind(self) -> tuple[str, ...]:
        """Estimator, covariance and convention: two estimates may share a table where these are equal."""


@dataclass(frozen=True, init=False)
class Spec:
    """A regression as data: enough to run it again, on this panel or on a simulated one.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term``; with instruments ``outcome ~ term + [endogenous ~ instrument + instrument]``. The
        terms are those of `villageflow.datasets.terms.evaluate`.
    estimator : str
        ``within`` (least squares with absorbed effects), ``random``, ``correlated_random`` (Mundlak),
        ``first_difference``, ``between``, ``poisson`` (pseudo maximum likelihood with absorbed effects), ``iv2sls``,
        ``ivliml`` or ``ivgmm``.
    effects : str or tuple of str, optional
        ``entity``, ``time``, a column, or columns joined by ``*`` for one effect per combination. By default
        ``("entity", "time")`` where the estimator absorbs effects, but none in first differences. Random effects and
        entity means absorb none. Without any the regression has a constant, but in first differences.
    cov_type : covariance or str, optional
        One of the classes of this module, or a name that `as_covariance` knows. By default ``Clustered()``, and
        ``Robust()`` between entity means.
    convention : {"linearmodels", "stata", "fixest"}
        Which small-sample factor; see docs/econometrics.md.
    times : iterable of int
        Periods of the outcome to keep; all if empty.

    Raises
    ------
    EstimationError
        If a choice is not known or of another type, or the estimator takes no effects.
    """

    formula: str
    estimator: Estimator
    effects: tuple[str, ...]
    cov_type: Covariance
    convention: Convention
    times: tuple[int, ...]

    def __init__(
        self,
        formula: str,
        estimator: Estimator = "within",
        effects: Names | None = None,
        cov_type: CovarianceLike | None = None,
        convention: Convention = "linearmodels",
        times: Iterable[int] = (),
    ) -> None:
        check_formula(formula)
        _check_estimator(estimator)
        check_choice("convention", convention, CONVENTIONS)
        bare = estimator in (*_ABSORB_NONE, "first_difference")
        absorbed = (() if bare else ("entity", "time")) if effects is None else as_names("effects", effects)
        if absorbed and estimator in _ABSORB_NONE:
            raise EstimationError(f"effects={absorbed!r}: {estimator!r} absorbs none. Leave them out, or use 'within'.")
        usual = Robust() if estimator == "between" else Clustered()
        given = {
            "formula": formula, "estimator": estimator, "effects": absorbed,
            "cov_type": usual if cov_type is None else as_covariance(cov_type), "convention": convention,
            "times": as_times(times),
        }  # fmt: skip
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @property
    def absorbed(self) -> tuple[str, ...]:
        """The effects that the estimator absorbs."""
        return self.effects

    @property
    def words(self) -> str:
        """The estimator in words, with its effects."""
        if self.estimator in _ABSORB_NONE:
            return _WORDS[self.estimator]
        effects = " and ".join(name.replace("*", " by ") for name in self.effects)
        return f"{_WORDS[self.estimator]}, {effects + ' effects' if effects else 'no effects'}"

    @property
    def kind(self) -> tuple[str, ...]:
        """Estimator, covariance and convention."""
        return (self.estimator, repr(self.cov_type), self.convention)
