"""One measurement in a process of its own, so that its memory and its imports are its own. Prints JSON."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def in_child(measurement: str, *arguments: int, cache: str = "") -> dict[str, float]:
    """Run a measurement of this file in a new process, with a folder for the cache of read models or without one."""
    command = [sys.executable, __file__, measurement, *map(str, arguments)]
    environment = {**os.environ, "VILLAGEFLOW_CACHE": cache}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"benchmark: {measurement} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def imported() -> dict[str, float]:
    """Seconds of ``import villageflow``."""
    started = time.perf_counter()
    import villageflow  # noqa: F401

    return {"seconds": time.perf_counter() - started}


def cached() -> dict[str, float]:
    """Seconds to read a model that the cache has, after ``import villageflow``."""
    import villageflow as vf
    from engines import MODEL

    started = time.perf_counter()
    vf.read_model(MODEL)
    return {"seconds": time.perf_counter() - started}


def reduction(members: int) -> dict[str, float]:
    """Seconds and peak memory of an ensemble reduced to quantiles; the design is not counted in the seconds."""
    import pandas as pd

    import villageflow as vf
    from engines import MODEL, SAVES, parameters

    model = vf.read_model(MODEL)
    design = vf.Design(pd.DataFrame(parameters(model, members).T, columns=list(model.constants)))
    started = time.perf_counter()
    ds = vf.summarize(model, design, save=SAVES)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": _peak(), "times": ds.sizes["time"], "quantiles": ds.sizes["quantile"]}


def load(n_equations: int) -> dict[str, float]:
    """Seconds to read and to compile a generated model, and the memory that this took, beside a small model's."""
    import villageflow as vf
    from generated import model_text
    from villageflow.ir.model import Kind
    from villageflow.program.emit import compile_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "generated.mdl")
        path.write_text(model_text(1))
        vf.simulate(vf.read_model(path))
        path.write_text(model_text(n_equations))
        before, started = _peak(), time.perf_counter()
        model = vf.read_model(path)
        read = time.perf_counter()
    saves = [name for name, variable in model.variables.items() if variable.kind in (Kind.STOCK, Kind.AUXILIARY)]
    compile_model(model, saves=saves)
    compiled = time.perf_counter()
    return {
        "equations": len(model.variables), "read": read - started, "compile": compiled - read,
        "bytes": _peak() - before,
    }


def _peak() -> float:
    """Largest resident memory so far, in bytes; ``ru_maxrss`` of a new process on Linux begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024.0 * int(line.split()[1])
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(size if sys.platform == "darwin" else 1024 * size)


MEASUREMENTS: dict[str, Callable[..., dict[str, float]]] = {
    "imported": imported, "cached": cached, "reduction": reduction, "load": load
}

if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](*map(int, sys.argv[2:]))))
