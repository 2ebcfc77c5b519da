"""What a second processor is worth: two threads, and two processes that share nothing, in turn with one thread."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import numpy as np

import villageflow as vf
from engines import MODEL, ours, parameters


def together(members: int, repeats: int) -> tuple[float, float]:
    """Median over the repetitions of one thread's time over that of two threads, and of two processes.

    Machines are shared: what they give a second processor changes from second to second, so that only figures taken in
    turn can be compared.
    """
    model = vf.read_model(MODEL)
    table = parameters(model, members)
    one, two = ours(model, table, 1), ours(model, table, 2)
    half = ours(model, np.ascontiguousarray(table[:, : members // 2]), 1)
    for run in (one, two, half):
        run()
    threads, processes = [], []
    for _ in range(repeats):
        alone = _seconds(one)
        threads.append(alone / _seconds(two))
        processes.append(alone / _seconds(lambda: _in_two(half)))
    return statistics.median(threads), statistics.median(processes)


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _in_two(run: Callable[[], object]) -> None:
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            run()
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
