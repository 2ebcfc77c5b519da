"""Statistics of a panel, with the joint covariance of all of them from the influence of every entity.

An auxiliary model says nothing about causes. It says what is measured, in the same way, on a real and on a simulated
panel: coefficients of regressions, means, deviations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.draws import is_number
from villageflow.calibrate.scales import Floats
from villageflow.datasets.terms import check_index, evaluate
from villageflow.econometrics.draw import draw_sample
from villageflow.econometrics.estimate import Series
from villageflow.econometrics.fit import coefficients, estimate
from villageflow.econometrics.linear import fit_linear
from villageflow.econometrics.spec import AnySpec, Spec
from villageflow.errors import CalibrationError, did_you_mean

_SINGULAR: Final = 1e-10
_LEAST_SQUARES: Final = ("within", "first_difference", "between")


# --- what can be measured ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of a regression.

    Parameters
    ----------
    spec : Spec, DynamicSpec or StaggeredSpec
        The regression; its own covariance is not used.
    terms : tuple of str
        Which coefficients; all if empty.
    name : str
        Stands before the term in the name of each moment; needed where two regressions share a term.
    """

    spec: AnySpec
    terms: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not all(hasattr(self.spec, part) for part in ("formula", "words")):
            raise CalibrationError(f"coefficients of a {type(self.spec).__name__}; give a Spec, such as Spec('y ~ x')")
        if not isinstance(self.terms, tuple) or not all(isinstance(term, str) for term in self.terms):
            raise CalibrationError(f"coefficients of terms {self.terms!r}; give a tuple of names, such as ('x',)")
        _check_name(self.name)


@dataclass(frozen=True)
class ResidualDeviation:
    """Root mean square of the residuals of a least-squares regression, without degrees of freedom taken off.

    Parameters
    ----------
    spec : Spec
        ``within``, ``first_difference`` or ``between``.
    name : str
        Of the moment; ``residual deviation of`` the formula if blank.
    """

    spec: Spec
    name: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.spec, Spec):
            raise CalibrationError(
                f"residual deviation of a {type(self.spec).__name__}; give a Spec of least squares, as Spec('y ~ x')"
            )
        if self.spec.estimator not in _LEAST_SQUARES:
            raise CalibrationError(
                f"residual deviation of {self.spec.formula!r}: {self.spec.estimator!r} is not least squares, so that "
                f"its residuals also move with the coefficients. Use one of {', '.join(_LEAST_SQUARES)}."
            )


