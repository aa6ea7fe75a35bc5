"""The row summary: what `prepare` did with the rows of its tables, in lines for people."""

from __future__ import annotations

from llm_esr.data.dataset import Dataset
from llm_esr.data.splitting import iso
from llm_esr.tables.row_report import lines_of


def row_summary(data: Dataset) -> list[str]:
    """Rows read, kept, rejected, merged and filtered, by kind, for each table; then the notes."""
    rows = data.metadata["rows"]
    lines = [line for name in ("interactions", "items") if rows.get(name) for line in lines_of(rows[name], name)]
    return [*lines, *split_dates(data), *(f"note: {note}" for note in data.metadata["notes"])]


def split_dates(data: Dataset) -> list[str]:
    """Where validation and test begin, of a temporal split; a line, or none."""
    times = data.metadata.get("split_times")
    if not times:
        return []
    given = data.metadata["config"]
    chosen = [given.get(name) is None for name in ("validation_from", "test_from")]
    how = "chosen: the last tenth is for test, the tenth before it for validation" if all(chosen) else ""
    line = f"split: validation from {iso(times['validation_from'])}, test from {iso(times['test_from'])}"
    return [f"{line} ({how})" if how else line]
