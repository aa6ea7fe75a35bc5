"""How much memory there is, and the refusal of what cannot fit."""

from __future__ import annotations

import os
from pathlib import Path


def machine_memory() -> int | None:
    """Bytes of memory of this machine, or what a control group leaves of it; None where nobody says."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            found = min(found, int(limit))
    return found


def refuse_beyond_memory(n_bytes: int, what: str, remedy: str) -> None:
    """Raise a `ValueError` where an array of `n_bytes` is larger than the machine's memory."""
    there = machine_memory()
    if there is not None and n_bytes > there:
        raise ValueError(f"{what} would take {size_text(n_bytes)} and the machine has {size_text(there)}; {remedy}")


def size_text(n_bytes: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.0f} PB"
