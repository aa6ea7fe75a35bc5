"""Temporary folders beside what is written; those of dead processes go when the next process writes there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_esr.files.lock import CAN_LOCK, drop_lock, hold, is_at
from llm_esr.files.refusals import prefix_of

_SUFFIX = ".llm-esr-tmp"
_swept: set[tuple[int, str]] = set()  # (process, folder)


@contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, whose parent must be there; gone after the block if still there.

    Its process holds a lock on it, so that others can tell that it is in use, whatever is written and renamed in it.
    """
    _sweep_once(target.parent)
    path, handle = _make(target)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def tidy(folder: Path) -> None:
    """Take away what a process left that was killed when all was written: its lock and its temporaries."""
    drop_lock(folder)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Take away the temporaries that killed processes left in a folder; those in use stay."""
    if not CAN_LOCK:
        return
    with suppress(OSError):
        for path in folder.glob(f".*{_SUFFIX}"):
            handle = hold(path, create=False, only_locked=True)
            if handle is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(handle)


def _sweep_once(folder: Path) -> None:
    """Sweep a folder at this process's first write into it: what is left there later is in use."""
    key = (os.getpid(), str(folder.absolute()))
    if key not in _swept:
        _swept.add(key)
        sweep(folder)


def _make(target: Path) -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix_of(target), suffix=_SUFFIX, dir=target.parent))
        if not CAN_LOCK:
            return path, None
        handle = hold(path, create=False)
        # A sweep may have come between the making and the lock.
        if handle is not None and is_at(handle, path):
            return path, handle
