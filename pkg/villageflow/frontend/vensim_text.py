"""Rewritings of Vensim text that the parser needs; each is listed in ``docs/model_files.md``.

None evaluates anything: they move, quote or drop characters between the parts that the grammar knows.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from villageflow.errors import ModelFileError
from villageflow.names import canonical

_MACRO = re.compile(r"(?:\A|\||:END OF MACRO:)\s*(:MACRO:)", re.IGNORECASE)  # not in the text of an equation
_MACRO_END = re.compile(r"[|)]\s*(:END OF MACRO:)", re.IGNORECASE)
_BARE = re.compile(r'\s*("(?:\\.|[^"\\])*"|[^\W\d][^\[\]():=~|<>"]*?)\s*(\[[^\]]*\]\s*)?')
_LEFT_SIDE = re.compile(r"[^\[=(:]*")
_SLASHED = re.compile(r"[^\W\d][^\"\])~|<>+*^,'-]*")
_TEXT = re.compile(r"(.+?)\s*:IS:\s*'([^']*)'", re.IGNORECASE | re.DOTALL)
_GET = re.compile(r"(GET[ _](?:XLS|DIRECT)[ _]\w+\s*\()([^()]*)\)", re.IGNORECASE)
_NAME_END = re.compile(r"^.*?([\w $']*)$")
_LONGEST_NAME, _MOST_WORDS = 300, 20  # of a macro, in front of its arguments
_DIGITS = 18  # of a number that an index may have
_RANGE = re.compile(r"(\d+)\s*-\s*[^\d()]*(\d+)\s*\)")
_BLANKS = re.compile(r"[\s\\]+")
_KEYWORDS = re.compile(r":(?:AND|OR|NOT|NA|IMPLIES):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Section:
    """The equations outside macros, or one macro.

    Attributes
    ----------
    name : str
        Of the macro; empty for the model itself.
    inputs, outputs : tuple of str
        Arguments of the macro as written, before and after the colon.
    text : str
    line : int
        Of the file, where `text` begins.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    text: str
    line: int


def split_sections(path: Path, text: str) -> list[Section]:
    """The model itself, then its macros; in the model's text macros leave only their line breaks."""
    text = _without_comments(path, text)
    macros, kept, end, line = [], [], 0, 1
    for start in (match.start(1) for match in _MACRO.finditer(text)):
        if start < end:
            continue
        kept.append(text[end:start])
        line += text.count("\n", end, start)
        closing = _MACRO_END.search(text, start)
        close = closing.start(1) if closing else -1
        opened = text.find("(", start)
        ended = text.find(")", opened)
        name = " ".join(text[start + len(":MACRO:"):opened].split())
        if not 0 <= opened < ended < close or not name:
            raise ModelFileError(
                f"{path.name}, line {line}: a macro is written ':MACRO: NAME(inputs) equations :END OF MACRO:'"
            )
        inputs, _, outputs = text[opened + 1:ended].partition(":")
        macros.append(Section(
            name, _listed(inputs), _listed(outputs), text[ended + 1:close], line + text.count("\n", start, ended),
        ))
        end = close + len(":END OF MACRO:")
        breaks = text.count("\n", start, end)
        kept.append("\n" * breaks)
        line += breaks
    kept.append(text[end:])
    return [Section("", (), (), "".join(kept), 1), *macros]


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _without_comments(path: Path, text: str) -> str:
    """The text without ``{...}``, which Vensim takes for a comment inside an equation; also drops the encoding."""
    kept: list[str] = []
    field = position = 0
    tokens = re.compile(r'"(?:\\.|[^"\\])*"|[{~|]')
    ends = re.compile(r"[~|]")
    while match := (tokens if field < 2 else ends).search(text, position):
        kept.append(text[position:match.start()])
        position = match.end()
        found = match.group()
        if found == "{":
            close = text.find("}", position)
            if close < 0:
                line = text.count("\n", 0, match.start()) + 1
                raise ModelFileError(f"{path.name}, line {line}: a comment that begins with {{ is not closed by }}")
            kept.append(" " + "\n" * text.count("\n", position, close))
            position = close + 1
            continue
        field = field + 1 if found == "~" else 0 if found == "|" else field
        kept.append(found)
    kept.append(text[position:])
    return "".join(kept)


