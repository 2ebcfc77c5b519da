"""Block bootstrap of a whole pipeline: entities are drawn with their paths, and every stage is run again.

References
----------
.. [Cameron2008] A. C. Cameron, J. B. Gelbach and D. L. Miller, "Bootstrap-based improvements for inference with
   clustered errors", Review of Economics and Statistics 90 (2008).
.. [Murphy1985] K. M. Murphy and R. H. Topel, "Estimation and inference in two-step econometric models", Journal of
   Business and Economic Statistics 3 (1985).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.calibrate.drawn import stream
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.settings import checked_seed, share, whole
from villageflow.errors import CalibrationError, VillageflowError

_FORMAT: Final = "villageflow bootstrap 1"
_FAILS: Final = (VillageflowError, ArithmeticError, ValueError)
_MANY: Final = 0.05

Data = TypeVar("Data", pd.DataFrame, Problem, dict[str, Any])
Progress = Callable[[int, int, int], None]
"""Called with draws done, draws in all, and failures."""


@dataclass(frozen=True, eq=False)
class BootstrapResult:
    """Draws of the statistics of a pipeline.

    Attributes
    ----------
    estimate : Series
        From the data as they are.
    draws : DataFrame
        One row for each draw that succeeded, by its number.
    failures : Series
        What the pipeline said in each draw that failed, by its number.
    n_entities : int
    seed : int
    """

    estimate: pd.Series[float]
    draws: pd.DataFrame
    failures: pd.Series[str]
    n_entities: int
    seed: int

    def __repr__(self) -> str:
        return f"<villageflow.BootstrapResult: {self._head()}; see summary()>"

    @property
    def std_errors(self) -> pd.Series[float]:
        """Standard deviation over the draws."""
        return self.draws.std(ddof=1)

    @property
    def bias(self) -> pd.Series[float]:
        """Mean over the draws less the estimate."""
        return self.draws.mean() - self.estimate

    def conf_int(self, level: float = 0.95, *, kind: str = "percentile") -> pd.DataFrame:
        """Confidence intervals.

        Parameters
        ----------
        level : float
            Between 0 and 1.
        kind : {"percentile", "t"}
            Quantiles of the draws; or the estimate with the standard error of the draws and t(G - 1), G the number of
            entities, which is better with few of them if the statistic is about normal.

        Returns
        -------
        DataFrame
            By statistic: lower, upper. NaN with fewer than two draws.

        Raises
        ------
        CalibrationError
            A level out of range or a kind that is not known.
        """
        level = share("level", level)
        if kind not in ("percentile", "t"):
            raise CalibrationError(f"kind={kind!r} is not known; use 'percentile' or 't'")
        ends = (0.5 - level / 2, 0.5 + level / 2)
        if kind == "t":
            found = [self.estimate + stats.t.ppf(end, self.n_entities - 1) * self.std_errors for end in ends]
        elif len(self.draws) < 2:
            found = [pd.Series(np.nan, index=self.estimate.index)] * 2
        else:
            found = [self.draws.quantile(end) for end in ends]
        return pd.DataFrame({"lower": found[0], "upper": found[1]}, index=self.estimate.index)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know; empty if every draw succeeded."""
        if not len(self.failures):
            return ()
        commonest = self.failures.value_counts()
        lost = len(self.failures) / (len(self.failures) + len(self.draws))
        said = f"{len(self.failures)} draws failed ({lost:.1%}), {commonest.iloc[0]} of them: {commonest.index[0]}"
        worry = "; errors and intervals are of the others, which may be the tamer ones" if lost > _MANY else ""
        return (said + worry,)

    def summary(self) -> str:
        """Table of estimates, errors and both intervals of 95 %."""
        percentile, t = self.conf_int(), self.conf_int(kind="t")
        table = pd.DataFrame({
            "estimate": self.estimate, "std_error": self.std_errors, "bias": self.bias,
            "lower": percentile["lower"], "upper": percentile["upper"], "t_lower": t["lower"], "t_upper": t["upper"],
        }, index=self.estimate.index)
        return "\n".join([
            f"Block bootstrap, {self._head()}", table.to_string(float_format=lambda value: f"{value:.6g}"),
            *(f"note: {note}" for note in self.notes()),
        ])

    def _head(self) -> str:
        total = len(self.draws) + len(self.failures)
        return f"{self.n_entities} entities drawn whole, {total} draws, {len(self.failures)} failed"


