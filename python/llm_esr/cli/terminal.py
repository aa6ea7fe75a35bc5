"""The terminal's width: mended where the environment gives one that shows nothing, and what is cut to it."""

from __future__ import annotations

import os

from rich.cells import cell_len, set_cell_size
from rich.console import Console

_LEAST_COLUMNS = 20
_LEAST_ROOM = 24  # cells that a text keeps in any case
_IN_A_FILE = 120  # a line's length where nothing is a terminal


def shortened(text: str, room: int) -> str:
    """A text in so many cells, `...` at its end where it is longer; never less than `_LEAST_ROOM`."""
    room = max(room, _LEAST_ROOM)
    return text if cell_len(text) <= room else set_cell_size(text, room - 3).rstrip() + "..."


def line_length(console: Console) -> int:
    """How long a line of words may be: as wide as the terminal is."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else _IN_A_FILE


def mend_width() -> None:
    """Forget a terminal width of nothing, as cron, `docker exec` and some CI give it: nothing would be printed."""
    for name in ("COLUMNS", "LINES"):
        given = os.environ.get(name)
        if given is not None and not (given.strip().isdecimal() and int(given) > 0):
            del os.environ[name]
    columns = os.environ.get("COLUMNS")
    if columns is not None and int(columns) < _LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(_LEAST_COLUMNS)
