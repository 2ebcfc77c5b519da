"""Damaged and hostile model files, read in a process of its own with a limit of memory.

Run as ``python tests/property/fuzzing.py FIRST COUNT``: reads the files of the numbers FIRST to FIRST + COUNT - 1, each
made from its number alone, and prints a line for every file that breaks the promise of `read_model`: a model or one
`VillageflowError` of one line, within `SECONDS` of processor time for files up to 64 kB, without any effect elsewhere.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

CORPUS = Path(__file__).parents[2].parent / "shared" / "conformance" / "test-models"
MODELS = Path(__file__).parents[2] / "models"
SECONDS = 5.0
MEMORY = 3 * 1024**3
LARGEST = 64 * 1024

TOKENS = [
    b"(", b")", b"[", b"]", b"{", b"}", b"|", b"~", b"=", b":", b":=", b"==", b"<->", b"->", b"!", b",", b";", b'"',
    b"'", b"\\", b"\n", b"\r", b"\t", b"\0", b"\xff", b"\xe9", b"&", b"&amp;", b"&#0;", b"<", b">", b"/>", b"<!--",
    b"<![CDATA[", b"<?x?>", b":MACRO:", b":END OF MACRO:", b":EXCEPT:", b":INTERPOLATE:", b":RAW:", b":NA:",
    b":NOT:", b":AND:", b":IS:", b"INTEG(", b"IF THEN ELSE(", b"WITH LOOKUP(", b"SUM(", b"VECTOR SORT ORDER(",
    b"INVERT MATRIX(", b"ALLOCATE AVAILABLE(", b"DELAY N(", b"GET XLS DATA('../../etc/passwd','a','b','c')",
    b"GET DIRECT CONSTANTS('data.csv',',','B2')", b"TABBED ARRAY(", b"1e999", b"-", b"^", b"1e-400",
    b"(a1-a999999999999)", b"(a1-a50000)", b"NaN", b"inf", b"0x1", b"1_000", b"__import__('os')", b"eval(",
    b"<dim name='q' size='99999999'/>", b"<macro name='m'><eqn>m(1)</eqn></macro>", b"<non_negative/>",
    b"<element subscript='a'>", b"\\\\\\---///", b"{UTF-16}", b"{zip}", b"IF x THEN y ELSE",
    b"RANDOM NORMAL(0,1,0,1,0)", b"x[*]", b"$", b"TIME STEP", "é".encode(), "　".encode(), "\u202e".encode(),
    b"\xef\xbb\xbf", b"\xff\xfe",
]  # fmt: skip

HOSTILE = {
    "deep brackets": (".mdl", lambda n: b"x = " + b"(" * n + b"1" + b")" * n + b" ~~|"),
    "deep unary": (".mdl", lambda n: b"x = " + b"-" * n + b"1 ~~|"),
    "deep calls": (".mdl", lambda n: b"x = " + b"ABS(" * (n // 4) + b"1" + b")" * (n // 4) + b" ~~|"),
    "long sum": (".mdl", lambda n: b"x = 1" + b"+Time" * (n // 5) + b" ~~|"),
    "long power": (".mdl", lambda n: b"x = 1" + b"^2" * (n // 2) + b" ~~|"),
    "long chain of logic": (".mdl", lambda n: b"x = 1" + b":OR: 1" * (n // 6) + b" ~~|"),
    "quotes": (".mdl", lambda n: b'"' * n),
    "open quote": (".mdl", lambda n: b'x = "' + b"a" * n),
    "blanks": (".mdl", lambda n: b"x" + b" " * n + b"= 1 ~~|"),
    "blank macro": (".mdl", lambda n: b":MACRO:" + b" " * n),
    "many macros": (".mdl", lambda n: b":MACRO: m(a) m = a ~~| " * (n // 23)),
    "macros that double": (".mdl", lambda n: b"".join(
        b":MACRO: M%d(a)\nM%d = M%d(a) + M%d(a) ~~|\n:END OF MACRO:\n" % (i, i, i + 1, i + 1) for i in range(n // 60)
    ) + b"x = M0(1) ~~|"),
    "open braces": (".mdl", lambda n: b"{" * n),
    "colons": (".mdl", lambda n: b"x" + b":" * n + b" ~~|"),
    "slashes": (".mdl", lambda n: b"a/" * (n // 2) + b" = 1 ~~|"),
    "commas": (".mdl", lambda n: b"y :IS: 'a' ~~|\nx = GET XLS DATA(" + b"," * n + b") ~~|"),
    "tildes": (".mdl", lambda n: b"x = 1 ~~|" * (n // 9)),
    "long name": (".mdl", lambda n: b"x" * n + b" = 1 ~~|"),
    "long number": (".mdl", lambda n: b"x = " + b"9" * n + b" ~~|"),
    "large table": (".mdl", lambda n: b"x(" + b",".join(b"(%d,1)" % i for i in range(n // 8)) + b") ~~|"),
    "large array": (".mdl", lambda n: b"d: (a1-a90000) ~~|\ne: (b1-b900) ~~|\nx[d,e] = 1 ~~|"),
    "many ranges": (".mdl", lambda n: b"".join(b"d%d: (a1-a9999) ~~|\n" % i for i in range(n // 24))),
    "ranges that double": (".mdl", lambda n: b"r0: a, b ~~|\n" + b"".join(
        b"r%d: r%d, r%d ~~|\n" % (i, i - 1, i - 1) for i in range(1, n // 20)
    )),
    "sums within sums": (".mdl", lambda n: (
        b"d: (a1-a300) ~~|\nx[d] = 1 ~~|\ny[d] = SUM(x[d!]*SUM(x[d!]*SUM(x[d!]))) ~~|"
    )),
    "large sort": (".mdl", lambda n: b"d: (a1-a20000) ~~|\nx[d] = 1 ~~|\ny[d] = VECTOR SORT ORDER(x[d], 1) ~~|"),
    "arrays of delays": (".mdl", lambda n: b"d: (a1-a20000) ~~|\nx[d] = DELAY N(1, 100, 1, 100) ~~|"),
    "loop": (".mdl", lambda n: b"".join(b"x%d = x%d ~~|\n" % (i, (i + 1) % (n // 14)) for i in range(n // 14))),
    "wide loop": (".mdl", lambda n: b"".join(b"x%d = x%d + x%d ~~|\n" % (i, i // 2, i + 1) for i in range(n // 20))),
    "entities": (".xmile", lambda n: b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 99 + b'">' + b"".join(
        b'<!ENTITY a%d "&a;&a;&a;&a;">' % i for i in range(9)) + b"]><xmile>&a8;</xmile>"),
    "deep elements": (".xmile", lambda n: b"<a>" * (n // 7) + b"</a>" * (n // 7)),
    "deep equation": (".xmile", lambda n: xmile(b"<eqn>" + b"(" * (n // 2) + b"1" + b")" * (n // 2) + b"</eqn>")),
    "deep conditions": (".xmile", lambda n: xmile(
        b"<eqn>" + b"IF 1 THEN 1 ELSE (" * (n // 19) + b"1" + b")" * (n // 19) + b"</eqn>"
    )),
    "many points": (".stmx", lambda n: xmile(
        b"<eqn>1</eqn><gf><xscale min='0' max='1'/><ypts>" + b"1," * (n // 2) + b"1</ypts></gf>"
    )),
    "utf-7": (".xmile", lambda n: b'<?xml version="1.0" encoding="utf-7"?><xmile/>'),
    "nulls": (".mdl", lambda n: b"\0" * n),
    "nothing": (".mdl", lambda n: b""),
}  # fmt: skip


def xmile(variable: bytes) -> bytes:
    return (
        b'<xmile xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0"><sim_specs><start>0</start><stop>1</stop>'
        b"<dt>1</dt></sim_specs><model><variables><aux name='x'>" + variable + b"</aux></variables></model></xmile>"
    )


CONTROLS = b"\nINITIAL TIME=0~~|FINAL TIME=1~~|TIME STEP=1~~|SAVEPER=1~~|\n"


def seeds() -> list[Path]:
    """Files to damage: the corpus where it is, and the models of this project."""
    found = [path for path in sorted(CORPUS.glob("*/*/*")) if path.suffix in (".mdl", ".xmile", ".stmx")]
    return [path for path in [*sorted(MODELS.glob("*/*.mdl")), *found] if path.stat().st_size <= LARGEST]


def made(number: int, files: list[Path]) -> tuple[str, bytes]:
    """Suffix and content of the file of a number: hostile ones first, then damaged ones."""
    if number < len(HOSTILE):
        suffix, content = list(HOSTILE.values())[number]
        return suffix, content(LARGEST - 200) + (CONTROLS if suffix == ".mdl" else b"")
    draw = random.Random(number)
    path = draw.choice(files)
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 2, 3, 8, 30))):
        start = draw.randrange(len(content) + 1)
        stop = min(len(content), start + draw.choice((0, 1, 2, 10, 100, 1000)))
        match draw.randrange(6):
            case 0:
                del content[start:stop]
            case 1:
                content[start:start] = draw.choice(TOKENS)
            case 2:
                content[start:stop] = draw.choice(TOKENS)
            case 3:
                content[start:start] = content[start:stop] * draw.choice((1, 2, 20))
            case 4:
                other = draw.choice(files).read_bytes()
                at = draw.randrange(len(other) + 1)
                content[start:stop] = other[at:at + 300]
            case 5 if content:
                content[start % len(content)] = draw.randrange(256)
    return path.suffix, bytes(content[:LARGEST])


def fault(path: Path, models: list[Path]) -> str:
    """What reading a file does that it must not; empty if nothing. A file that is a model is noted in `models`."""
    import villageflow as vf

    started = time.process_time()
    try:
        model = vf.read_model(path)
        models.append(path)
        if len(model.variables) < 2000:
            repr(model)
    except vf.VillageflowError as error:
        if "\n" in str(error) or not str(error):
            return f"a message of several lines: {str(error)!r:.200}"
    except BaseException as error:
        return f"{type(error).__name__}: {error!r:.300}"
    spent = time.process_time() - started
    return f"{spent:.1f} s" if spent > SECONDS else ""


def main() -> int:
    first, count = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["VILLAGEFLOW_CACHE"] = ""
    files = seeds()
    found, models = 0, []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in range(first, first + count):
            suffix, content = made(number, files)
            path = Path(folder, f"fuzzed{suffix}")
            path.write_bytes(content)
            if what := fault(path, models):
                found += 1
                label = list(HOSTILE)[number] if number < len(HOSTILE) else "damaged"
                print(f"file {number} ({label}): {what}", flush=True)
            if extra := [entry for entry in os.listdir(folder) if entry != path.name]:  # noqa: PTH208
                print(f"file {number} left {extra}", flush=True)
                return 1
            path.unlink()
    print(f"read {count} files, {len(models)} of them models")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