@dataclass(frozen=True)
class Mean:
    """Mean of a term over all rows in which it is known.

    Parameters
    ----------
    term : str
        As `villageflow.datasets.terms.evaluate`, such as ``ln(stores)``.
    times : tuple of float
        Which times; all if empty.
    name : str
        Of the moment; made of term and times if blank.
    """

    term: str
    times: tuple[float, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        _check_term(self)


@dataclass(frozen=True)
class StandardDeviation:
    """Standard deviation of a term over all rows in which it is known, with their number as the divisor.

    Parameters
    ----------
    term, times, name
        As for `Mean`. With one time it is the dispersion between entities at that time.
    """

    term: str
    times: tuple[float, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        _check_term(self)


Statistic: TypeAlias = Coefficients | ResidualDeviation | Mean | StandardDeviation


def means_at(term: str, times: tuple[float, ...]) -> tuple[Mean, ...]:
    """The mean of a term at each of several times, as moments of their own."""
    return tuple(Mean(term, (time,)) for time in times)


# --- what was measured -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Moments:
    """Statistics of one panel with their joint covariance.

    Parameters
    ----------
    values : pandas.Series
        By moment.
    cov : pandas.DataFrame
        Of the values themselves (not multiplied by a sample size), (moment, moment): sum over clusters of outer
        products of influences, times G / (G - 1).
    influence : pandas.DataFrame
        (cluster, moment): how far each cluster moves each moment, to first order.
    cluster : str
        ``entity`` or the column of the clusters.
    """

    values: Series
    cov: pd.DataFrame
    influence: pd.DataFrame
    cluster: str

    @property
    def std_errors(self) -> Series:
        """Square roots of the diagonal of `cov`."""
        return pd.Series(np.sqrt(np.diag(self.cov)), index=self.values.index, name="std_error")

    @property
    def n_clusters(self) -> int:
        """Number of clusters, G."""
        return len(self.influence)

    def to_frame(self) -> pd.DataFrame:
        """One row per moment: value, std_error."""
        return pd.concat([self.values, self.std_errors], axis=1)


@dataclass(frozen=True)
class Auxiliary:
    """An ordered set of statistics of a panel.

    Parameters
    ----------
    statistics : tuple of Coefficients, ResidualDeviation, Mean or StandardDeviation
        What to measure.
    cluster : str
        ``entity``, or a column that is constant within entities: between clusters, errors are independent.

    Examples
    --------
    >>> spec = Spec("y ~ lag(y) + x", effects=("entity",))
    >>> auxiliary = Auxiliary((Coefficients(spec), ResidualDeviation(spec), *means_at("y", (1, 8))))
    >>> auxiliary.values(panel)  # doctest: +SKIP
    """

    statistics: tuple[Statistic, ...]
    cluster: str = "entity"

    def __post_init__(self) -> None:
        if not isinstance(self.statistics, tuple) or not self.statistics:
            raise CalibrationError("an auxiliary model needs a tuple of one or more statistics; add a Mean or another")
        if not isinstance(self.cluster, str):
            raise CalibrationError(f"cluster is {self.cluster!r}; give 'entity' or the name of a column")
        for item in self.statistics:
            if not isinstance(item, Statistic):
                raise CalibrationError(
                    f"{type(item).__name__} is no statistic of an auxiliary model; use Coefficients, "
                    "ResidualDeviation, Mean or StandardDeviation"
                )

    def values(self, panel: pd.DataFrame) -> Series:
        """The moments of a panel, without covariance: for simulated panels.

        Parameters
        ----------
        panel : pandas.DataFrame
            Indexed (entity, time).

        Returns
        -------
        pandas.Series
            By moment, in the order of the statistics.

        Raises
        ------
        EstimationError
            If a regression cannot be run or a term cannot be evaluated.
        CalibrationError
            If a term or time is unknown, nothing is known of a term, or two moments have the same name.
        """
        _check_is_table(panel)
        with_residuals = {item.spec for item in self.statistics if isinstance(item, ResidualDeviation)}
        params: dict[AnySpec, Series] = {}
        residuals: dict[AnySpec, Floats] = {}
        for spec in self._specs():
            if isinstance(spec, Spec) and spec in with_residuals:
                sample = draw_sample(spec, panel)
                fitted = fit_linear(spec, sample)
                params[spec] = pd.Series(fitted.params, index=list(sample.terms))
                residuals[spec] = fitted.residuals
            else:
                params[spec] = coefficients(spec, panel)
        terms = self._terms(panel)
        found: list[tuple[str, float]] = []
        for item in self.statistics:
            match item:
                case Coefficients(spec=spec):
                    chosen = params[spec][_chosen(item, params[spec])]
                    found += [(_label(item, str(term)), float(value)) for term, value in chosen.items()]
                case ResidualDeviation(spec=spec):
                    found.append((_label(item), float(np.sqrt(np.mean(residuals[spec] ** 2)))))
                case Mean() | StandardDeviation():
                    known = terms[item.term].to_numpy()[_known(item, terms[item.term])]
                    found.append((_label(item), float(known.mean() if isinstance(item, Mean) else known.std())))
        return _named(found)

    def estimate(self, panel: pd.DataFrame) -> Moments:
        """The moments of a panel with their joint covariance.

        Parameters
        ----------
        panel : pandas.DataFrame
            Indexed (entity, time).

        Returns
        -------
        Moments

        Raises
        ------
        EstimationError
            As `values`.
        CalibrationError
            As `values`; also if a regression has no influences, a cluster varies within an entity, there are no more
            clusters than moments, or a moment does not vary or is a combination of others, which are named.
        """
        _check_is_table(panel)
        check_index(panel, CalibrationError)
        estimates = {spec: estimate(spec, panel) for spec in self._specs()}
        terms = self._terms(panel)
        entities = pd.unique(panel.index.get_level_values(0))
        columns: list[Floats] = []
        for item in self.statistics:
            match item:
                case Coefficients(spec=spec):
                    influence = estimates[spec].influence
                    if influence is None:
                        raise CalibrationError(
                            f"{spec.formula}: {spec.words} has no influences of entities, so that its coefficients "
                            "have no joint covariance with other moments. Use another estimator."
                        )
                    own = influence[_chosen(item, estimates[spec].params)].reindex(entities).fillna(0.0)
                    columns += list(own.to_numpy(dtype=float).T)
                case ResidualDeviation(spec=spec):
                    residuals = estimates[spec].residuals
                    assert residuals is not None
                    columns.append(_of_deviation(residuals, entities))
                case Mean() | StandardDeviation():
                    known = terms[item.term][_known(item, terms[item.term])]
                    centred = known - known.mean()
                    plain = isinstance(item, Mean)
                    columns.append(
                        _by_entity(centred / len(known), entities) if plain else _of_deviation(centred, entities)
                    )
        values = self.values(panel)
        influences = pd.DataFrame(np.column_stack(columns), index=entities, columns=values.index)
        return self._joint(values, influences, panel)

    def _specs(self) -> Iterator[AnySpec]:
        specs = (item.spec for item in self.statistics if isinstance(item, Coefficients | ResidualDeviation))
        return iter(dict.fromkeys(specs))

    def _terms(self, panel: pd.DataFrame) -> dict[str, Series]:
        """The values of every term of a mean or deviation, each once."""
        terms = (item.term for item in self.statistics if isinstance(item, Mean | StandardDeviation))
        return {term: evaluate(term, panel) for term in dict.fromkeys(terms)}

    def _joint(self, values: Series, influence: pd.DataFrame, panel: pd.DataFrame) -> Moments:
        if self.cluster != "entity":
            influence = influence.groupby(_clusters(self.cluster, panel).to_numpy()).sum()
        influence = influence.rename_axis(self.cluster)
        n, m = influence.shape
        if n <= m:
            raise CalibrationError(
                f"{n} clusters ({self.cluster}) for {m} moments; their covariance would be singular. Use fewer "
                "moments or a finer cluster."
            )
        stacked = influence.to_numpy(dtype=float)
        cov = stacked.T @ stacked * (n / (n - 1))
        _check_regular(cov, [str(name) for name in values.index])
        return Moments(values, pd.DataFrame(cov, index=values.index, columns=values.index), influence, self.cluster)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise CalibrationError(f"a moment has name {name!r}; give a text, or leave it out")


def _check_term(item: Mean | StandardDeviation) -> None:
    kind = type(item).__name__
    _check_name(item.name)
    if not isinstance(item.term, str) or not item.term.strip():
        raise CalibrationError(f"{kind} of {item.term!r}; give a term as text, such as 'ln(stores)'")
    if not isinstance(item.times, tuple) or not all(is_number(time) for time in item.times):
        raise CalibrationError(f"{kind} of {item.term!r} at times {item.times!r}; give a tuple of numbers, as (2001,)")


def _check_is_table(panel: object) -> None:
    if not isinstance(panel, pd.DataFrame):
        raise CalibrationError(f"the panel is a {type(panel).__name__}; give a DataFrame indexed (entity, time)")


def _label(item: Statistic, term: str = "") -> str:
    """The name of a moment."""
    match item:
        case Coefficients():
            return f"{item.name}: {term}" if item.name else term
        case ResidualDeviation():
            return item.name or f"residual deviation of {item.spec.formula}"
        case Mean() | StandardDeviation():
            at = f" at {', '.join(f'{time:g}' for time in item.times)}" if item.times else ""
            word = "mean" if isinstance(item, Mean) else "deviation"
            return item.name or f"{word} of {item.term}{at}"


def _chosen(item: Coefficients, params: Series) -> list[str]:
    known = [str(term) for term in params.index]
    for term in item.terms:
        if term not in known:
            raise CalibrationError(f"{term!r} is not a term of {item.spec.formula!r}. {did_you_mean(term, known)}")
    return list(item.terms) or known


def _known(item: Mean | StandardDeviation, values: Series) -> npt.NDArray[np.bool_]:
    """The rows in which a term is known, of the times asked for."""
    cells = values.to_numpy()
    known = ~np.isnan(cells)
    if item.times:
        times = values.index.get_level_values(1)
        if absent := [time for time in item.times if time not in times]:
            raise CalibrationError(
                f"{_label(item)}: time {absent[0]:g} is not in the panel, which has {times.min():g} to {times.max():g}"
            )
        known &= times.isin(item.times)
    if not known.any() or not np.isfinite(cells[known]).all():
        fault = "is infinite in a row" if known.any() else "is not known in any row"
        raise CalibrationError(f"{_label(item)}: {item.term!r} {fault}. Correct the panel or drop the moment.")
    return np.asarray(known)


def _named(found: list[tuple[str, float]]) -> Series:
    names = [name for name, _ in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CalibrationError(f"two moments are called {twice[0]!r}; name them apart with name=")
    return pd.Series([value for _, value in found], index=pd.Index(names, name="moment"), name="value", dtype=float)


def _of_deviation(centred: Series, entities: Any) -> Floats:
    """Influences on a root mean square: its centre and the coefficients behind it do not move it to first order."""
    square = centred**2
    size = float(np.sqrt(square.mean()))
    return _by_entity((square - size**2) / (2 * len(centred) * (size or 1.0)), entities)


def _by_entity(values: Series, entities: Any) -> Floats:
    return np.asarray(values.groupby(level=0).sum().reindex(entities).fillna(0.0), dtype=float)


def _clusters(column: str, panel: pd.DataFrame) -> Series:
    """The cluster of every entity, in the order of appearance."""
    if column not in panel.columns:
        known = ["entity", *map(str, panel.columns)]
        raise CalibrationError(f"cluster {column!r} is not a column of the panel. {did_you_mean(column, known)}")
    groups = panel[column].groupby(level=0, sort=False)
    for fault, wrong in (("is missing", groups.count() < groups.size()), ("varies", groups.nunique() > 1)):
        if wrong.any():
            raise CalibrationError(
                f"cluster {column!r} {fault} within entity {wrong.idxmax()!r}; every entity needs one cluster. Use a "
                "column that is constant within entities."
            )
    return groups.first()


def _check_regular(cov: Floats, names: list[str]) -> None:
    """Refuse a singular covariance and name the moments behind it."""
    spread = np.sqrt(np.diag(cov))
    if still := [name for name, error in zip(names, spread, strict=True) if not error > 0]:
        raise CalibrationError(f"moment {still[0]!r} does not vary between clusters, so it has no error. Drop it.")
    values, vectors = np.linalg.eigh(cov / np.outer(spread, spread))
    if values[0] < _SINGULAR:
        size = np.abs(vectors[:, 0])
        tied = [repr(name) for name, part in zip(names, size, strict=True) if part > 0.1 * size.max()]
        raise CalibrationError(
            f"moments {', '.join(tied)} are combinations of each other, so that their covariance is singular. "
            "Drop one of them."
        )
