"""A regression as data: enough to run it again on another panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from villageflow.errors import EstimationError, did_you_mean

Estimator = Literal[
    "within", "random", "correlated_random", "first_difference", "between", "poisson", "iv2sls", "ivliml", "ivgmm"
]
Convention = Literal["linearmodels", "stata", "fixest"]
CONVENTIONS: tuple[Convention, ...] = ("linearmodels", "stata", "fixest")

_WORDS: dict[Estimator, str] = {
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


# --- covariances -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unadjusted:
    """Errors independent and of equal variance (for Poisson: variance equal to the mean)."""

    words = "homoskedastic"


@dataclass(frozen=True)
class Robust:
    """Errors independent, of any variance."""

    words = "robust to heteroskedasticity"


@dataclass(frozen=True)
class Clustered:
    """Errors independent between clusters; meant for many clusters, some 40 or more.

    Parameters
    ----------
    by : tuple of str
        One or two of ``entity``, ``time`` or a column. With two, what shares either may be dependent [1]_.

    References
    ----------
    .. [1] Cameron, Gelbach and Miller (2011).
    """

    by: tuple[str, ...] = ("entity",)

    def __post_init__(self) -> None:
        if not isinstance(self.by, tuple) or not 1 <= len(self.by) <= 2 or len(set(self.by)) < len(self.by):
            raise EstimationError(f"cluster={self.by!r}: errors are clustered by one or two different names, a tuple.")

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
        if self.lags is not None and self.lags < 0:
            raise EstimationError(f"lags={self.lags}: a number of periods of 0 or more is needed.")


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
        if self.cutoff <= 0:
            raise EstimationError(f"cutoff={self.cutoff:g}: a distance in km above 0 is needed.")
        if self.kernel not in ("bartlett", "uniform"):
            raise EstimationError(f"kernel={self.kernel!r} is not known. Use 'bartlett' or 'uniform'.")
        if self.lags < 0:
            raise EstimationError(f"lags={self.lags}: a number of periods of 0 or more is needed.")

    @property
    def words(self) -> str:
        time = f", {self.lags} lags" if self.lags else ""
        return f"Conley, {self.kernel} kernel to {self.cutoff:g} km{time}"


Covariance: TypeAlias = Unadjusted | Robust | Clustered | Jackknife | DriscollKraay | Conley
CovarianceLike: TypeAlias = Covariance | str

_NAMED: dict[str, type[Unadjusted] | type[Robust] | type[DriscollKraay]] = {
    "unadjusted": Unadjusted,
    "robust": Robust,
    "driscoll-kraay": DriscollKraay,
}


def as_covariance(cov_type: CovarianceLike, cluster: str | tuple[str, ...] = "entity") -> Covariance:
    """A covariance from its name.

    Parameters
    ----------
    cov_type : str or covariance
        ``clustered``, ``jackknife``, ``driscoll-kraay``, ``robust``, ``unadjusted``, or one of the classes of this
        module, which is returned as it is.
    cluster : str or tuple of str
        Used by ``clustered`` (one or two) and ``jackknife`` (one).

    Raises
    ------
    EstimationError
        If the name is not known, the number of cluster variables does not fit, or clusters are named for another
        covariance.
    """
    by = (cluster,) if isinstance(cluster, str) else tuple(cluster)
    if cov_type == "clustered":
        return Clustered(by)
    if cov_type == "jackknife":
        if len(by) != 1:
            raise EstimationError(f"cluster={by!r}: the jackknife leaves out clusters of one kind. Name one.")
        return Jackknife(by[0])
    if by != ("entity",):
        raise EstimationError(f"cluster={by!r} has no use beside cov_type={cov_type!r}. Drop it, or use 'clustered'.")
    if not isinstance(cov_type, str):
        return cov_type
    if cov_type in _NAMED:
        return _NAMED[cov_type]()
    known = ["clustered", "jackknife", *_NAMED]
    raise EstimationError(f"cov_type={cov_type!r} is not known. {did_you_mean(cov_type, known)}")


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


@dataclass(frozen=True)
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
    effects : tuple of str
        ``entity``, ``time``, a column, or columns joined by ``*`` for one effect per combination. Without any the
        regression has a constant, but in first differences. Random effects and entity means absorb none.
    cov_type : covariance
        One of the classes of this module.
    convention : {"linearmodels", "stata", "fixest"}
        Which small-sample factor; see docs/econometrics.md.
    times : tuple of int
        Periods of the outcome to keep; all if empty.
    """

    formula: str
    estimator: Estimator = "within"
    effects: tuple[str, ...] = ("entity", "time")
    cov_type: Covariance = Clustered()
    convention: Convention = "linearmodels"
    times: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.estimator not in _WORDS:
            raise EstimationError(f"estimator={self.estimator!r} is not known. {did_you_mean(self.estimator, _WORDS)}")
        if self.convention not in CONVENTIONS:
            known = did_you_mean(self.convention, CONVENTIONS)
            raise EstimationError(f"convention={self.convention!r} is not known. {known}")
        if not isinstance(self.effects, tuple) or len(set(self.effects)) < len(self.effects):
            raise EstimationError(f"effects={self.effects!r}: give a tuple of different names.")

    @property
    def absorbed(self) -> tuple[str, ...]:
        """The effects that the estimator absorbs."""
        return () if self.estimator in ("random", "correlated_random", "between") else self.effects

    @property
    def words(self) -> str:
        """The estimator in words, with its effects."""
        if self.estimator in ("random", "correlated_random", "between"):
            return _WORDS[self.estimator]
        effects = " and ".join(name.replace("*", " by ") for name in self.effects)
        return f"{_WORDS[self.estimator]}, {effects + ' effects' if effects else 'no effects'}"

    @property
    def kind(self) -> tuple[str, ...]:
        """Estimator, covariance and convention."""
        return (self.estimator, repr(self.cov_type), self.convention)
