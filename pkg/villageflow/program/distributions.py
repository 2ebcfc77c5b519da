"""Random functions in terms of tape operations: the quantile of a distribution at a uniform number.

A distribution is inverted within its bounds, so that one number in (0, 1) gives one value between them; redrawing
until a value lies within would give the same distribution. What has no such distribution (bounds in the wrong
order or without probability between them, a negative standard deviation) is not a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from villageflow.program.graph import Graph


@dataclass(frozen=True, slots=True)
class _Term:
    """A value of a graph, with arithmetic."""

    graph: Graph
    index: int

    def op(self, operation: str, *others: _Term | float) -> _Term:
        operands = [other.index if isinstance(other, _Term) else self.graph.literal(float(other)) for other in others]
        return _Term(self.graph, self.graph.op(operation, self.index, *operands))

    def literal(self, value: float) -> _Term:
        return _Term(self.graph, self.graph.literal(value))

    def __add__(self, other: _Term | float) -> _Term:
        return self.op("ADD", other)

    def __sub__(self, other: _Term | float) -> _Term:
        return self.op("SUBTRACT", other)

    def __rsub__(self, other: float) -> _Term:
        return self.literal(other).op("SUBTRACT", self)

    def __mul__(self, other: _Term | float) -> _Term:
        return self.op("MULTIPLY", other)

    def __rtruediv__(self, other: float) -> _Term:
        return self.literal(other).op("DIVIDE", self)

    def __truediv__(self, other: _Term | float) -> _Term:
        return self.op("DIVIDE", other)

    def __neg__(self) -> _Term:
        return self.op("NEGATIVE")

    def __lt__(self, other: _Term | float) -> _Term:
        return self.op("LESS", other)

    def __le__(self, other: _Term | float) -> _Term:
        return self.op("LESS_EQUAL", other)

    def __gt__(self, other: _Term | float) -> _Term:
        return self.op("GREATER", other)

    def __ge__(self, other: _Term | float) -> _Term:
        return self.op("GREATER_EQUAL", other)

    def __and__(self, other: _Term) -> _Term:
        return self.op("AND", other)

    def same(self, other: _Term | float) -> _Term:
        return self.op("EQUAL", other)

    def where(self, yes: _Term | float, no: _Term | float) -> _Term:
        """`yes` where this holds, else `no`."""
        return self.op("IF_THEN_ELSE", yes, no)

    def within(self, low: _Term | float, high: _Term | float) -> _Term:
        return self.op("MIN", high).op("MAX", low)

    def only_if(self, valid: _Term) -> _Term:
        return valid.where(self, math.nan)


def compose_random(graph: Graph, function: str, operands: tuple[int, ...]) -> int:
    """The value of a random function: a uniform number, then the arguments as `lower.draws` orders them."""
    return _QUANTILES[function](*(_Term(graph, operand) for operand in operands)).index


def _uniform(u: _Term, low: _Term, high: _Term) -> _Term:
    return (low + u * (high - low)).op("MIN", high).only_if(low <= high)


def _normal(u: _Term, low: _Term, high: _Term, mean: _Term, sd: _Term) -> _Term:
    return _stretched(low, high, mean, sd, lambda a, b: _standard_normal(u, a, b)).only_if(sd >= 0.0)


def _exponential(u: _Term, low: _Term, high: _Term, shift: _Term, stretch: _Term) -> _Term:
    return _stretched(low, high, shift, stretch, lambda a, b: _standard_exponential(u, a, b))


def _triangular(u: _Term, low: _Term, high: _Term, start: _Term, peak: _Term, stop: _Term) -> _Term:
    width, rise, fall = stop - start, peak - start, stop - peak

    def probability(x: _Term) -> _Term:
        inside = x.within(start, stop)
        left, right = inside - start, stop - inside
        after = (inside < stop).where(1.0 - right * right / (width * fall), 1.0)
        return (inside < peak).where(left * left / (width * rise), after)

    p_low, p_high = probability(low), probability(high)
    p = p_low + u * (p_high - p_low)
    rising = start + (p * (width * rise)).op("SQRT")
    falling = stop - ((1.0 - p) * (width * fall)).op("SQRT")
    value = (p < rise / width).where(rising, falling).within(low, high)
    return value.only_if((start <= peak) & (peak <= stop) & (p_low < p_high))


def _poisson(u: _Term, low: _Term, high: _Term, mean: _Term, shift: _Term, stretch: _Term) -> _Term:
    return _stretched(low, high, shift, stretch, lambda a, b: _count(u, a, b, mean.literal(0.0), mean))


def _binomial(
    u: _Term, low: _Term, high: _Term, chance: _Term, trials: _Term, shift: _Term, stretch: _Term
) -> _Term:
    """Successes; failures are counted instead where they are fewer, so that certainty is no special case."""
    rare = chance <= 0.5
    p = rare.where(chance, 1.0 - chance)
    odds = p / (1.0 - p)

    def standard(a: _Term, b: _Term) -> _Term:
        bounds = rare.where(a, trials - b), rare.where(b, trials - a)
        count = _count(rare.where(u, 1.0 - u), *bounds, -odds, (trials + 1.0) * odds)
        return rare.where(count, trials - count)

    whole = trials.op("INTEGER").same(trials) & (trials >= 0.0)
    return _stretched(low, high, shift, stretch, standard).only_if(whole & (chance >= 0.0) & (chance <= 1.0))


def _negative_binomial(
    u: _Term, low: _Term, high: _Term, chance: _Term, successes: _Term, shift: _Term, stretch: _Term
) -> _Term:
    """Trials until the last success."""
    failure = 1.0 - chance

    def standard(a: _Term, b: _Term) -> _Term:
        return successes + _count(u, a - successes, b - successes, failure, (successes - 1.0) * failure)

    whole = successes.op("INTEGER").same(successes) & (successes >= 1.0)
    return _stretched(low, high, shift, stretch, standard).only_if(whole & (chance <= 1.0))


def _gamma(u: _Term, low: _Term, high: _Term, shape: _Term, shift: _Term, stretch: _Term) -> _Term:
    """With mean `shape` before it is stretched."""
    return _beta(u, low, high, shape, shape.literal(math.inf), shift, stretch)


def _beta(u: _Term, low: _Term, high: _Term, a: _Term, b: _Term, shift: _Term, stretch: _Term) -> _Term:
    def standard(least: _Term, most: _Term) -> _Term:
        p_low, p_high = least.op("BETA_PROBABILITY", a, b), most.op("BETA_PROBABILITY", a, b)
        return (p_low + u * (p_high - p_low)).op("BETA_QUANTILE", a, b).only_if(p_low < p_high)

    return _stretched(low, high, shift, stretch, standard)


def _weibull(u: _Term, low: _Term, high: _Term, shape: _Term, shift: _Term, stretch: _Term) -> _Term:
    """A power of an exponential one, with mean 1 before it is stretched."""
    mean = _ln_gamma(1.0 / shape + 1.0).op("EXP")

    def standard(least: _Term, most: _Term) -> _Term:
        def bound(x: _Term) -> _Term:
            return (x.op("MAX", 0.0) * mean).op("POWER", shape)

        value = _standard_exponential(u, bound(least), bound(most)).op("POWER", 1.0 / shape) / mean
        return value.only_if(most >= 0.0)

    return _stretched(low, high, shift, stretch, standard).only_if(shape > 0.0)


def _ln_gamma(x: _Term) -> _Term:
    """Logarithm of the gamma function for x >= 1, by Stirling's series at x + 8."""
    product = x
    for k in range(1, 8):
        product = product * (x + float(k))
    y = x + 8.0
    square = y * y
    series = y.literal(_STIRLING[-1])
    for coefficient in _STIRLING[-2::-1]:
        series = series / square + coefficient
    return (y - 0.5) * y.op("LN") - y + _HALF_LN_2PI + series / y - product.op("LN")


