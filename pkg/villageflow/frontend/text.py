"""Model files as checked text: decoding, size, nesting, and the few rewritings that the parser needs.

The parser drops bytes that it cannot decode and resolves what it should not; everything here happens before
it sees a character. Each rewriting is stated where it is made and in ``docs/model_files.md``.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from lxml import etree

from villageflow.errors import ModelFileError

_MAX_BYTES = 64 * 1024 * 1024
MAX_NESTING = 200

_DECLARED_ENCODING = re.compile(rb"^\s*\{([^}\r\n]{1,40})\}")
_NEGATIVE_BASE = re.compile(
    r"(?P<before>(?:^|[-+*/^(,=<>]|:NOT:|:AND:|:OR:)\s*)-\s*(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)(?P<power>\s*\^)",
    re.IGNORECASE,
)
_ISEE_PREFIX = re.compile(rb"[<\s]/?isee:")
_ROOT_TAG = re.compile(rb"<xmile\b")
_DOCUMENT_TYPE = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


def read_bytes(path: Path) -> bytes:
    """The bytes of a model file, refused when missing, not a file, or larger than 64 MB."""
    if not path.is_file():
        what = "is a folder, not a model file" if path.is_dir() else "does not exist"
        raise ModelFileError(f"{path} {what}; give the path of a .mdl, .xmile or .stmx file")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ModelFileError(f"{path} has {size:,} bytes; a model file may have at most {_MAX_BYTES:,}")
    return path.read_bytes()


def vensim_text(path: Path, content: bytes) -> str:
    """The text of a Vensim file in its declared encoding (UTF-8 when none is declared).

    One rewriting: ``-2^x`` becomes ``-(2+0)^x``, because the parser binds the sign of a literal more tightly
    than the power, which Vensim does not.
    """
    text = _decode(path, content)
    equations, mark, sketch = text.partition("\\\\\\---///")
    if "\0" in equations:
        raise ModelFileError(f"{path} holds null characters; it is not a Vensim text model")
    _check_nesting(path, equations)
    equations = _NEGATIVE_BASE.sub(r"\g<before>-(\g<number>+0)\g<power>", equations)
    return equations + mark + sketch


def _decode(path: Path, content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif declared := _DECLARED_ENCODING.match(content.removeprefix(codecs.BOM_UTF8)):
        encoding = declared.group(1).decode("ascii", "replace").strip()
    else:
        encoding = "utf-8"
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise ModelFileError(
            f"{path} declares the encoding {encoding!r}, which is not known; correct its first line"
        ) from None
    if not getattr(codec, "_is_text_encoding", True):
        raise ModelFileError(f"{path} declares {encoding!r}, which is not a text encoding; correct its first line")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode(codec.name)
    except UnicodeDecodeError as error:
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
                raise ModelFileError(f"{path}, line {line}: brackets nest deeper than {MAX_NESTING}; simplify the equation")
        elif character == "|":
            depth = 0
        else:
            depth = max(depth - 1, 0)


def xmile_root(path: Path, content: bytes) -> etree._Element:
    """The root element of an XMILE or Stella file, parsed strictly: no entities, no network, no repair.

    One rewriting: a file that uses the prefix ``isee:`` without declaring it gets the declaration.
    """
    if found := _DOCUMENT_TYPE.search(content):
        line = content.count(b"\n", 0, found.start()) + 1
        raise ModelFileError(f"{path}, line {line}: a model file may not declare a document type or entities; remove it")
    if _ISEE_PREFIX.search(content) and b"xmlns:isee" not in content:
        content = _ROOT_TAG.sub(b'<xmile xmlns:isee="http://iseesystems.com/XMILE"', content, count=1)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise ModelFileError(f"{path}, line {error.lineno}: malformed XML ({error.msg}); repair the file") from None
    if etree.QName(root).localname != "xmile" or root.nsmap.get(None) is None:
        raise ModelFileError(f"{path} is XML but not an XMILE model: its root element is {root.tag!r}")
    return root
