"""The operations of the tape: one table, from which the kernel's constants are written at build time.

An operation reads registers and writes one register. A *vector* register holds one value for each member of a
block, a *scalar* register one value for all. The suffix tells the operand kinds: none = vector (and vector),
``_VS`` = vector and scalar, ``_SV`` = scalar and vector. Scalar segments run the unsuffixed operations over
registers of width one. A *pair* is two operations of arithmetic in one loop, each rounded as it would be alone:
``MULTIPLY_VS_ADD_V`` is (vector * scalar) + vector, ``..._FROM_V`` and ``..._INTO_V`` take the vector first.

An operation has a *count*: it is done for that many neighbouring registers, each with the neighbours of its vector
operands, and with the same scalars. For one member alone neighbours are one row of numbers, and that is one loop.

This file imports nothing, because the build runs it alone.
"""

UNARY = (
    "COPY", "NEGATIVE", "ABS", "EXP", "LN", "SQRT", "INTEGER", "NOT",
    "SIN", "COS", "TAN", "ARCSIN", "ARCCOS", "ARCTAN", "SINH", "COSH", "TANH",
    "NORMAL_PROBABILITY", "NORMAL_QUANTILE",
)
BINARY = (
    "ADD", "SUBTRACT", "MULTIPLY", "DIVIDE", "POWER", "MODULO", "MIN", "MAX",
    "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "AND", "OR",
    "ALLOCATION_SHARE",
)
VECTOR_SCALAR = (
    "ADD", "SUBTRACT", "MULTIPLY", "DIVIDE", "MIN", "MAX",
    "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL",
)
SCALAR_VECTOR = ("SUBTRACT", "DIVIDE", "MIN", "MAX")
TERNARY = (
    "IF_THEN_ELSE", "XIDZ",
    "COUNT_PROBABILITY", "COUNT_QUANTILE",  # of a count or a probability, and a and b of the (a, b, 0) class
    "BETA_PROBABILITY", "BETA_QUANTILE",  # of a value or a probability, and two shapes; infinite: gamma
)
LISTED = (  # destination, first entry and number of entries of the program's list of registers
    "ALLOCATION_PRICE",
    "SUM",  # from left to right
    "GATHER",  # copies them to as many registers from the destination on
)
ONE_BY_ONE = (*LISTED, "HOLD", "UNIFORM", "GIVEN")
"""Operations whose count is 1."""

ARITHMETIC = {"ADD": "+", "SUBTRACT": "-", "MULTIPLY": "*", "DIVIDE": "/"}
THIRD_FIRST = {"SUBTRACT": "FROM", "DIVIDE": "INTO"}
"""How a pair is called whose second operation has the result of the first on its right."""

SWAPPED = {
    "ADD": "ADD", "MULTIPLY": "MULTIPLY", "LESS": "GREATER", "LESS_EQUAL": "GREATER_EQUAL",
    "GREATER": "LESS", "GREATER_EQUAL": "LESS_EQUAL",
}
"""Operations whose operands may change places without a change of bits."""


def _pairs() -> dict[str, tuple[str, str, bool, str]]:
    """Name -> first operation, second, whether the third operand is on its left, kinds of the three operands."""
    found = {}
    for first in ARITHMETIC:
        for kinds in ("VV", "VS") if first in SWAPPED else ("VV", "VS", "SV"):
            for third in "VS":
                for second in ARITHMETIC:
                    found[f"{first}_{kinds}_{second}_{third}"] = (first, second, False, kinds + third)
                for second, written in THIRD_FIRST.items():
                    found[f"{first}_{kinds}_{written}_{third}"] = (first, second, True, kinds + third)
    return found


PAIRS = _pairs()

NAMES = (
    *UNARY,
    *BINARY,
    *(f"{name}_VS" for name in VECTOR_SCALAR),
    *(f"{name}_SV" for name in SCALAR_VECTOR),
    *TERNARY,
    *LISTED,
    "TABLE",  # destination, argument, number of the table
    "FILL",   # destination vector, source scalar
    "HOLD",   # destination keeps its value unless the condition holds; runs in the first stage of a step only
    "UNIFORM",  # destination, seed argument, number of the stream: the same in every stage of a step
    "GIVEN",  # destination, number of the supplied series: its value at the step
    *PAIRS,  # last: the kernel knows a pair by its number
)
CODES = {name: code for code, name in enumerate(NAMES)}

OPERANDS = (
    dict.fromkeys(UNARY, "V")
    | dict.fromkeys(BINARY, "VV")
    | {f"{name}_VS": "VS" for name in VECTOR_SCALAR}
    | {f"{name}_SV": "SV" for name in SCALAR_VECTOR}
    | dict.fromkeys(TERNARY, "VVV")
    | dict.fromkeys(LISTED, "")
    | {"TABLE": "V", "FILL": "S", "HOLD": "VV", "UNIFORM": "V", "GIVEN": ""}
    | {name: kinds for name, (*_, kinds) in PAIRS.items()}
)
"""Kind of each register that an operation reads: vector or scalar."""


def for_kinds(name: str, kinds: str) -> str:
    """The operation of the same meaning whose operands have these kinds, some of them vectors instead of scalars."""
    if name in PAIRS:
        first, second, third_first, _ = PAIRS[name]
        return f"{first}_{kinds[:2]}_{THIRD_FIRST[second] if third_first else second}_{kinds[2]}"
    return name if kinds == OPERANDS[name] else name.removesuffix("_VS").removesuffix("_SV")


XIDZ_ZERO = 1e-6
"""A divisor closer to zero than this counts as zero in XIDZ and ZIDZ, as Vensim documents."""


def kernel_text() -> str:
    """The text of ``_kernels/_opcodes.pxi``: the constants, and the loops of the pairs."""
    lines = ["# Written by the build from program/opcodes.py.", "cdef enum:"]
    lines += [f"    OP_{name} = {code}" for name, code in CODES.items()]
    lines += [
        f"    FIRST_PAIR = {min(CODES[name] for name in PAIRS)}",
        "",
        f"cdef double XIDZ_ZERO = {XIDZ_ZERO!r}",
        "",
        "cdef void pair(const int* at, Out d, In a, In b, In c, int n, const double* scalar) noexcept nogil:",
        "    cdef int i, op = at[0]",
        "    cdef double s, t",
    ]
    for position, name in enumerate(PAIRS):
        lines += [f"    {'el' if position else ''}if op == OP_{name}:", *_pair_loop(*PAIRS[name])]
    return "\n".join([*lines, ""])


def _pair_loop(first: str, second: str, third_first: bool, kinds: str) -> list[str]:
    loads, terms, free = [], [], iter("st")
    for operand, kind in enumerate(kinds):
        if kind == "S":
            terms.append(next(free))
            loads.append(f"        {terms[-1]} = scalar[at[{operand + 2}]]")
        else:
            terms.append(f"{'abc'[operand]}[i]")
    inner = f"({terms[0]} {ARITHMETIC[first]} {terms[1]})"
    left, right = (terms[2], inner) if third_first else (inner, terms[2])
    return [*loads, "        for i in range(n):", f"            d[i] = {left} {ARITHMETIC[second]} {right}"]