_STIRLING: Final = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
_HALF_LN_2PI: Final = 0.9189385332046728


_Standard: TypeAlias = Callable[[_Term, _Term], _Term]


def _stretched(low: _Term, high: _Term, shift: _Term, stretch: _Term, standard: _Standard) -> _Term:
    """A distribution times `stretch` plus `shift`, between `low` and `high`; without a stretch it is the shift."""
    one, other = (low - shift) / stretch, (high - shift) / stretch
    value = (shift + stretch * standard(one.op("MIN", other), one.op("MAX", other))).within(low, high)
    fixed = shift.only_if((low <= shift) & (shift <= high))
    return stretch.same(0.0).where(fixed, value).only_if(low <= high)


def _standard_normal(u: _Term, low: _Term, high: _Term) -> _Term:
    """Bounds that lie mostly above 0 are mirrored, because probabilities are accurate near 0, not near 1."""
    above = low > -high
    p_low = above.where(-high, low).op("NORMAL_PROBABILITY")
    p_high = above.where(-low, high).op("NORMAL_PROBABILITY")
    z = (p_low + above.where(1.0 - u, u) * (p_high - p_low)).op("NORMAL_QUANTILE")
    return above.where(-z, z).only_if(p_low < p_high)


def _standard_exponential(u: _Term, low: _Term, high: _Term) -> _Term:
    start = low.op("MAX", 0.0)
    value = start - ((1.0 - u) + u * (start - high).op("EXP")).op("LN")
    return value.only_if(start <= high)


def _count(u: _Term, low: _Term, high: _Term, a: _Term, b: _Term) -> _Term:
    """A count of the (a, b, 0) class between two bounds, neither of which must be whole."""
    below = low.op("INTEGER")
    first = below + (below < low)
    p_low = (first - 1.0).op("COUNT_PROBABILITY", a, b)
    p_high = high.op("COUNT_PROBABILITY", a, b)
    count = (p_low + u * (p_high - p_low)).op("COUNT_QUANTILE", a, b)
    return count.within(first, high.op("INTEGER")).only_if(p_low < p_high)


_QUANTILES: Final[dict[str, Callable[..., _Term]]] = {
    "random_uniform": _uniform,
    "random_normal": _normal,
    "random_exponential": _exponential,
    "random_triangular": _triangular,
    "random_beta": _beta,
    "random_gamma": _gamma,
    "random_weibull": _weibull,
    "random_poisson": _poisson,
    "random_binomial": _binomial,
    "random_negative_binomial": _negative_binomial,
}
