"""Random functions of the modelling languages, in terms of one uniform number and one list of distributions.

A lowered call begins with the uniform number; the arguments that follow are Vensim's without the seed:
least value, greatest value, shape, shift, stretch. `program.distributions` gives each its value.
"""

from __future__ import annotations

import math

from villageflow.ir.functions import RANDOM
from villageflow.ir.nodes import Call, Expr, Num, Ref, Uniform

_LOW, _HIGH = Num(-math.inf), Num(math.inf)
_ZERO, _ONE = Num(0.0), Num(1.0)


def draw(function: str, arguments: tuple[Expr, ...], stream: str, default_seed: Expr) -> Expr:
    """A random call over its own stream.

    Parameters
    ----------
    function : str
        A key of `ir.functions.RANDOM`, but for pink noise, which has a memory.
    arguments : tuple of Expr
        As written.
    stream : str
        Of the call, see `ir.nodes.Uniform`.
    default_seed : Expr
        Stands for a seed that is left out or a literal 0.

    Returns
    -------
    Expr
    """
    least, most = RANDOM[function]
    n_parameters = least if least < most else max(least - 1, 0)  # Vensim's calls end with the seed
    parameters, rest = arguments[:n_parameters], arguments[n_parameters:]
    seed, low, high = (rest[i] if i < len(rest) else absent for i, absent in enumerate((_ZERO, _LOW, _HIGH)))
    u = Uniform(stream, default_seed if seed == _ZERO else seed)
    if function == "random_0_1":
        return u
    return _xmile(function, u, parameters, low, high) if least < most else Call(function, (u, *parameters))


def _xmile(function: str, u: Uniform, parameters: tuple[Expr, ...], low: Expr, high: Expr) -> Expr:
    match function:
        case "normal":
            return Call("random_normal", (u, low, high, *parameters))
        case "lognormal":
            return Call("exp", (Call("random_normal", (u, low, high, *parameters)),))
        case "exprnd":
            return Call("random_exponential", (u, low, high, _ZERO, *parameters))
        case "beta":
            return Call("random_beta", (u, low, high, *parameters, _ZERO, _ONE))
        case "gamma":
            shape, scale = parameters
            return Call("random_gamma", (u, low, high, shape, _ZERO, scale))
        case "binomial":
            trials, chance = parameters
            possible = Call("if_then_else", (_between(chance, _ZERO, _ONE), chance, _ONE))
            return Call("random_binomial", (u, low, high, possible, trials, _ZERO, _ONE))
        case "montecarlo":
            (percent,) = parameters
            chance = Call("divide", (Call("multiply", (percent, Ref("time_step"))), Num(100.0)))
            return Call("and", (_between(percent, _ZERO, Num(100.0)), Call("less_equal", (u, chance))))
        case _:  # random, uniform
            return Call("random_uniform", (u, *parameters))


def _between(value: Expr, low: Expr, high: Expr) -> Expr:
    return Call("and", (Call("less_equal", (low, value)), Call("less_equal", (value, high))))