def bootstrap(
    pipeline: Callable[[Data], Mapping[str, float]],
    data: Data,
    *,
    draws: int,
    seed: int,
    resume: str | Path | None = None,
    progress: Progress | None = None,
) -> BootstrapResult:
    """Draw entities with replacement, run a pipeline on each sample, and keep what it finds.

    Parameters
    ----------
    pipeline : callable
        From data such as `data` to named statistics. All of the analysis belongs in it, from the first regression to
        the last number: an estimate that it takes from outside is held fixed, and its error is not in the result. It
        must be deterministic: give the fits within it a seed.
    data : DataFrame, Problem or dict of these
        A panel, with a column ``entity`` or entities in the first level of its index; or a problem; or several by
        name, of the same entities, which are drawn together.
    draws : int
        Number of samples. Draw ``b`` has the same entities whatever their number and whatever the order of the rows.
        Rows of a problem come in the order of time, so that its draws have the same bits too; those of an entity in a
        panel keep their order, which may move the last bits of a sum.
    seed : int
        Of the samples.
    resume : path, optional
        File to which every draw is written when it is done, as a line of JSON. A run that was killed goes on from it
        with the same bits, and may be lengthened.
    progress : callable, optional
        Called after each draw with draws done, draws in all and failures.

    Returns
    -------
    BootstrapResult

    Raises
    ------
    CalibrationError
        Fewer than two entities or a row without one, a pipeline that gives no mapping of names to numbers, other
        statistics on a sample than on the data or nothing finite on the data, or a file of another run or that cannot
        be read or written. An error of the pipeline on the data themselves is raised as it is.

    Notes
    -----
    Entities are the blocks: dependence within an entity is kept, and entities are taken as independent of each other.
    A shock that is common to all of them is not in the errors. A draw counts as failed if the pipeline raises a
    `VillageflowError`, ValueError (with it LinAlgError) or ArithmeticError, or gives a number that is not finite;
    other exceptions are mistakes of the pipeline and are raised. With few entities percentile intervals are too short
    [Cameron2008]_. A second stage that takes a first one as known has too short errors [Murphy1985]_; this is the
    remedy.
    """
    draws, seed = whole("draws", draws, 1), checked_seed(seed)
    if not callable(pipeline):
        raise CalibrationError(f"the pipeline is {pipeline!r:.60}; give a callable from data to named numbers")
    if resume is not None and not isinstance(resume, str | Path):
        raise CalibrationError(f"resume is {resume!r:.60}; give the path of a file, or None")
    entities = entities_of(data)
    if len(entities) < 2:
        raise CalibrationError(f"the data have {len(entities)} entity; a bootstrap over entities needs two or more")
    estimate = _numbers(pipeline(_sampled(data, entities)))
    wrong = [name for name, value in estimate.items() if not np.isfinite(value)]
    if wrong or not estimate:
        said = f"{wrong[0]!r} is {estimate[wrong[0]]} on the data" if wrong else "the pipeline gives no statistic"
        raise CalibrationError(f"{said}; a pipeline must give finite statistics")
    file = None if resume is None else Path(resume)
    identity = {"format": _FORMAT, "seed": seed, "entities": entities, "estimate": estimate}
    stored = {} if file is None else _loaded(file, identity)
    good: dict[int, list[float]] = {}
    bad: dict[int, str] = {}
    for number in range(draws):
        found = stored.get(number)
        if found is None:
            found = _run(pipeline, data, entities, estimate, stream(seed, number))
            if file is not None:
                _write(file, json.dumps({"draw": number, "found": found}) + "\n", anew=False)
        if isinstance(found, str):
            bad[number] = found
        else:
            good[number] = found
        if progress is not None:
            progress(number + 1, draws, len(bad))
    table = pd.DataFrame(list(good.values()), index=list(good), columns=list(estimate), dtype=float)
    return BootstrapResult(
        pd.Series(estimate, dtype=float), table, pd.Series(bad, dtype=object), len(entities), seed
    )


