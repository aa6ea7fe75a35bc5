"""What each section found, kept in `benchmarks.json` beside the page, so that the page can be written again.

Its `rows` are all sections' figures; `measured` has, for each section, when and on what it was measured, and its plots.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workload import ROOT, SMALL, Size

from llm_esr.files import read_json, write_json

FILE = "benchmarks.json"
Found = dict[str, dict[str, Any]]  # a section's name -> what `Results.to_json` gives


def output_folder(size: Size) -> Path:
    """`docs`; a trial's page does not overwrite the real one."""
    return ROOT / "runs" / "bench-small" if size == SMALL else ROOT / "docs"


def save(folder: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what sections found, in their order."""
    rows, measured = [], {}
    for name, values in found.items():
        measured[name] = {key: value for key, value in values.items() if key != "rows"}
        for row in values["rows"]:
            said = {key: value for key, value in row.items() if value or key not in ("asked", "note")}
            rows.append(said | {"section": name})
    write_json(folder / FILE, {"rows": rows, "measured": measured})


def load(folder: Path) -> Found:
    """What was measured before, here or elsewhere; empty where there is no such file."""
    if not (folder / FILE).exists():
        return {}
    page = read_json(folder / FILE)
    found: Found = {}
    for name, measured in page["measured"].items():
        found[name] = {"rows": [row for row in page["rows"] if row["section"] == name], **measured}
    return found
