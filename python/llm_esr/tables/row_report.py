"""The fate of every row: counted by kind, the first few of each with source line and value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = 5

# Kind of a row that is not kept -> what happened to it. The order is the order of the checks: the first that fits.
FATES = {
    "malformed_record": "rejected",
    "missing_id": "rejected",
    "bad_timestamp": "rejected",
    "bad_order": "rejected",
    "bad_where_value": "rejected",
    "where": "filtered",
    "duplicate": "merged",
    "count_filter": "filtered",
    "unseen": "filtered",
    "cold_item": "filtered",
}

WORDS = {
    "malformed_record": "malformed record",
    "missing_id": "missing id",
    "bad_timestamp": "bad timestamp",
    "bad_order": "bad order value",
    "bad_where_value": "no number where --where needs one",
    "where": "left out by --where",
    "duplicate": "duplicate",
    "count_filter": "count filter",
    "unseen": "item without an interaction",
    "cold_item": "cold item before the test",
}


@dataclass
class RowReport:
    """The rows of one table: `read` = `kept` + everything in `counts`."""

    read: int = 0
    kept: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, kind: str, count: int, examples: Iterable[tuple[str, str, int, object]] = ()) -> None:
        """Count rows of a kind; `examples` (file, 'line' or 'row', number, value) are kept while there is room."""
        assert kind in FATES, kind
        if not count:
            return
        self.counts[kind] = self.counts.get(kind, 0) + count
        shown = self.examples.setdefault(kind, [])
        for file, line_kind, number, value in examples:
            if len(shown) >= EXAMPLES:
                break
            shown.append({"file": file, line_kind: number, "value": None if value is None else str(value)[:120]})

    def room(self, kind: str) -> int:
        """How many more examples of a kind are wanted."""
        return EXAMPLES - len(self.examples.get(kind, []))

    def total(self, fate: str) -> int:
        """Rows with a fate: 'rejected', 'merged' or 'filtered'."""
        return sum(count for kind, count in self.counts.items() if FATES[kind] == fate)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        totals = {fate: self.total(fate) for fate in ("rejected", "merged", "filtered")}
        assert self.read == self.kept + sum(totals.values()), (self.read, self.kept, self.counts)
        return {
            "read": self.read,
            "kept": self.kept,
            **totals,
            "kinds": {kind: self.counts[kind] for kind in FATES if kind in self.counts},
            "examples": {kind: self.examples[kind] for kind in FATES if kind in self.examples},
        }


def lines_of(report: dict[str, Any], name: str) -> list[str]:
    """A report's text, a line for each kind with its first examples."""
    lines = [
        f"{name}: read {report['read']:,} = kept {report['kept']:,} + rejected {report['rejected']:,} "
        f"+ merged {report['merged']:,} + filtered {report['filtered']:,}"
    ]
    for kind, count in report["kinds"].items():
        line = f"  {count:,} {WORDS[kind]}"
        examples = report["examples"].get(kind, [])
        # What an option asked for needs a count only; what was not expected shows itself.
        if examples and FATES[kind] == "rejected":
            line += ": " + "; ".join(example_text(example) for example in examples[:3])
        lines.append(line)
    return lines


def example_text(example: dict[str, Any]) -> str:
    """One example: file, source line, value."""
    source_line = f"line {example['line']}" if "line" in example else f"row {example['row']}"
    return f"{Path(example['file']).name} {source_line} {example['value']!r}"
