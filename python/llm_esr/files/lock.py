"""Locks that a process holds, and that end with it, however it ends: one writer a folder, one change of a record."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_esr.files.refusals import writing

try:
    import fcntl
except ImportError:  # Windows: two writers are not told apart there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
CAN_LOCK = fcntl is not None
_WAIT = 0.02  # seconds between two tries


@contextmanager
def lock_folder(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder's lock while the block runs.

    The system gives the lock back when its process ends, so a lock file that a killed process left behind is free.

    Args:
        folder: made where it is missing, and taken away again where nothing was put into it; the file `.lock` in it
            says who holds it.
        doing: what is done there, for the message, such as `trained`. The folder may be replaced as a whole meanwhile.

    Raises:
        ValueError: another process holds it; the message has its number, machine and start.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    path = folder / LOCK
    handle = hold(path)
    if handle is None:
        raise ValueError(
            f"{folder} is being {_owner(path)}; wait until it has finished, stop it, or give another folder"
        )
    try:
        owner = {
            "doing": doing,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with writing(path):
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(owner).encode())
        yield
    finally:
        if is_at(handle, path):
            path.unlink()
        os.close(handle)
        for made in missing:
            with suppress(OSError):  # not empty: the training put something there
                made.rmdir()


@contextmanager
def lock_record(path: Path) -> Iterator[None]:
    """Wait until no other process changes a record, and hold it while the block reads and writes it.

    Args:
        path: the record; the lock is an empty file beside it, which goes when nobody holds it.
    """
    if fcntl is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}{LOCK}")
    while (handle := hold(lock)) is None:
        time.sleep(_WAIT)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def drop_lock(folder: Path) -> None:
    """Take away the lock file that a killed process left in a folder; one that is held stays."""
    path = folder / LOCK
    if fcntl is None or not path.exists():
        return
    handle = hold(path)
    if handle is not None:
        path.unlink()
        os.close(handle)


def is_at(handle: int, path: Path) -> bool:
    """Whether a handle is on what lies at a path now."""
    try:
        found = path.stat()
    except OSError:
        return False
    held = os.fstat(handle)
    return (held.st_ino, held.st_dev) == (found.st_ino, found.st_dev)


def hold(path: Path, *, create: bool = True, only_locked: bool = False) -> int | None:
    """A handle on a file or folder that nobody else holds; None: it is held, or is not there and not to be made.

    On a file system without locks everything is free, and nothing where `only_locked`.
    """
    flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
    while True:
        try:
            handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o644)
        except FileNotFoundError:
            if create:
                raise
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if only_locked or isinstance(error, BlockingIOError):
                os.close(handle)
                return None
        # The owner before may have taken the file away between the opening and the lock: then this is another file.
        if is_at(handle, path):
            return handle
        os.close(handle)
        if not create:
            return None


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"{owner['doing']} by process {int(owner['pid'])} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "written by another process"
