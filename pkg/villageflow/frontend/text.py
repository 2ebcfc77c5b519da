"""Model files as checked text: decoding, size, nesting, and the few rewritings that the parser needs.

The parser drops bytes that it cannot decode and resolves what it should not; everything here happens before
it sees a character. Each rewriting is stated where it is made and in ``docs/model_files.md``.
"""

from __future__ import annotations

import codecs
import re
from itertools import pairwise
from pathlib import Path

from lxml import etree

from villageflow.errors import ModelFileError
from villageflow.frontend.ranges import most_elements

_MAX_BYTES = 64 * 1024 * 1024
MAX_NESTING = 200

_DECLARED_ENCODING = re.compile(rb"^\s*\{([^}\r\n]{1,40})\}")
_SKETCH = re.compile(r"^\\{2,}---///", re.MULTILINE)
_ISEE_PREFIX = re.compile(rb"[<\s]/?isee:")
_ROOT_TAG = re.compile(rb"<xmile\b")
EVERY_SUBSCRIPT = "every_element_of_the_dimension"
"""What stands for ``*`` between brackets: the grammar takes only names there."""

_EVERY = re.compile(r"(?<=[\[,])\s*\*\s*(?=[\],])")
_WORDS = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|\{[^{}]*\}|\b(?:if|then|else|mod)\b', re.IGNORECASE)
_DOCUMENT_TYPE = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


