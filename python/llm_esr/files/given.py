"""Paths as a user gives them, and whether something is there."""

from __future__ import annotations

import os
from pathlib import Path


def given_path(value: str | os.PathLike[str]) -> Path:
    """The path itself; a leading `~` is the home folder where nothing of that name is here."""
    path = Path(value)
    if path.parts and path.parts[0].startswith("~") and not Path(path.parts[0]).exists():
        return path.expanduser()
    return path


def is_there(path: Path) -> bool:
    """Whether a name is taken: by a file, or by a link that leads nowhere, which is damage and not absence."""
    return path.exists() or path.is_symlink()
