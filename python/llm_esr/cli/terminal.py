"""The terminal's width, where the environment gives one that shows nothing."""

from __future__ import annotations

import os

_LEAST_COLUMNS = 20


def mend_width() -> None:
    """Forget a terminal width of nothing, as cron, `docker exec` and some CI give it: nothing would be printed."""
    for name in ("COLUMNS", "LINES"):
        given = os.environ.get(name)
        if given is not None and not (given.strip().isdecimal() and int(given) > 0):
            del os.environ[name]
    columns = os.environ.get("COLUMNS")
    if columns is not None and int(columns) < _LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(_LEAST_COLUMNS)