def read_bytes(path: Path) -> bytes:
    """The bytes of a model file, refused when missing, not a file, or larger than 64 MB."""
    try:
        if not path.is_file():
            what = "is a folder, not a model file" if path.is_dir() else "does not exist"
            raise ModelFileError(f"{path} {what}; give the path of a .mdl, .xmile or .stmx file")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelFileError(f"{path} has {size:,} bytes; a model file may have at most {_MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from None


def vensim_text(path: Path, content: bytes) -> str:
    """The equations of a Vensim file in its declared encoding (UTF-8 when none is declared), without its sketch."""
    text = _decode(path, content)
    parts = _SKETCH.split(text, maxsplit=1)
    equations = parts[0].replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in equations:
        raise ModelFileError(f"{path} holds null characters; it is not a Vensim text model")
    _check_nesting(path, equations)
    return equations


def _decode(path: Path, content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif declared := _DECLARED_ENCODING.match(content.removeprefix(codecs.BOM_UTF8)):
        encoding = declared.group(1).decode("ascii", "replace").strip()
    else:
        encoding = "utf-8"
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise ModelFileError(
            f"{path} declares the encoding {encoding!r}, which is not known; correct its first line"
        ) from None
    if not getattr(codec, "_is_text_encoding", True):
        raise ModelFileError(f"{path} declares {encoding!r}, which is not a text encoding; correct its first line")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode(codec.name)
    except UnicodeError as error:
        if not isinstance(error, UnicodeDecodeError):
            raise ModelFileError(f"{path} cannot be decoded as {codec.name}: {error}; save it as UTF-8") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise ModelFileError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is not {codec.name}; "
            "save the file as UTF-8 or name its encoding in the first line, such as {UTF-8}"
        ) from None


def _check_nesting(path: Path, text: str) -> None:
    depth = 0
    for match in re.finditer(r"[(\[|)\]]", text):
        character = match.group()
        if character in "([":
            depth += 1
            if depth > MAX_NESTING:
                line = text.count("\n", 0, match.start()) + 1
                raise ModelFileError(
                    f"{path}, line {line}: brackets nest deeper than {MAX_NESTING}; simplify the equation"
                )
        elif character == "|":
            depth = 0
        else:
            depth = max(depth - 1, 0)


def xmile_root(path: Path, content: bytes) -> etree._Element:
    """The root element of an XMILE or Stella file, parsed strictly: no entities, no network, no repair.

    Rewritings: a file that uses the prefix ``isee:`` without declaring it gets the declaration; variables that
    older files put straight under ``model`` move into a ``variables`` element; a range with one end gets the other;
    a graph with points for x loses its scale; a dimension with a size gets the names of its elements; ``*`` for
    every element becomes a name; and IF, THEN, ELSE and MOD get the case that the grammar knows. Comments, of XML and
    in braces, are dropped, since the translator reads an equation only
    up to the first one.
    """
    if found := _DOCUMENT_TYPE.search(content):
        line = content.count(b"\n", 0, found.start()) + 1
        raise ModelFileError(
            f"{path}, line {line}: a model file may not declare a document type or entities; remove it"
        )
    if _ISEE_PREFIX.search(content) and b"xmlns:isee" not in content:
        content = _ROOT_TAG.sub(b'<xmile xmlns:isee="http://iseesystems.com/XMILE"', content, count=1)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise ModelFileError(f"{path}, line {error.lineno}: malformed XML ({error.msg}); repair the file") from None
    if root.getroottree().docinfo.internalDTD is not None:  # in an encoding that the search above does not see
        raise ModelFileError(f"{path}: a model file may not declare a document type or entities; remove it")
    if etree.QName(root).localname != "xmile" or root.nsmap.get(None) is None:
        raise ModelFileError(f"{path} is XML but not an XMILE model: its root element is {root.tag!r}")
    space = f"{{{root.nsmap[None]}}}"
    for model in root.iter(f"{space}model"):
        _gather_variables(model, space)
    for span in root.iter(f"{space}range"):
        span.set("min", span.get("min", "-inf"))
        span.set("max", span.get("max", "inf"))
    most = most_elements(len(content))
    for dimension in root.iterfind(f"{space}dimensions/{space}dim"):
        most -= _name_elements(path, dimension, space, most)
    for equation in root.iter(f"{space}eqn"):
        text = _WORDS.sub(_word, equation.text or "")
        equation.text = _EVERY.sub(EVERY_SUBSCRIPT, text if text.strip() else equation.text or "")
    texts = {"sim_specs": ("start", "stop", "dt"), "variables": ("eqn", "inflow", "outflow", "xpts", "ypts")}
    for parent, tags in texts.items():
        for tag in tags:
            for element in root.iterfind(f".//{space}{parent}//{space}{tag}"):
                _check_text(path, element)
    for graph in root.iter(f"{space}gf"):
        _check_graph(path, graph, space)
    return root


def _word(match: re.Match[str]) -> str:
    """A quoted name as it is, a blank for a comment, and the words of XMILE in the case that the grammar asks for."""
    found = match[0]
    if found[0] in '"{':
        return found if found[0] == '"' else " "
    return found.lower() if found.lower() == "mod" else found.upper()


def _name_elements(path: Path, dimension: etree._Element, space: str, most: int) -> int:
    """A dimension with a size and no names has the elements 1, 2, ...; returns how many were added."""
    if dimension.get("size") is None:
        return 0
    place = f"{path}, line {dimension.sourceline}: dimension {dimension.get('name')!r}"
    if n_named := len(dimension.findall(f"{space}elem")):
        if dimension.get("size").strip() != str(n_named):
            raise ModelFileError(
                f"{place} has the size {dimension.get('size')!r:.40} and {n_named} names; they must agree"
            )
        return 0
    try:
        size = int(dimension.get("size"))
    except ValueError:
        size = 0
    if not 1 <= size <= most:
        raise ModelFileError(
            f"{place} has the size {dimension.get('size')!r:.40}; it is a whole number, all together at most {most:,}"
        )
    for number in range(1, size + 1):
        etree.SubElement(dimension, f"{space}elem", name=str(number))
    return size


def _check_text(path: Path, element: etree._Element) -> None:
    """An element that holds text and nothing else; the translator would read it only up to the first child."""
    what = etree.QName(element).localname
    if len(element):
        raise ModelFileError(f"{path}, line {element.sourceline}: <{what}> holds other elements; it may hold text only")
    if not (element.text or "").strip():
        raise ModelFileError(f"{path}, line {element.sourceline}: <{what}> is empty; write its equation or numbers")
    _check_nesting(path, element.text)


def _check_graph(path: Path, graph: etree._Element, space: str) -> None:
    """The points of a graphical function: as many x as y, all numbers, x increasing."""
    place = f"{path}, line {graph.sourceline}"
    scale, points = graph.find(f"{space}xscale"), graph.find(f"{space}xpts")
    if scale is not None and points is not None:  # the translator would take the scale
        graph.remove(scale)
        scale = None
    try:
        y = _numbers(graph.find(f"{space}ypts"))
        x = _numbers(points) if scale is None else [float(scale.get("min")), float(scale.get("max"))]
    except (AttributeError, TypeError, ValueError):
        raise ModelFileError(
            f"{place}: a graph needs numbers: <ypts>, and <xpts> or the min and max of <xscale>"
        ) from None
    if scale is None and len(x) != len(y):
        raise ModelFileError(f"{place}: a graph has {len(x)} x values and {len(y)} y values; it needs as many of each")
    if any(not later > earlier for earlier, later in pairwise(x)):
        raise ModelFileError(f"{place}: the x values of a graph do not increase; order its points")
    if graph.get("type", "continuous") not in ("continuous", "extrapolate", "discrete"):
        raise ModelFileError(f"{place}: a graph has the type {graph.get('type')!r}, which is not known")


def _numbers(points: etree._Element) -> list[float]:
    return [float(value) for value in points.text.split(points.get("sep", ","))]


def _gather_variables(model: etree._Element, space: str) -> None:
    loose = [child for child in model if child.tag in {space + tag for tag in ("stock", "flow", "aux", "gf", "module")}]
    if loose:
        variables = model.find(f"{space}variables")
        if variables is None:
            variables = etree.SubElement(model, f"{space}variables")
        for child in loose:
            variables.append(child)
