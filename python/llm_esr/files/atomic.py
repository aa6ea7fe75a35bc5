"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from llm_esr.files.given import behind_links
from llm_esr.files.refusals import writing
from llm_esr.files.temporaries import temporary


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; when the block ends well it is synced and renamed to `path`.

    A link is followed: what it leads to is written.

    Raises:
        OSError: the disk takes no more; the message has `path`, and what lay there is untouched.
    """
    target = behind_links(Path(path))
    with writing(target):
        _make_parents(target)
        with temporary(target) as folder:
            # By another name: who looks for records in folders must not find this one.
            made = folder / f"new{target.suffix}"
            yield made
            _sync(made)
            _with_usual_permissions(made)
            made.replace(target)
            sync_folder(target.parent)


@contextmanager
def atomic_file(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; when the block ends well it is synced and takes the name `path`."""
    with atomic_path(path) as made, made.open(mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a temporary folder beside `path`; when the block ends well it takes the place of `path` as a whole.

    Where the system can exchange two names (Linux, macOS), `path` is the old folder or the new one at every moment.
    """
    target = behind_links(Path(path))
    with writing(target):
        _make_parents(target)
        with temporary(target) as made:
            yield made
            for inner in (*made.rglob("*"), made):
                if inner.is_file() or inner.is_dir():  # not a link that leads nowhere, not a pipe
                    _sync(inner)
            made.chmod(0o755)
            _put_in_place(made, target)
            # The temporary name may hold the old folder now; it goes with the block.


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the system can."""
    if os.name == "posix":
        _sync(folder)


def _put_in_place(made: Path, target: Path) -> None:
    if target.exists() and not _exchange(made, target):
        # No exchange here: for a moment there is no folder of this name.
        with temporary(target) as old:
            target.replace(old / target.name)
            made.replace(target)
            sync_folder(target.parent)
    elif not target.exists():
        made.replace(target)
    sync_folder(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change their names at once; False where the system or the file system cannot."""
    names = (os.fsencode(one), os.fsencode(other))
    here, swap = -100, 2  # AT_FDCWD; RENAME_EXCHANGE, and RENAME_SWAP of macOS
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, swap) == 0)
        return bool(library.renameat2(here, names[0], here, names[1], swap) == 0)
    except (OSError, AttributeError, TypeError):
        return False


def _make_parents(target: Path) -> None:
    missing = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _with_usual_permissions(path: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
