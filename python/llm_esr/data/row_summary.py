"""The row summary: what `prepare` did with the rows of its tables, in lines for people."""

from __future__ import annotations

from llm_esr.data.dataset import Dataset
from llm_esr.tables.row_report import lines_of


def row_summary(data: Dataset) -> list[str]:
    """Rows read, kept, rejected, merged and filtered, by kind, for each table; then the notes."""
    rows = data.metadata["rows"]
    lines = [line for name in ("interactions", "items") if rows.get(name) for line in lines_of(rows[name], name)]
    return lines + [f"note: {note}" for note in data.metadata["notes"]]
