"""A peer that nothing general can beat by much: the equations of one model, fused into one C function.

Written from the value graph, so that common subexpressions are shared, literals folded, and what does not change
within a run or between members is taken out of the loop. What is left is the body of one loop over the members of a
block, for the compiler to keep in registers and to turn into vector instructions, with fast-math and the C library's
vector functions. Euler only. The C text and its library are temporary files.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from villageflow.ir.model import Model
from villageflow.program.graph import Graph, Rate, build_graph
from villageflow.program.program import SCALARS
from villageflow.program.tables import breakpoints
from villageflow.timegrid import TimeGrid

Floats = npt.NDArray[np.float64]

FLAGS = "-O3 -march=native -mprefer-vector-width=512 -ffast-math"

_C = {
    "NEGATIVE": "-{0}", "ABS": "fabs({0})", "EXP": "exp({0})", "LN": "log({0})", "SQRT": "sqrt({0})",
    "INTEGER": "trunc({0})", "NOT": "({0} == 0)", "SIN": "sin({0})", "COS": "cos({0})", "TAN": "tan({0})",
    "ARCSIN": "asin({0})", "ARCCOS": "acos({0})", "ARCTAN": "atan({0})", "SINH": "sinh({0})", "COSH": "cosh({0})",
    "TANH": "tanh({0})", "ADD": "{0} + {1}", "SUBTRACT": "{0} - {1}", "MULTIPLY": "{0} * {1}", "DIVIDE": "{0} / {1}",
    "POWER": "pow({0}, {1})", "MODULO": "fmod({0}, {1})", "MIN": "{0} < {1} ? {0} : {1}",
    "MAX": "{0} > {1} ? {0} : {1}", "LESS": "{0} < {1}", "LESS_EQUAL": "{0} <= {1}", "GREATER": "{0} > {1}",
    "GREATER_EQUAL": "{0} >= {1}", "EQUAL": "{0} == {1}", "NOT_EQUAL": "{0} != {1}",
    "AND": "({0} != 0) & ({1} != 0)", "OR": "({0} != 0) | ({1} != 0)", "IF_THEN_ELSE": "{0} != 0 ? {1} : {2}",
    "XIDZ": "fabs({1}) < 1e-6 ? {2} : {0} / {1}",
}


class UnsupportedError(Exception):
    """The model has an operation that the fused C does not know, or there is no compiler."""


def fused_c(
    model: Model, varied: Sequence[str], saves: Sequence[str], grid: TimeGrid, *, block: int
) -> Callable[[Floats], Floats]:
    """Generate, compile and load.

    Parameters
    ----------
    model : Model
        What to run.
    varied : sequence of str
        Constants given for each member; the others are literals of the C text.
    saves : sequence of str
        Variables to return.
    grid : TimeGrid
        When; literals of the C text.
    block : int
        Members in the inner loop; 1 runs one member at a time.

    Returns
    -------
    callable
        (n_varied, n_members) array of parameters -> (n_saves, n_times, n_members) array.

    Raises
    ------
    UnsupportedError
        No C compiler, or a construct without a translation, named.
    """
    library = _library(c_text(model, varied, saves, grid, block=block))
    n_times = len(grid.save_steps())

    def run(parameters: Floats) -> Floats:
        n = parameters.shape[1]
        out = np.empty((len(saves), n_times, n))
        library.run(ctypes.c_long(n), *(ctypes.c_void_p(array.ctypes.data) for array in (parameters, out)))
        return out

    return run


def compiler() -> str | None:
    """The C compiler: gcc where there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def _library(text: str) -> ctypes.CDLL:
    command = compiler()
    if command is None:
        raise UnsupportedError("there is no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        source, unit, library = (Path(folder, name) for name in ("fused.c", "fused.o", "fused.so"))
        source.write_text(text)
        # linked without fast-math: with it, the library would switch subnormal numbers off for the whole process
        for arguments in ([*FLAGS.split(), "-fPIC", "-c", source, "-o", unit],
                          ["-shared", unit, "-o", library, "-lmvec", "-lm"]):
            done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnsupportedError(f"{command} says {done.stderr.strip().splitlines()[-1]}")
        return ctypes.CDLL(str(library))


def c_text(model: Model, varied: Sequence[str], saves: Sequence[str], grid: TimeGrid, *, block: int) -> str:
    """The C text of `fused_c`."""
    return _Writer(build_graph(model, frozenset(varied), frozenset()), varied, saves, grid, block).text()


class _Writer:
    def __init__(
        self, graph: Graph, varied: Sequence[str], saves: Sequence[str], grid: TimeGrid, block: int
    ) -> None:
        self.graph, self.varied, self.saves, self.grid, self.block = graph, varied, saves, grid, block
        self.stocks: list[str] = []
        self.saves_at = [graph.step[name] for name in saves]
        reached = self._reach(self.saves_at)
        while fresh := [n for n in graph.flows if n not in self.stocks and graph.step[n] in reached]:
            self.stocks += fresh
            reached = self._reach([*self.saves_at, *(graph.flows[name] for name in self.stocks)])
        self.at_step, self.flows = sorted(reached), [graph.flows[name] for name in self.stocks]
        self.at_start = sorted(self._reach([graph.start[name] for name in self.stocks]))

    def _reach(self, roots: list[int]) -> set[int]:
        seen: set[int] = set()
        todo = list(roots)
        while todo:
            index = todo.pop()
            if index not in seen:
                seen.add(index)
                todo += self.graph.values[index].operands
        return seen

    def _name(self, index: int) -> str:
        """A value where it is used: a literal, a scalar, or what differs between members."""
        value = self.graph.values[index]
        if value.kind == "literal":
            return f"({float(value.label)!r})"  # type: ignore[arg-type]
        if value.kind == "scalar":
            return str(value.label)
        if value.kind == "stock":
            return f"x[{self.stocks.index(str(value.label))}][i]"
        return f"m{index}[i]" if value.rate is Rate.MEMBER else f"v{index}"

    def _define(self, indices: list[int], *rates: Rate) -> list[str]:
        """Statements that compute the values of some rates, in order."""
        lines = []
        for index in indices:
            value = self.graph.values[index]
            if value.rate in rates and value.operands:
                target = f"m{index}[i]" if value.rate is Rate.MEMBER else f"const double v{index}"
                operands = [self._name(operand) for operand in value.operands]
                if value.kind == "TABLE":
                    lines += self._table(int(value.label), index, operands[0])  # type: ignore[call-overload]
                    lines.append(f"{target} = a{index} + b{index} * {operands[0]};")
                elif value.kind in _C:
                    lines.append(f"{target} = {_C[value.kind].format(*operands)};")
                else:
                    raise UnsupportedError(f"the fused C has no {value.kind}")
        return lines

    def _table(self, table: int, index: int, x: str) -> list[str]:
        """Intercept and slope, chosen by comparisons without a branch, so that the loop stays a vector loop."""
        points, below = breakpoints(self.graph.tables[table])
        lines = [f"double a{index} = {points[0][1] - points[0][0] * below!r}, b{index} = {below!r};"]
        for xk, yk, slope in points:
            lines.append(f"a{index} = {x} >= {xk!r} ? {yk - xk * slope!r} : a{index};")
            lines.append(f"b{index} = {x} >= {xk!r} ? {slope!r} : b{index};")
        return lines

    def text(self) -> str:
        values, everything = self.graph.values, sorted({*self.at_start, *self.at_step})
        if delays := [value.label for value in values if value.kind in ("delay", "hold")]:
            raise UnsupportedError(f"the fused C has no memory for {delays[0]!r}")
        members = [i for i in everything if values[i].rate is Rate.MEMBER]
        lane = self._define(self.at_step, Rate.LANE)
        steps = [f"const double f{j} = {self._name(flow)};" for j, flow in enumerate(self.flows)]
        steps += [f"x[{j}][i] += time_step * f{j};" for j in range(len(self.flows))]
        save = [
            f"out[({j} * n_times + saved) * n + first + i] = {self._name(index)};"
            for j, index in enumerate(self.saves_at)
        ]
        saved_only = self._define(sorted(self._reach(self.saves_at)), Rate.LANE)
        controls = (0.0, 0.0, self.grid.start, self.grid.stop, self.grid.step, self.grid.save_every)
        saved = ", ".join(map(str, self.grid.save_steps().tolist()))
        return "\n".join([
            "#include <math.h>",
            f"enum {{ block = {self.block}, n_steps = {self.grid.n_steps}, n_times = {len(self.grid.save_steps())} }};",
            f"static const long save_steps[] = {{{saved}}};",
            *(f"static const double {name} = {value!r};" for name, value in list(zip(SCALARS, controls))[2:]),
            "void run(long n, const double *restrict parameters, double *restrict out) {",
            *self._define(everything, Rate.RUN),
            "for (long first = 0; first < n; first += block) {",
            "const long width = n - first < block ? n - first : block;",
            f"double x[{max(len(self.stocks), 1)}][block] __attribute__((aligned(64)));",
            *(f"double m{i}[block] __attribute__((aligned(64)));" for i in members),
            "for (long i = 0; i < block; i++) {",
            "const long member = first + (i < width ? i : 0);",
            *(f"m{i}[i] = parameters[{self.varied.index(str(values[i].label))} * n + member];"
              for i in members if values[i].kind == "parameter"),
            "}",
            "for (long i = 0; i < block; i++) {",
            *self._define(everything, Rate.MEMBER),
            *(f"x[{j}][i] = {self._name(self.graph.start[name])};" for j, name in enumerate(self.stocks)),
            "}",
            "for (long step = 0, saved = 0; step <= n_steps; step++) {",
            "const double time = initial_time + step * time_step, step_time = time;",
            "(void)step_time;",
            *self._define(self.at_step, Rate.TIME),
            "if (save_steps[saved] == step) {",
            "for (long i = 0; i < width; i++) {", *saved_only, *save, "}",
            "saved++;",
            "}",
            "if (step == n_steps) break;",
            "#pragma GCC ivdep",
            "for (long i = 0; i < block; i++) {", *lane, *steps, "}",
            "}", "}", "}", "",
        ])
