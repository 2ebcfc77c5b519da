"""Compiled programs as files: versioned text with a digest, checked in full when read. See ``docs/programs.md``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from villageflow.errors import ProgramError, StoredFileError
from villageflow.ir.codec import Codec, dataclasses_of
from villageflow.program import program as programs
from villageflow.program.opcodes import kernel_text
from villageflow.program.program import SCALARS, SEGMENTS, Program
from villageflow.sealed import seal, unseal, write_whole

VERSION: Final = 2
"""Of the file's layout. What operations mean is told apart by `machine`, which every file states."""

_CODEC = Codec(Program, dataclasses_of(programs))


def machine() -> str:
    """SHA-256 over the table of operations, the segments and the reserved registers: what a tape's numbers mean."""
    return hashlib.sha256(repr((kernel_text(), SEGMENTS, SCALARS)).encode()).hexdigest()


def save_program(program: Program, path: str | Path) -> None:
    """Write a program to a file, in one step.

    Parameters
    ----------
    program : Program
        As `compile_model` gives it.
    path : str or Path
        The file; it is replaced if it exists.

    Raises
    ------
    ProgramError
        The file cannot be written.
    """
    text = f"{machine()}\n{program.digest}\n{_CODEC.write(program)}\n"
    try:
        write_whole(Path(path), seal("program", VERSION, text))
    except OSError as error:
        raise ProgramError(f"{path}: the program cannot be written: {error.strerror}") from None


def load_program(path: str | Path) -> Program:
    """Read a program that `save_program` wrote.

    Parameters
    ----------
    path : str or Path
        The file. Nothing of it is executed.

    Returns
    -------
    Program
        With the digest that it was saved with. It is checked as a new one is: known operations, registers in range,
        every register written before it is read.

    Raises
    ------
    ProgramError
        The file is missing, damaged, of another version, for another table of operations, or no valid program.
    """
    try:
        machine_of_file, digest, text = unseal("program", VERSION, Path(path).read_bytes()).split("\n", 2)
    except OSError as error:
        raise ProgramError(f"{path}: the program cannot be read: {error.strerror}") from None
    except (StoredFileError, ValueError) as error:
        raise ProgramError(f"{path} {error}; compile the model again") from None
    if machine_of_file != machine():
        raise ProgramError(f"{path} was compiled for another table of operations; compile the model again")
    try:
        program: Program = _CODEC.read(text)
    except (StoredFileError, ProgramError) as error:
        raise ProgramError(f"{path} holds no valid program: {error}") from None
    if program.digest != digest:
        raise ProgramError(f"{path} holds another program than its digest says; compile the model again")
    return program
