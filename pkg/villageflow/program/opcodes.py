"""The operations of the tape: one table, from which the kernel's constants are written at build time.

An operation reads registers and writes one register. A *vector* register holds one value for each member of a
block, a *scalar* register one value for all. The suffix tells the operand kinds: none = vector (and vector),
``_VS`` = vector and scalar, ``_SV`` = scalar and vector. Scalar segments run the unsuffixed operations over
registers of width one.

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
LISTED = ("ALLOCATION_PRICE",)  # destination, first entry and number of entries of the program's list of registers

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
)
CODES = {name: code for code, name in enumerate(NAMES)}

SWAPPED = {
    "ADD": "ADD", "MULTIPLY": "MULTIPLY", "LESS": "GREATER", "LESS_EQUAL": "GREATER_EQUAL",
    "GREATER": "LESS", "GREATER_EQUAL": "LESS_EQUAL",
}
"""Operations whose operands may change places without a change of bits."""

XIDZ_ZERO = 1e-6
"""A divisor closer to zero than this counts as zero in XIDZ and ZIDZ, as Vensim documents."""


def cython_constants() -> str:
    """The text of ``_kernels/_opcodes.pxi``."""
    lines = ["# Written by the build from program/opcodes.py.", "cdef enum:"]
    lines += [f"    OP_{name} = {code}" for name, code in CODES.items()]
    lines += ["", f"cdef double XIDZ_ZERO = {XIDZ_ZERO!r}", ""]
    return "\n".join(lines)
