"""One writer a folder: a lock that its process holds, and that ends with the process, however it ends."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two writers are not told apart there
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"


@contextmanager
def lock_folder(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder's lock while the block runs.

    The system gives the lock back when its process ends, so a lock file that a killed process left behind is free.

    Args:
        folder: made where it is missing, and taken away again where nothing was put into it; the file `.lock` in it
            says who holds it.
        doing: what is done there, for the message, such as `trained`.

    Raises:
        ValueError: another process holds it; the message has its number, machine and start.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    path = folder / _NAME
    handle = _hold(path)
    if handle is None:
        raise ValueError(
            f"{folder} is being {doing} by {_owner(path)}; wait until it has finished, stop it, or give another folder"
        )
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(owner).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        for made in missing:
            with suppress(OSError):  # not empty: the training put something there
                made.rmdir()


def _hold(path: Path) -> int | None:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        # The owner before may have taken the file away between the opening and the lock: then this is another file.
        if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
            return handle
        os.close(handle)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(owner['pid'])} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
