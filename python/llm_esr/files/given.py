"""Paths as a user gives them, and whether something is there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def given_path(value: str | os.PathLike[str]) -> Path:
    """The path itself; a leading `~` is the home folder where nothing of that name is here.

    Raises:
        ValueError: no path.
    """
    try:
        path = Path(value)
    except TypeError:
        raise ValueError(f"expected a path (a text or a Path), got {_short(value)}") from None
    # By what was written: `./~` is a folder of that name, whatever `Path` makes of it.
    if os.fsdecode(value).startswith("~") and not Path(path.parts[0]).exists():
        with suppress(RuntimeError):  # nobody of that name has a home here
            return path.expanduser()
    return path


def _short(value: object) -> str:
    """A value by its type, and its text where that is a short line."""
    name, text = type(value).__name__, repr(value)
    return name if "\n" in text or len(text) > 80 else f"{name}: {text}"


def behind_links(path: Path) -> Path:
    """Where a link leads, also one that leads to what is not there yet; another path as it is."""
    return path.resolve() if path.is_symlink() else path


def is_there(path: Path) -> bool:
    """Whether a name is taken: by a file, or by a link that leads nowhere, which is damage and not absence."""
    return path.exists() or path.is_symlink()