def _run(
    pipeline: Callable[[Data], Mapping[str, float]], data: Data, entities: list[str], estimate: Mapping[str, float],
    rng: np.random.Generator,
) -> list[float] | str:
    """Statistics of one sample in the order of the estimate, or why there are none."""
    chosen = [entities[at] for at in np.sort(rng.integers(len(entities), size=len(entities)))]
    sample = _sampled(data, chosen)
    try:
        given = pipeline(sample)
    except _FAILS as error:
        return f"{type(error).__name__}: {error}"
    found = _numbers(given)
    if set(found) != set(estimate):
        other = sorted(set(found) ^ set(estimate))[0]
        raise CalibrationError(f"the pipeline gives {other!r} on a sample or on the data, not on both; give the same")
    wrong = [name for name in estimate if not np.isfinite(found[name])]
    return f"{wrong[0]} is not finite" if wrong else [found[name] for name in estimate]


def _numbers(found: object) -> dict[str, float]:
    """Statistics by name; refuses what is no mapping, and values that are no numbers."""
    remedy = "it must give a mapping (or Series) of names to numbers, such as {'mean': 0.5}"
    if not isinstance(found, Mapping | pd.Series):
        said = " ".join(repr(found).split())
        raise CalibrationError(f"the pipeline gives {said:.60}, a {type(found).__name__}; {remedy}")
    numbers: dict[str, float] = {}
    for name, value in found.items():
        plain = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
        if not isinstance(plain, int | float):
            said = " ".join(repr(value).split())
            raise CalibrationError(f"the pipeline gives {name!r} as {said:.40}, a {type(value).__name__}; {remedy}")
        if str(name) in numbers:
            raise CalibrationError(f"the pipeline gives {str(name)!r} twice; give each statistic a name of its own")
        numbers[str(name)] = float(plain)
    return numbers


def entities_of(data: object) -> list[str]:
    """Entities of a panel, a problem, or a dict of these, sorted; refuses parts whose entities differ."""
    if isinstance(data, Problem):
        return sorted({*_column(data.measurements), *_column(data.holdout)})
    if isinstance(data, dict) and data:
        found = {name: entities_of(part) for name, part in data.items()}
        first = next(iter(found))
        for name, own in found.items():
            if own != found[first]:
                other = sorted(set(own) ^ set(found[first]))[0]
                raise CalibrationError(f"only one of {first!r} and {name!r} has entity {other!r}; give both the same")
        return found[first]
    if not isinstance(data, pd.DataFrame):
        raise CalibrationError(f"the data are a {type(data).__name__}; give a DataFrame, a Problem, or a dict of these")
    return sorted(set(_column(data)))


def _column(panel: pd.DataFrame) -> list[str]:
    """Entity of each row, as text."""
    if "entity" not in panel.columns and not isinstance(panel.index, pd.MultiIndex):
        raise CalibrationError("the panel has no column 'entity' and no index of entity and time; give one of them")
    named = panel["entity"] if "entity" in panel.columns else panel.index.get_level_values(0)
    nameless = np.flatnonzero(named.isna())
    if len(nameless):
        raise CalibrationError(f"row {nameless[0]} of the data has no entity; name it, or leave the row out")
    return [str(entity) for entity in named]


def _sampled(data: Any, chosen: Sequence[str]) -> Any:
    if isinstance(data, dict):
        return {name: _sampled(part, chosen) for name, part in data.items()}
    return resample_problem(data, chosen) if isinstance(data, Problem) else resample_panel(data, chosen)


def resample_problem(problem: Problem, chosen: Sequence[str]) -> Problem:
    """A problem of chosen entities, with their measurements, hold-out and covariates.

    Parameters
    ----------
    problem : Problem
        With the entities.
    chosen : sequence of str
        Entities, repeated at will. The second ``a`` is called ``a #2``, and so on.

    Returns
    -------
    Problem
        Entities in the order chosen, rows of an entity in the order of time.

    Raises
    ------
    CalibrationError
        An entity that the problem does not have, or a name that is taken.
    """
    known = [str(entity) for entity in problem.entities]
    rows = ["time", "observable"]  # one row of an entity each, so that sums over rows have one order
    tables = ((problem.measurements, rows), (problem.holdout, rows), (problem.covariates, ["name", "time"]))
    measured, held, brought = (_copies(table.sort_values(keys), chosen, known) for table, keys in tables)
    return replace(problem, measurements=measured, holdout=held, covariates=brought)


