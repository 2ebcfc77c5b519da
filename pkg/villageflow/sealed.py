"""Files of text that carry their kind, version, length and digest, so that damage is seen before anything is read.

A sealed file is one line, ``villageflow KIND VERSION LENGTH SHA256`` and a line feed, and then LENGTH bytes of UTF-8.
The digest covers kind, version and text. It guards against damage, not against somebody who writes such a file
on purpose: readers check the text as they would any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from villageflow.errors import StoredFileError

_MAGIC = "villageflow"
_MAX_HEADER = 200


def seal(kind: str, version: int, text: str) -> bytes:
    """The bytes of a sealed file."""
    content = text.encode()
    return f"{_MAGIC} {kind} {version} {len(content)} {_digest(kind, version, content)}\n".encode() + content


def unseal(kind: str, version: int, sealed: bytes) -> str:
    """The text of a sealed file.

    Raises
    ------
    StoredFileError
        It is of another kind or version, cut short, or damaged.
    """
    header, _, content = sealed.partition(b"\n")
    words = header[:_MAX_HEADER].decode("utf-8", "replace").split(" ")
    if len(words) != 5 or words[:2] != [_MAGIC, kind]:
        raise StoredFileError(f"is not a stored {kind}: its first line must begin with '{_MAGIC} {kind}'")
    if words[2] != str(version):
        raise StoredFileError(f"is a stored {kind} of version {words[2]!r}; this package reads version {version}")
    if words[3] != str(len(content)):
        raise StoredFileError(f"is damaged: its first line promises {words[3]} bytes, and {len(content)} follow")
    if words[4] != _digest(kind, version, content):
        raise StoredFileError("is damaged: its digest does not fit its content")
    return content.decode()


def _digest(kind: str, version: int, content: bytes) -> str:
    return hashlib.sha256(f"{kind} {version}\n".encode() + content).hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: readers see the old file or the new one, never a part. Raises `OSError`."""
    part = path.with_name(f".{os.urandom(8).hex()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
