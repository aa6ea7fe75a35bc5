"""Memory that a training step frees, kept for the next step.

A step on the CPU asks for tensors of some megabytes thousands of times. glibc gives such blocks back to the system when
they are freed, and the next step waits while the system clears every page again: about a fifth of the step. Within
`kept_memory` they stay with the process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: (1 << 31) - 1}  # up to 2 GiB at the heap's end
# Where glibc's own adjustment ends once large blocks were freed.
_USUAL = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


@contextmanager
def kept_memory(*, wanted: bool = True) -> Iterator[bool]:
    """Keep freed memory until the end of the block; yields whether that is done.

    Does nothing where it is not wanted, without glibc, and where the environment sets `MALLOC_...` or glibc's tunables:
    who set them has decided.
    """
    libc = _glibc() if wanted and not _decided() else None
    if libc is None:
        yield False
        return
    for option, value in _KEPT.items():
        libc.mallopt(option, value)
    try:
        yield True
    finally:
        for option, value in _USUAL.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)


def _decided() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc" in tunables or any(name.startswith("MALLOC_") for name in os.environ)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        return libc if libc.gnu_get_libc_version and libc.mallopt and libc.malloc_trim else None
    except (AttributeError, OSError, TypeError):  # other C libraries; Windows knows no process's own symbols
        return None
