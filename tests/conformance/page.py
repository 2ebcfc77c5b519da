"""Write ``docs/conformance.md``: the corpus in villageflow, PySD and pysimlin, under one rule.

Run as ``./run conformance``. Each file runs in each tool in a process of its own, so that a crash or a hang of one
stops nothing. Ends with status 1, after writing, when ``exceptions.csv``, ``peers.csv`` or the numbers in `table` are
not what was found, and says which rows to take out or to put in.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import connection
from pathlib import Path

import peers
import records
import table

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
TOOLS = tuple(peers.TOOLS)
PROCESSES = 2
SECONDS = 60  # for one file in one tool
RUNS = 3  # at most, of a file that does not match: pysimlin's answers can change from one process to the next
TEXT = 240  # characters of a message that the page shows
NOT_KNOWN = "cause not known"


@dataclass(frozen=True)
class Verdict:
    """One file in one tool. ``text``: the differences, the error, or what matches only by the record's rounding."""

    matched: bool
    text: str


Verdicts = dict[tuple[str, str], Verdict]


def main() -> int:
    verdicts = measure(records.files())
    exceptions = table.exceptions()
    PAGE.write_text("\n".join(page(verdicts, exceptions)) + "\n", encoding="utf-8")
    faults = list(check(verdicts, exceptions))
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


# --- running -----------------------------------------------------------------------------------------------------


def measure(names: Iterable[str]) -> Verdicts:
    """Every file in every tool; what does not match runs again, and counts as matched if any run matches."""
    verdicts = _run([(tool, name) for name in names for tool in TOOLS])
    for _ in range(RUNS - 1):
        again = _run([job for job, verdict in verdicts.items() if not verdict.matched])
        verdicts |= {job: verdict for job, verdict in again.items() if verdict.matched}
    return verdicts


def _run(jobs: list[tuple[str, str]]) -> Verdicts:
    """A few jobs at a time, each in a process forked here, where the tools are imported once."""
    waiting, running, verdicts = iter(jobs), [], {}
    while len(verdicts) < len(jobs):
        running += [_start(*job) for job in itertools.islice(waiting, PROCESSES - len(running))]
        connection.wait([each.receiver for each in running], timeout=1)
        for each in list(running):
            verdict = each.verdict()
            if verdict is not None:
                verdicts[each.tool, each.name] = verdict
                running.remove(each)
    return verdicts


@dataclass(frozen=True)
class _Running:
    """One file running in one tool."""

    tool: str
    name: str
    process: multiprocessing.Process
    receiver: connection.Connection
    deadline: float

    def verdict(self) -> Verdict | None:
        """The verdict once there is one, a crash or the end of the time; the process is gone then."""
        if not self.receiver.poll() and time.monotonic() < self.deadline:
            return None
        try:
            late = Verdict(False, f"no result after {SECONDS} seconds")
            return self.receiver.recv() if self.receiver.poll() else late
        except EOFError:
            return Verdict(False, "the process ended without a result")
        finally:
            self.process.kill()
            self.process.join()


def _start(tool: str, name: str) -> _Running:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(tool, name, sender))
    process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    return _Running(tool, name, process, receiver, time.monotonic() + SECONDS)


