"""`villageflow reproduce`: run the paper's workflow and say what was produced, where, and how long it took.

The steps are the pytask tasks of ``paper/tasks.py``; this module only runs them, prints one line per step and
compares the record of results (`record`) with the committed one.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from villageflow.errors import ReportError, VillageflowError
from villageflow.report import record

if TYPE_CHECKING:
    import pytask

CONFIG = Path("paper/pytask.toml")
BUILT = Path("paper/bld")
RECORD = BUILT / "record.json"
TIMINGS = BUILT / "timings.json"
EXPECTED = Path("results/expected.json")
ESTIMATES = "estimates.json"
TOLERANCES = Path("results/tolerances.csv")
REMOVED_BY_CLEAN = (
    BUILT,
    Path("paper/.pytask"),
    Path("paper/pytask.lock"),
    Path("paper/pytask.lock.journal"),
)


def reproduce(root: Path, *, clean: bool = False, check: bool = False, accept: bool = False) -> int:
    """Build every result of the paper that is not up to date.

    Parameters
    ----------
    root : Path
        Checkout of the repository (the folder that holds ``paper/pytask.toml``).
    clean : bool
        Remove everything that was built and start from nothing.
    check : bool
        Compare the record of this run with ``results/expected.json`` and fail when they differ.
    accept : bool
        Write the record of this run to ``results/expected.json``, after printing what changes, and its estimates
        to ``results/estimates.json``.

    Returns
    -------
    int
        0, or 1 when a step failed or `check` found a difference.

    Raises
    ------
    ReportError
        When `root` is not a checkout or the workflow's libraries are not installed.
    """
    root = root.resolve()
    if not (root / CONFIG).is_file():
        raise ReportError(f"{root} holds no {CONFIG}; 'reproduce' runs in a checkout of the villageflow repository")
    if clean:
        _remove_built(root)
    started = time.perf_counter()
    steps = _run_steps(root)
    _print_summary(root, steps, time.perf_counter() - started)
    if not steps or any(step.outcome == "failed" for step in steps):
        return 1
    agrees = _compare(root) if check or accept else True
    if accept:
        shutil.copyfile(root / RECORD, root / EXPECTED)
        shutil.copyfile(root / BUILT / ESTIMATES, root / EXPECTED.parent / ESTIMATES)
        print(f"accepted: {EXPECTED} now holds the record of this run, {ESTIMATES} beside it its estimates")
    return 0 if agrees or accept else 1


@dataclass
class Step:
    """One task: its name, how it ended, how long it took, what it makes."""

    name: str
    products: list[Path]
    outcome: str = "not run"
    seconds: float = 0.0


@dataclass
class Progress:
    """Listens to pytask, prints one line per step and collects the outcomes."""

    steps: list[Step] = field(default_factory=list)

    def started(self, session: pytask.Session, task: pytask.PTask) -> None:
        self.steps.append(Step(_step_name(task), _products(task)))
        width = max(len(_step_name(other)) for other in session.tasks)
        position = f"[{len(self.steps):>{len(str(len(session.tasks)))}}/{len(session.tasks)}]"
        print(f"{position} {self.steps[-1].name:<{width}}  ", end="", flush=True)

    def ended(self, report: pytask.ExecutionReport) -> None:
        step = self.steps[-1]
        begin, end = report.task.attributes.get("duration", (0.0, 0.0))
        step.seconds = end - begin
        step.outcome = {"SUCCESS": "built", "SKIP_UNCHANGED": "unchanged"}.get(report.outcome.name, "failed")
        if report.outcome.name == "SKIP_PREVIOUS_FAILED":
            print("not run: an earlier step failed", flush=True)
        elif step.outcome == "failed":
            print("FAILED", flush=True)
            _print_failure(report.exc_info)
        else:
            print(f"{step.seconds:7.1f} s" if step.outcome == "built" else "unchanged", flush=True)


def _run_steps(root: Path) -> list[Step]:
    """Run pytask in this process with `Progress` listening; its own display is switched off."""
    engine = _pytask()
    progress = Progress()

    class Listener:
        @engine.hookimpl(tryfirst=True)  # type: ignore[untyped-decorator]
        def pytask_execute_task_log_start(self, session: pytask.Session, task: pytask.PTask) -> None:
            progress.started(session, task)

        @engine.hookimpl(tryfirst=True)  # type: ignore[untyped-decorator]
        def pytask_execute_task_log_end(self, report: pytask.ExecutionReport) -> None:
            progress.ended(report)

        @engine.hookimpl(tryfirst=True)  # type: ignore[untyped-decorator]
        def pytask_collect_log(self, reports: list[pytask.CollectionReport]) -> None:
            for report in reports:
                _print_failure(report.exc_info)

    options = ["build", "--config", str(root / CONFIG), "--verbose", "0", "--capture", "no"]
    options.append("--disable-warnings")  # pytask's own list of them; Python then shows them as usual
    with _quiet_console(engine.console), _forgotten_modules(root / "paper"):
        engine.storage.create().register(Listener())
        try:
            engine.cli.main(args=options, standalone_mode=False)
        except SystemExit as stop:
            if stop.code and not any(step.outcome == "failed" for step in progress.steps):
                print("the workflow could not be started; the message above says why", file=sys.stderr)
                return []
    return progress.steps


def _pytask() -> Any:
    try:
        import pytask
    except ModuleNotFoundError as error:
        raise ReportError("the workflow needs pytask; install the extra: villageflow[paper]") from error
    return pytask


def _step_name(task: pytask.PTask) -> str:
    return task.name.rsplit("::", 1)[-1].removeprefix("task_")


def _products(task: pytask.PTask) -> list[Path]:
    from pytask import PPathNode
    from pytask.tree_util import tree_leaves

    produced: Any = task.produces
    return [Path(str(node.path)) for node in tree_leaves(produced) if isinstance(node, PPathNode)]


def _print_failure(exc_info: Any) -> None:
    """One line for a user's error, the traceback for anything else."""
    if exc_info is None:
        return
    error = exc_info[1]
    if isinstance(error, VillageflowError):
        print(f"  {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    else:
        print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)