def join_lines(text: str) -> str:
    """The text on one line, as the parser wants it: a backslash at the end of a line goes, blanks are single."""
    return re.sub(r"\s+", " ", re.sub(r"\\[ \t]*\n", " ", text))


class LineFinder:
    """Line numbers of a section's equations, asked for in file order: the translator keeps no positions.

    Between the file and the parser only blanks and backslashes change, so equations are looked for without them.
    """

    def __init__(self, section: Section) -> None:
        lines = [_BLANKS.sub("", line) for line in section.text.split("\n")]
        self._text, self._first_line = "".join(lines), section.line
        self._begins = list(accumulate(map(len, lines), initial=0))
        self._from = 0

    def find(self, equation: str) -> int | None:
        """The line on which the next equation with this text begins; None if there is none."""
        wanted = _BLANKS.sub("", equation)
        begin = self._text.find(wanted, self._from)
        if begin < 0 or not wanted:
            return None
        self._from = begin + len(wanted)
        return self._first_line + bisect_right(self._begins, begin) - 1


def quote_names(path: Path, equations: Sequence[str]) -> list[str]:
    """Equations with quotes around names that hold a slash, which Vensim asks for and older files leave out.

    Only a name that stands on the left of an equation is taken for one; elsewhere a slash divides.
    """
    sides = [" ".join(side[0].split()) for side in map(_LEFT_SIDE.match, equations) if side is not None]
    names = {name for name in sides if "/" in name and _SLASHED.fullmatch(name)}
    if not names:
        return list(equations)
    known_ids = set(map(canonical, sides))
    for name in names:
        if known_ids.issuperset(map(canonical, name.split("/"))):
            raise ModelFileError(f"{path.name}: {name!r} may be a name or a quotient; put quotes around the name")
    words = sorted(names, key=len, reverse=True)
    known = "|".join(r"\s+".join(map(re.escape, name.split())) for name in words)
    pattern = re.compile(rf'"(?:\\.|[^"\\])*"|(?<![\w$])(?:{known})(?![\w$])', re.IGNORECASE)

    def quoted(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith('"') else f'"{match[0]}"'

    return [pattern.sub(quoted, equation) for equation in equations]


def n_ranged(equation: str) -> int:
    """How many elements the ranges of a definition, such as ``(a1-a9)``, stand for."""
    if "=" in equation:
        return 0
    return sum(max(0, int(last[:_DIGITS]) - int(first[:_DIGITS])) + 1 for first, last in _RANGE.findall(equation))


def text_value(equation: str) -> tuple[str, str] | None:
    """Name and text of a text variable, ``name :IS: 'text'``; None for any other equation."""
    match = _TEXT.fullmatch(equation.strip())
    return (canonical(match[1]), match[2]) if match else None


def with_texts(equation: str, texts: Mapping[str, str]) -> str:
    """The equation with text variables among the arguments of GET functions replaced by what they say."""
    if not texts:
        return equation

    def arguments(match: re.Match[str]) -> str:
        parts = re.findall(r"(?:'[^']*'|[^,'])+", match[2])
        said = [f"'{texts[canonical(part)]}'" if canonical(part) in texts else part for part in parts]
        return f"{match[1]}{','.join(said)})"

    return _GET.sub(arguments, equation)


def with_equation(equation: str) -> str:
    """A data variable that is only a name gets the sign of a data equation, which the parser asks for."""
    return f"{equation} :=" if _BARE.fullmatch(equation) else equation


def outputs_as_arguments(equation: str, outputs: Mapping[str, int]) -> str:
    """``MACRO(x, y : a, b)`` with a comma for the colon, for macros that have outputs."""
    if not any(outputs.values()) or ":" not in equation:
        return equation
    for bracket in [place for place, character in enumerate(equation) if character == "("]:
        words = equation[max(0, bracket - _LONGEST_NAME):bracket].split()[-_MOST_WORDS:]
        if any(outputs.get(canonical(_NAME_END.sub(r"\1", " ".join(words[i:]))), 0) for i in range(len(words))):
            equation = _comma_for_colon(equation, bracket + 1)
    return equation


def _comma_for_colon(equation: str, start: int) -> str:
    depth, position = 1, start
    while position < len(equation) and depth:
        character = equation[position]
        if character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == ":" and depth == 1:
            keyword = _KEYWORDS.match(equation, position)
            if keyword is None:
                return equation[:position] + "," + equation[position + 1:]
            position = keyword.end()
            continue
        position += 1
    return equation
