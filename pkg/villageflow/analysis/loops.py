"""Causal links and feedback loops: which equation reads what, and with which sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.ensemble.design import DesignLike, as_design, check_model
from villageflow.ensemble.jacobian import jacobian
from villageflow.ensemble.schema import FINISHED, STATUS
from villageflow.ensemble.simulate import simulate
from villageflow.errors import DesignError, did_you_mean
from villageflow.ir.model import Kind, Model, Variable
from villageflow.ir.nodes import Expr, Num, Ref
from villageflow.ir.walk import fold, nodes, rebuild
from villageflow.names import variable_id

Link = tuple[str, str]
Floats = npt.NDArray[np.float64]

_MOMENTS: Final = 6
_SMALLEST: Final = 1e-12
_GRID: Final = ("initial_time", "final_time", "time_step", "saveper")


@dataclass(frozen=True)
class LinkSign:
    """Shares of members and times in which a link is positive and negative; in the rest it is zero."""

    source: str
    target: str
    positive: float
    negative: float

    @property
    def sign(self) -> str:
        """One of ``+``, ``-``, ``0``, and ``±`` where it depends on state."""
        if self.positive and self.negative:
            return "±"
        return "+" if self.positive else "-" if self.negative else "0"


def causal_links(model: Model) -> dict[str, tuple[str, ...]]:
    """What the equation of each variable reads.

    Parameters
    ----------
    model : Model
        As `read_model` gives it.

    Returns
    -------
    dict of str to tuple of str
        Stock or auxiliary -> stocks, auxiliaries and constants in its equation; for a stock, in its net flow. Initial
        values are not links. Variables that smooths and delays expand to have ids that begin with ``#``.
    """
    check_model(model)
    return {name: _read(expr) for name, expr in _equations(model).items()}


def link_signs(model: Model, links: Iterable[Link], design: DesignLike = None, *, moments: int = _MOMENTS
               ) -> pd.DataFrame:
    """Signs of links: of the derivative of one equation by one variable that it reads, over members and times.

    Parameters
    ----------
    model : Model
        Without functions with memory in the equations of the links (write a smooth or a delay as stocks).
    links : iterable of (str, str)
        Source and target, in any spelling; the equation of the target reads the source. The equation of a stock is its
        net flow.
    design : Design, DataFrame, dict or None
        Members, as in `simulate`; those that do not stay finite are left out.
    moments : int
        Saved times at which the links are looked at, at least 1, evenly spread, the first included.

    Returns
    -------
    DataFrame
        A row for each link: ``source``, ``target``, shares ``positive``, ``negative`` and ``zero`` over members and
        times, and ``sign``: ``+`` or ``-`` where no member and time has the other, ``0`` where all are zero, ``±``
        where the sign depends on state. All other variables of the equation are held: the derivative is partial. A
        derivative counts as zero where it moves the target by less than 1e-12 of its size per doubling of the source.

    Raises
    ------
    DesignError
        A link that the model does not have, or one through a function with memory.
    """
    pairs: dict[Link, None] = {}
    for link in links:
        if isinstance(link, str) or len(link) != 2:
            raise DesignError(f"{link!r} is no link; give pairs of source and target, such as [('stores', 'growth')]")
        pairs[variable_id(link[0]), variable_id(link[1])] = None
    if moments < 1:
        raise DesignError(f"moments is {moments!r}; it must be at least 1")
    found = _link_signs(model, list(pairs), design, moments).values()
    return pd.DataFrame(
        [{"source": link.source, "target": link.target, "positive": link.positive, "negative": link.negative,
          "zero": 1.0 - link.positive - link.negative, "sign": link.sign} for link in found],
        columns=["source", "target", "positive", "negative", "zero", "sign"],
    )


def _link_signs(model: Model, pairs: list[Link], design: DesignLike, moments: int) -> dict[Link, LinkSign]:
    check_model(model)
    equations = _equations(model)
    if not pairs:
        return {}
    _check(model, pairs, equations)
    members = as_design(design, model)
    needed = sorted({name for _, target in pairs for name in _read(equations[target])})
    own = [name for name in needed if name not in model.constants]
    runs = simulate(model, members, save=own or None, errors="flag")
    rows = np.flatnonzero(runs[STATUS].values == FINISHED)
    places = np.unique(np.linspace(0, runs.sizes["time"] - 1, moments).round().astype(int))
    opened = _opened(model, pairs, equations)
    signs: list[Floats] = []
    for place in places:
        at = {name: runs[name].values[rows, place] for name in own}
        at |= {name: members.table[name].to_numpy()[rows] for name in needed if name in members.table}
        at |= {f"#{name}": np.full(len(rows), runs.attrs[_attribute(name)]) for name in _GRID}
        signs.append(_signs(opened, pairs, pd.DataFrame(at), float(runs["time"].values[place]),
                            float(runs.attrs["time_step"])))
    of_link = zip(pairs, np.concatenate(signs, axis=1), strict=True)
    return {
        (source, target): LinkSign(source, target, float((of > 0).mean()), float((of < 0).mean()))
        for (source, target), of in of_link
    }


def loop_signs(model: Model, chains: Mapping[str, Sequence[str]], design: DesignLike = None) -> pd.DataFrame:
    """Polarity of loops from the signs of their links.

    Parameters
    ----------
    model : Model
        As for `link_signs`.
    chains : mapping of str to sequence of str
        Name of a loop -> its variables in causal order, in any spelling; the last acts on the first.
    design : Design, DataFrame, dict or None
        Members over which signs are looked at.

    Returns
    -------
    DataFrame
        A row for each loop: ``signs`` of its links in order, ``depends``, the links whose sign depends on state with
        the share of members and times in which it is positive, and ``polarity``: ``R`` for an even number of negative
        links, ``B`` for an odd one, where a sign that depends on state counts as the more frequent one; blank where a
        link is zero throughout.

    Raises
    ------
    DesignError
        As for `link_signs`, or a chain without variables.

    Examples
    --------
    >>> loop_signs(model, {"R1": ["stores", "growth"]})  # doctest: +SKIP
    >>> claimed = library.loops("resilience")  # doctest: +SKIP
    >>> loop_signs(model, {row.loop: row.variables.split(" > ") for row in claimed.itertuples()})  # doctest: +SKIP
    """
    found: dict[str, list[Link]] = {}
    for name, chain in chains.items():
        if isinstance(chain, str) or not len(chain):
            raise DesignError(f"loop {name!r} is {chain!r}; give its variables as a list, such as ['stores', 'growth']")
        ids = [variable_id(written) for written in chain]
        found[name] = list(zip(ids, [*ids[1:], ids[0]], strict=True))
    links = list(dict.fromkeys(link for loop in found.values() for link in loop))
    of_link = _link_signs(model, links, design, _MOMENTS)
    rows = []
    for name, loop in found.items():
        of_loop = [of_link[link] for link in loop]
        depends = [f"{link.source} > {link.target} ({link.positive:.2f})" for link in of_loop if link.sign == "±"]
        negative = sum(link.negative > link.positive for link in of_loop)
        polarity = "" if any(link.sign == "0" for link in of_loop) else "RB"[negative % 2]
        signs = "".join(link.sign for link in of_loop)
        rows.append({"loop": name, "signs": signs, "depends": ", ".join(depends), "polarity": polarity})
    return pd.DataFrame(rows, columns=["loop", "signs", "depends", "polarity"])


def _equations(model: Model) -> dict[str, Expr]:
    found = {name: expr for name, expr in model.auxiliaries.items() if name not in _GRID}
    found |= {name: stock.net_flow for name, stock in model.stocks.items()}
    return found


def _read(expr: Expr) -> tuple[str, ...]:
    names = dict.fromkeys(node.name for node in nodes(expr) if isinstance(node, Ref))
    return tuple(name for name in names if name not in (*_GRID, "time"))


def _check(model: Model, pairs: list[Link], equations: Mapping[str, Expr]) -> None:
    for source, target in pairs:
        if target not in equations:
            raise DesignError(f"the link {source} > {target} ends in no equation of model {model.name!r}. "
                              f"{did_you_mean(target, equations)}")
        for name in _read(equations[target]):
            if name not in model.variables or name in model.holds or name in model.delays:
                raise DesignError(f"the equation of {target!r} has a function with memory, whose link has no "
                                  "derivative at a moment; write the smooth or delay as stocks")
        if source not in _read(equations[target]):
            reads = ", ".join(_read(equations[target])) or "nothing"
            raise DesignError(f"model {model.name!r} has no link {source} > {target}: {target!r} reads {reads}")


def _opened(model: Model, pairs: list[Link], equations: Mapping[str, Expr]) -> Model:
    """The equations of the targets alone, every variable that they read a constant."""
    targets = {target: fold(equations[target], _free) for _, target in pairs}
    names = sorted({name for expr in targets.values() for name in _read(expr)})
    constants = {name: float(model.constants.get(name, 0.0)) for name in names}
    free = {name: Variable(name, name, Kind.CONSTANT, "", "", (None, None), "") for name in constants}
    outputs = {f"={target}": expr for target, expr in targets.items()}
    made = {name: Variable(name, name, Kind.AUXILIARY, "", "", (None, None), "") for name in outputs}
    return replace(
        model, stocks={}, holds={}, delays={}, initials={}, auxiliaries=outputs, constants=constants, arrays={},
        variables={**free, **made}, initial_order=tuple(outputs), step_order=tuple(outputs), structural={},
    )


def _free(node: Expr, operands: tuple[Expr, ...]) -> Expr:
    """The time grid of the run as constants of their own: the equations are looked at from other times."""
    return Ref(f"#{node.name}") if isinstance(node, Ref) and node.name in _GRID else rebuild(node, operands)


def _attribute(name: str) -> str:
    return {"saveper": "save_every"}.get(name, name)


def _signs(opened: Model, pairs: list[Link], at: pd.DataFrame, time: float, step: float) -> Floats:
    """(link, member) signs at one time."""
    moment = replace(opened, controls={
        "initial_time": Num(time), "final_time": Num(time + step), "time_step": Num(step), "saveper": Num(step)
    })
    table = at[[name for name in at if name in opened.constants]]
    sources = list(dict.fromkeys(source for source, _ in pairs))
    outputs = list(dict.fromkeys(f"={target}" for _, target in pairs))
    design = table if len(table.columns) else None
    slopes = jacobian(moment, sources, design, save=outputs, method="euler", errors="flag")
    values = simulate(moment, design, save=outputs, method="euler", errors="flag")
    signs = np.zeros((len(pairs), len(at)))
    # bare variables: each DataArray would carry all columns of the design as coordinates
    slope_of, value_of = ({name: ds.variables[name].values for name in outputs} for ds in (slopes, values))
    for row, (source, target) in enumerate(pairs):
        slope = slope_of[f"={target}"][:, sources.index(source), 0]
        level = table[source].to_numpy() if source in table else opened.constants[source]
        size = np.abs(value_of[f"={target}"][:, 0])
        matters = np.abs(slope) * np.maximum(np.abs(level), _SMALLEST) > _SMALLEST * size
        signs[row] = np.where(matters & np.isfinite(slope), np.sign(slope), 0.0)
    return signs