@contextmanager
def _quiet_console(console: Any) -> Iterator[None]:
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def _forgotten_modules(folder: Path) -> Iterator[None]:
    """Forget the task modules afterwards, so that another checkout in the same process imports its own."""
    before = set(sys.modules)
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).is_relative_to(folder):
                del sys.modules[name]


def _remove_built(root: Path) -> None:
    for path in REMOVED_BY_CLEAN:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink(missing_ok=True)


def _print_summary(root: Path, steps: list[Step], seconds: float) -> None:
    """Say what there is, where, and how long each step took when it was last built."""
    path = root / TIMINGS
    timings = record.read_json(path) if path.is_file() else {}
    timings.update({step.name: round(step.seconds, 2) for step in steps if step.outcome == "built"})
    record.write_json(path, timings)
    width = max((len(step.name) for step in steps), default=4)
    print()
    print(f"{'step':<{width}} {'seconds':>8}  product")
    for step in steps:
        made = step.outcome in {"built", "unchanged"}
        spent = f"{timings[step.name]:.1f}" if made and step.name in timings else ""
        names = [os.path.relpath(product, root) for product in step.products] if made else [step.outcome]
        for row, name in enumerate(names):
            print(f"{step.name if row == 0 else '':<{width}} {spent if row == 0 else '':>8}  {name}")
    built = sum(step.outcome == "built" for step in steps)
    failed = sum(step.outcome == "failed" for step in steps)
    unchanged = sum(step.outcome == "unchanged" for step in steps)
    print()
    print(f"{built} steps built, {unchanged} unchanged, {failed} failed, in {seconds:.1f} s; results are in {BUILT}")


def _compare(root: Path) -> bool:
    if not (root / EXPECTED).is_file():
        print(f"there is no committed record {EXPECTED} to compare with", file=sys.stderr)
        return False
    tolerances = record.read_tolerances(root / TOLERANCES)
    differences = record.compare(record.read_json(root / EXPECTED), record.read_json(root / RECORD), tolerances)
    print(record.describe(differences))
    return not differences