def resample_panel(panel: pd.DataFrame, chosen: Sequence[str]) -> pd.DataFrame:
    """Rows of chosen entities of a panel.

    Parameters
    ----------
    panel : DataFrame
        With a column ``entity`` or entities in the first level of its index.
    chosen : sequence of str
        Entities, repeated at will. The second ``a`` is called ``a #2``, and so on.

    Returns
    -------
    DataFrame
        Rows of an entity in the order of the panel; entities, now text, in the order chosen.

    Raises
    ------
    CalibrationError
        An entity that the panel does not have, or a name that is taken.
    """
    return _copies(panel, chosen, tuple(dict.fromkeys(_column(panel))))


def _copies(table: pd.DataFrame, chosen: Sequence[str], known: Sequence[str]) -> pd.DataFrame:
    """Rows of the chosen entities under names of their own."""
    at: dict[str, list[int]] = {}
    for place, entity in enumerate(_column(table)):
        at.setdefault(entity, []).append(place)
    seen: dict[str, int] = {}
    places: list[int] = []
    names: list[str] = []
    for entity in chosen:
        if entity not in known:
            raise CalibrationError(f"entity {entity!r} is not in the data; choose among {', '.join(sorted(known)[:5])}")
        seen[entity] = seen.get(entity, 0) + 1
        name = entity if seen[entity] == 1 else f"{entity} #{seen[entity]}"
        if name != entity and name in known:
            raise CalibrationError(f"an entity is called {name!r}, as a copy of {entity!r} would be; rename it")
        own = at.get(entity, [])
        places += own
        names += [name] * len(own)
    found = table.iloc[places]
    if "entity" in table.columns:
        return found.assign(entity=names).reset_index(drop=True)
    levels = [pd.Index(names), *(found.index.get_level_values(level) for level in range(1, found.index.nlevels))]
    return found.set_axis(pd.MultiIndex.from_arrays(levels, names=found.index.names), axis=0)


def _loaded(file: Path, identity: Mapping[str, Any]) -> dict[int, list[float] | str]:
    """Draws of a file of this run; a new file begins with the identity, a last line cut short is taken away."""
    try:
        text = file.read_bytes().decode("utf-8")
        complete = text[:text.rfind("\n") + 1]
        lines = [json.loads(line) for line in complete.splitlines()]
        if not lines or not isinstance(lines[0], dict):
            raise ValueError("it does not begin with a line that says of which run")
    except FileNotFoundError:
        _write(file, json.dumps(dict(identity)) + "\n", anew=True)
        return {}
    except OSError as error:
        raise CalibrationError(f"{file} cannot be read ({error.strerror}); name another file") from None
    except ValueError as error:
        raise _unreadable(file, error) from None
    for name, value in identity.items():
        if lines[0].get(name) != value:
            raise CalibrationError(
                f"the draws in {file} are of a run with another {name}; resume with what began it, or name another file"
            )
    size = len(identity["estimate"])
    wrong = [number for number, line in enumerate(lines[1:], start=2) if not _is_draw(line, size)]
    if wrong:
        raise _unreadable(file, f"line {wrong[0]} is no draw of {size} numbers")
    if complete != text:
        _write(file, complete, anew=True)
    return {line["draw"]: line["found"] for line in lines[1:]}


def _is_draw(line: object, size: int) -> bool:
    """Whether a line has a draw's number and its finite statistics, or why there are none."""
    if not isinstance(line, dict) or type(line.get("draw")) is not int:
        return False
    found = line.get("found")
    if isinstance(found, list):
        return len(found) == size and all(isinstance(value, float) and math.isfinite(value) for value in found)
    return isinstance(found, str)


def _unreadable(file: Path, why: object) -> CalibrationError:
    return CalibrationError(
        f"{file} cannot be read as draws of a bootstrap ({why}); remove it to start anew, or name another file"
    )


def _write(file: Path, text: str, *, anew: bool) -> None:
    """Append text; or write a whole new file, then put it in the place of the old one."""
    beside = file.with_name(file.name + ".part") if anew else file
    try:
        with beside.open("w" if anew else "a", encoding="utf-8") as lines:
            lines.write(text)
        if anew:
            beside.replace(file)
    except OSError as error:
        raise CalibrationError(f"{file} cannot be written ({error.strerror}); name another file") from None