def _answer(tool: str, name: str, sender: connection.Connection) -> None:
    """The child: whatever a tool prints, warns or raises stays here."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    warnings.simplefilter("ignore")
    record = records.read_record(records.record_path(name))
    try:
        frame = peers.TOOLS[tool](name, record.variables)
    except Exception as error:
        sender.send(Verdict(False, f"{type(error).__name__}: {error}"))
        return
    differences = records.compare(record, frame)
    shown = differences or records.compare(record, frame, rounding=False)
    sender.send(Verdict(not differences, records.summary(shown)))


# --- checking the tables -----------------------------------------------------------------------------------------


def check(verdicts: Verdicts, exceptions: dict[str, table.Entry]) -> Iterator[str]:
    """What the tables say that was not found, and what was found that they do not say."""
    files = records.files()
    for name in sorted(set(exceptions) - set(files)):
        yield f"exceptions.csv: {name} is no file with a record; take the row out"
    for name in files:
        verdict, exception = verdicts["villageflow", name], exceptions.get(name)
        if verdict.matched and exception:
            yield f"exceptions.csv: {name} matches now; take the row out"
        elif not verdict.matched and not exception:
            yield f"exceptions.csv: {name} is missing: {one_line(verdict.text)}"
        elif exception and exception.is_refusal and exception.text not in verdict.text:
            yield f"exceptions.csv: {name} is not refused with {exception.text!r}: {one_line(verdict.text)}"
    for name in table.peer_causes():
        if name not in files or verdicts["PySD", name].matched:
            yield f"peers.csv: PySD matches {name}, or it is no file with a record; take the row out"
    sound = sound_files(exceptions)
    found = {kind: count(verdicts, "villageflow", sound, kind) for kind in records.KINDS}
    if found != table.MATCHED:
        yield f"table.py: MATCHED is {table.MATCHED}, found {found}"
    xmile = count(verdicts, "PySD", sound, ".xmile") + count(verdicts, "PySD", sound, ".stmx")
    if xmile != table.PYSD_XMILE_AND_STELLA:
        yield f"table.py: PYSD_XMILE_AND_STELLA is {table.PYSD_XMILE_AND_STELLA}, found {xmile}"


def sound_files(exceptions: dict[str, table.Entry]) -> list[str]:
    """Files with a record that are not broken: all that is counted."""
    return [name for name in records.files() if name not in exceptions or exceptions[name].cause != "broken"]


def count(verdicts: Verdicts, tool: str, files: Iterable[str], kind: str) -> int:
    return sum(1 for name in files if records.kind(name) == kind and verdicts[tool, name].matched)


# --- writing -----------------------------------------------------------------------------------------------------


def page(verdicts: Verdicts, exceptions: dict[str, table.Entry]) -> Iterator[str]:
    sound = sound_files(exceptions)
    yield from _introduction()
    yield from _numbers(verdicts, sound)
    yield from _own_differences(verdicts, exceptions, sound)
    yield from _comparison(verdicts, sound)
    yield from _causes(verdicts, exceptions, sound)
    for tool in TOOLS[1:]:
        yield from _peer_differences(verdicts, sound, tool)
    yield from _broken(verdicts, exceptions)


def _introduction() -> Iterator[str]:
    named = ", ".join(f"{tool} {metadata.version(tool.lower())}" for tool in TOOLS)
    yield from (
        "# Conformance",
        "",
        "<!-- Written by tests/conformance/page.py: ./run conformance -->",
        "",
        "The field's public corpus (SDXorg/test-models, commit 21aab02) holds models of one feature each with the",
        "output that Vensim or Stella recorded. Every file with a record runs in three tools under one rule:",
        f"{named}.",
        "",
        "**The rule.** A file matches when every recorded column is a variable of the run and, at every recorded time,",
        f"differs from the record by at most {records.RELATIVE:g} of the column's largest absolute value, or half of",
        "the last recorded digit, whichever is more (a digit after the point: a whole number is taken as exact; at",
        f"least {records.FLOOR:g}). The column of times is one of them. An empty cell records nothing.",
        "",
        "**The record.** For `.mdl` it is `output.tab`, else `output.csv`; for `.xmile` and `.stmx` Stella's own",
        "(`output_stella.csv`, `output_stella1006.csv`) where there is one, else `output.csv`, else `output.tab`.",
        "",
        "**The tools.** Each runs a file as it does by default: villageflow and pysimlin with the method of the file,",
        "PySD with Euler's. PySD and pysimlin name some variables in their own way (`dt`); these are translated.",
        f"A file has {SECONDS} seconds. What does not match runs again, {RUNS} times in all, "
        "and counts as matched if any",
        "run matches: pysimlin's answer to `tests/subscript_transposition` changes from one process to the next, and",
        "what is told of random draws is of one run. Broken files (the last table) count nowhere.",
        "",
    )


def _numbers(verdicts: Verdicts, sound: list[str]) -> Iterator[str]:
    yield from ("## Files that match", "", f"| kind | files | {' | '.join(TOOLS)} |", "|---|---|---|---|---|")
    for kind in records.KINDS:
        files = [name for name in sound if records.kind(name) == kind]
        counts = " | ".join(str(count(verdicts, tool, sound, kind)) for tool in TOOLS)
        yield f"| `{kind}` | {len(files)} | {counts} |"
    tests = [name for name in sound if name.startswith("tests/")]
    counts = " | ".join(str(count(verdicts, tool, tests, ".mdl")) for tool in TOOLS)
    yield f"| `.mdl` below `tests/` | {sum(1 for name in tests if records.kind(name) == '.mdl')} | {counts} |"
    yield ""
    rounded = [name for name in sound if verdicts["villageflow", name].matched and verdicts["villageflow", name].text]
    yield "Files that villageflow matches only because of the last recorded digit, that is not by 1e-5 alone: " + (
        ", ".join(f"`{name}`" for name in rounded) or "none"
    ) + "."
    yield ""


def _own_differences(
    verdicts: Verdicts, exceptions: dict[str, table.Entry], sound: list[str]
) -> Iterator[str]:
    yield from ("## Files that villageflow does not match", "", "| file | cause | |", "|---|---|---|")
    titles = {"refused": "refused", "ours": "ours", "record": "the record's"}
    for name in sound:
        verdict, exception = verdicts["villageflow", name], exceptions.get(name)
        if verdict.matched:
            continue
        cause = titles[exception.cause] if exception else NOT_KNOWN
        told = exception.text + ": " if exception and not exception.is_refusal else ""
        yield f"| `{name}` | {cause} | {told}{one_line(verdict.text)} |"
    yield ""


def _comparison(verdicts: Verdicts, sound: list[str]) -> Iterator[str]:
    def only(winner: str, loser: str) -> str:
        names = [name for name in sound if verdicts[winner, name].matched and not verdicts[loser, name].matched]
        return "; ".join(f"`{name}`" for name in names) or "none"

    yield from ("## Files that one tool matches and another does not", "")
    for peer in TOOLS[1:]:
        yield f"villageflow and not {peer}: {only('villageflow', peer)}."
        yield ""
        yield f"{peer} and not villageflow: {only(peer, 'villageflow')}."
        yield ""


def _causes(verdicts: Verdicts, exceptions: dict[str, table.Entry], sound: list[str]) -> Iterator[str]:
    causes = table.peer_causes()
    yield from ("## What differs between the records and PySD, and why", "", "| file | cause |", "|---|---|")
    for name in sound:
        if not verdicts["PySD", name].matched:
            cause = causes.get(name)
            if cause is None and name in exceptions and exceptions[name].cause == "record":
                cause = "the record's: " + exceptions[name].text
            yield f"| `{name}` | {cause or NOT_KNOWN} |"
    yield ""


def _peer_differences(verdicts: Verdicts, sound: list[str], tool: str) -> Iterator[str]:
    yield from (f"## Files that {tool} does not match", "", "| file | what was found |", "|---|---|")
    for name in sound:
        if not verdicts[tool, name].matched:
            yield f"| `{name}` | {one_line(verdicts[tool, name].text)} |"
    yield ""


def _broken(verdicts: Verdicts, exceptions: dict[str, table.Entry]) -> Iterator[str]:
    yield from ("## Broken files, which count nowhere", "", "| file | villageflow says |", "|---|---|")
    for name, exception in exceptions.items():
        if exception.cause == "broken":
            yield f"| `{name}` | {one_line(verdicts['villageflow', name].text)} |"


def one_line(text: str) -> str:
    """A message as a cell of a table: one line, short, without folders of this machine."""
    text = re.sub(r"(?<![\w.])(?:/[\w.\- ]+)+/", "", " ".join(text.split())).replace("|", "\\|")
    return text if len(text) <= TEXT else text[: TEXT - 3].rstrip() + "..."


if __name__ == "__main__":
    sys.exit(main())
