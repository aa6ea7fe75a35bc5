"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from llm_esr.files.temporaries import prefix_of, temporary

# What a disk says that takes no more. Libraries in Rust put the number into their message.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
_OS_ERROR = re.compile(r"os error (\d+)")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; when the block ends well it is synced and renamed to `path`.

    Raises:
        OSError: the disk takes no more; the message has `path`, and what lay there is untouched.
    """
    target = Path(path)
    with writing(target):
        _make_parents(target)
        with temporary(target) as folder:
            made = folder / target.name
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
    target = Path(path)
    with writing(target):
        _make_parents(target)
        with temporary(target) as made:
            yield made
            for inner in (*made.rglob("*"), made):
                _sync(inner)
            made.chmod(0o755)
            _put_in_place(made, target)
            # The temporary name may hold the old folder now; it goes with the block.


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what any library says of a disk that takes no more into an error that names the file."""
    try:
        yield
    except Exception as error:
        number = _refusal(error, target)
        if number is None:
            raise
        what = f"{os.strerror(number)}; it was not written, and what lay there is as it was: free space there, or "
        raise OSError(number, f"{what}name a place that can be written", str(target)) from error


def _refusal(error: Exception, target: Path) -> int | None:
    """The number of a system's refusal to write `target`; None: another error."""
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
        if error.filename is None:
            return number if number in _FULL else None
        about, prefix = Path(os.fsdecode(error.filename)), prefix_of(target)
        ours = about in (target, *target.parents) or any(part.startswith(prefix) for part in about.parts)
        return number if ours and number in _FULL | _CLOSED else None
    found = _OS_ERROR.search(str(error))
    return int(found.group(1)) if found and int(found.group(1)) in _FULL else None


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
