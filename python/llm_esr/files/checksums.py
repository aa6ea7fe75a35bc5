"""Checksums of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from llm_esr.files.given import is_there
from llm_esr.files.records import read_record

_CHUNK = 1 << 22
LARGEST_VERIFIED = 1 << 28  # bytes: a fraction of a second
_verified: dict[tuple[str, int, int, int], str] = {}


def checksum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def verify(path: Path, promised: str | None, remedy: str) -> None:
    """Compare a file with its checksum, once in a process for each state of the file.

    Files beyond `LARGEST_VERIFIED` are left to `llm-esr doctor`: they are mapped, and reading them whole would take
    longer than what is done with them.

    Args:
        path: an existing file.
        promised: the checksum that its record holds; None: it holds none.
        remedy: what makes the file again.

    Raises:
        ValueError: the file differs.
    """
    if promised is None:
        return
    state = path.stat()
    key = (str(path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns)
    if state.st_size > LARGEST_VERIFIED or _verified.get(key) == promised:
        return
    if checksum(path) != promised:
        raise ValueError(f"{path} differs from the checksum of its record: damaged or replaced; {remedy}")
    _verified[key] = promised


def verify_beside(path: Path, remedy: str) -> None:
    """As `verify`, with the checksum in the JSON beside an array, where there is one."""
    beside = path.with_suffix(".json")
    if not is_there(beside) or not path.exists():
        return  # who opens it says what makes it
    verify(path, read_record(beside).get("checksum"), remedy)
