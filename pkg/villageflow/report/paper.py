"""The paper: numbers from results into the manuscript, then PDF and LaTeX source, the same bytes every time.

The manuscript is pandoc Markdown. ``{{key:.2f}}`` is replaced by the result of that name in that format and
``{{include tables/x.md}}`` by a file of the results folder. pandoc turns the filled text into typst and
LaTeX, and typst makes an archival PDF (PDF/A-2b) with the fonts that it brings itself, so no TeX is needed
and nothing depends on what is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from villageflow.errors import ReportError, did_you_mean
from villageflow.report.record import Scalar

PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
KEY = re.compile(r"(?P<key>[A-Za-z0-9_.\-]+)(?::(?P<format>.*))?")
FORMAT = re.compile(r",?(\.\d+)?[dfeg%]?")
DEFAULT_TIMESTAMP = 1767225600  # 2026-01-01 UTC, the value that ./run exports as SOURCE_DATE_EPOCH

# What may hold a digit without being a result, in the order in which it is removed.
NOT_A_RESULT = (
    re.compile(r"\$\$.*?\$\$", re.DOTALL),
    re.compile(r"\$[^$\n]+\$"),
    re.compile(r"`[^`\n]*`"),
    re.compile(r"\{\{.*?\}\}"),
    re.compile(r"\{[#.][^}]*\}"),
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"@[\w:.\-]+"),
    re.compile(r"^#.*$", re.MULTILINE),
    re.compile(r"\b(19|20)\d\d\b"),
)


class Filled(NamedTuple):
    """A manuscript with its numbers, and what of the results it used."""

    text: str
    keys: frozenset[str]
    files: frozenset[str]


@dataclass(frozen=True)
class Paper:
    """The files of a built paper and the results that it does not mention."""

    pdf: Path
    tex: Path
    unused_keys: tuple[str, ...]
    unused_files: tuple[str, ...]


def build_paper(
    manuscript: Path,
    results: Mapping[str, Scalar],
    *,
    folder: Path,
    bibliography: Path,
    lua_filter: Path,
) -> Paper:
    """Fill the manuscript and write ``paper.md``, ``paper.typ``, ``paper.tex`` and ``paper.pdf``.

    Parameters
    ----------
    manuscript : Path
        Markdown with placeholders. Figures are named without an extension: the PDF embeds the ``.svg``, the
        LaTeX source the ``.pdf`` of the same name.
    results : mapping of str to scalar
        Flat results, exact; the manuscript says how each is formatted.
    folder : Path
        Where the tables and figures of the results are and where the paper is written.
    bibliography : Path
        BibTeX file; a citation that is not in it is an error.
    lua_filter : Path
        pandoc filter that numbers and resolves references to figures, tables and equations.

    Returns
    -------
    Paper
        Written files, and results that the text does not use.
    """
    folder = folder.resolve()
    filled = fill(manuscript.read_text(encoding="utf-8"), results, folder=folder, name=manuscript.name)
    source = folder / "paper.md"
    source.write_text(filled.text, encoding="utf-8", newline="\n")
    for writer, images, output in (("typst", "svg", "paper.typ"), ("latex", "pdf", "paper.tex")):
        _pandoc(source, writer, images, folder / output, bibliography.resolve(), lua_filter.resolve())
    _compile_pdf(folder / "paper.typ", folder / "paper.pdf")
    return Paper(
        pdf=folder / "paper.pdf",
        tex=folder / "paper.tex",
        unused_keys=tuple(sorted(set(results) - filled.keys)),
        unused_files=tuple(sorted(_exhibits(folder) - filled.files - _figures(filled.text))),
    )


def fill(text: str, results: Mapping[str, Scalar], *, folder: Path | None = None, name: str = "manuscript") -> Filled:
    """Replace the placeholders of a manuscript.

    ``{{key}}`` takes a text or an integer, ``{{key:format}}`` a number in a format such as ``.2f``, ``,d`` or
    ``.0%``; a minus sign becomes a typographic one. ``{{include path}}`` takes a file below `folder`.

    Raises
    ------
    ReportError
        Lists every placeholder that cannot be filled, with its line and the remedy.
    """
    faults: list[str] = []
    keys: set[str] = set()
    files: set[str] = set()

    def replacement(match: re.Match[str]) -> str:
        inner = match.group(1).strip()
        place = f"{name}, line {text.count(chr(10), 0, match.start()) + 1}"
        try:
            if inner.startswith("include "):
                path = inner.removeprefix("include ").strip()
                files.add(path)
                return _included(path, folder)
            key, spec = _parsed(inner)
            keys.add(key)
            return _formatted(key, spec, results)
        except ReportError as error:
            faults.append(f"{place}: {error}")
            return match.group(0)

    filled = PLACEHOLDER.sub(replacement, text)
    if "{{" in PLACEHOLDER.sub("", text):
        faults.append(f"{name}: a placeholder is not closed; look for a single '{{{{'")
    if faults:
        raise ReportError(f"{len(faults)} placeholders could not be filled\n  " + "\n  ".join(faults))
    return Filled(filled, frozenset(keys), frozenset(files))


def bare_numbers(text: str, *, after: str) -> list[tuple[int, str]]:
    """Digits typed into sentences from the heading `after` on, as (line, sentence part).

    Mathematics, code, placeholders, citations, attributes, headings and years do not count.
    """
    start = text.find(f"\n# {after}")
    if start < 0:
        raise ReportError(f"the manuscript has no heading '# {after}'")
    blank = text
    for pattern in NOT_A_RESULT:
        blank = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), blank)
    return [
        (
            blank.count("\n", 0, match.start()) + 1,
            text[match.start() - 20 : match.end() + 20].replace("\n", " ").strip(),
        )
        for match in re.finditer(r"\d[\d.,]*", blank)
        if match.start() > start
    ]


def _parsed(inner: str) -> tuple[str, str]:
    match = KEY.fullmatch(inner)
    if match is None:
        raise ReportError(f"{inner!r} is not a key; a placeholder is {{{{key}}}} or {{{{key:.2f}}}}")
    spec = (match["format"] or "").strip()
    if not FORMAT.fullmatch(spec):
        raise ReportError(f"{spec!r} is not a number format; use one such as .2f, ,d or .0%")
    return match["key"], spec


def _formatted(key: str, spec: str, results: Mapping[str, Scalar]) -> str:
    if key not in results:
        near = did_you_mean(key, results)
        hint = near if near.startswith("Did you mean") else "No name is near it; is its step missing?"
        raise ReportError(f"no result is named {key!r}. {hint}")
    value = results[key]
    if isinstance(value, bool):
        raise ReportError(f"result {key!r} is {value}; write the sentence from a number or a text instead")
    if isinstance(value, str):
        if spec:
            raise ReportError(f"result {key!r} is the text {value!r} and takes no format")
        return value
    if isinstance(value, float) and not spec:
        raise ReportError(f"result {key!r} is a number with decimals; say how many, as in {{{{{key}:.2f}}}}")
    try:
        return format(value, spec).replace("-", "\u2212")
    except ValueError as error:
        raise ReportError(f"result {key!r} = {value!r} cannot be written as {spec!r}: {error}") from error


def _included(path: str, folder: Path | None) -> str:
    if folder is None:
        raise ReportError(f"{path!r} is included, but no results folder was given")
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ReportError(f"{path!r} is outside the results folder {folder}")
    if not file.is_file():
        raise ReportError(f"{path!r} does not exist in {folder}; is it the product of a step?")
    return file.read_text(encoding="utf-8").strip("\n")


def _pandoc(source: Path, writer: str, images: str, output: Path, bibliography: Path, lua_filter: Path) -> None:
    try:
        import pypandoc
    except ModuleNotFoundError as error:
        raise ReportError("the paper needs pandoc; install the extra: villageflow[paper]") from error
    command = [
        pypandoc.get_pandoc_path(),
        *("--from", "markdown", "--to", writer, "--standalone", "--fail-if-warnings"),
        *("--lua-filter", str(lua_filter), "--citeproc", "--bibliography", str(bibliography)),
        *("--default-image-extension", images, "--output", str(output), str(source)),
    ]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split("stack traceback")[0].split())
        raise ReportError(f"pandoc could not write {output.name}: {said}")


def _compile_pdf(source: Path, output: Path) -> None:
    try:
        import typst
    except ModuleNotFoundError as error:
        raise ReportError("the paper needs typst; install the extra: villageflow[paper]") from error
    timestamp = int(os.environ.get("SOURCE_DATE_EPOCH", DEFAULT_TIMESTAMP))
    try:
        pdf = typst.compile(
            source,
            root=source.parent,
            ignore_system_fonts=True,
            format="pdf",
            timestamp=timestamp,
            pdf_standards="a-2b",
        )
    except typst.TypstError as error:
        raise ReportError(f"typst could not compile {source.name}: {error.message}") from error
    output.write_bytes(pdf)


def _exhibits(folder: Path) -> set[str]:
    """Tables and figures among the results, figures without their extension."""
    tables = {path.relative_to(folder).as_posix() for path in (folder / "tables").glob("*.md")}
    figures = {path.relative_to(folder).with_suffix("").as_posix() for path in (folder / "figures").glob("*.svg")}
    return tables | figures


def _figures(text: str) -> set[str]:
    return set(re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text, flags=re.DOTALL))
