"""What each section found, kept in `runs/bench/results`, so that the page can be written again without measuring."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from measuring import Results
from workload import ROOT, SMALL, Size

from llm_esr.files import read_json, write_json


def output_folder(size: Size) -> Path:
    """`docs`; a trial's page does not overwrite the real one."""
    return ROOT / "runs" / "bench-small" if size == SMALL else ROOT / "docs"


def _path(size: Size, section: str) -> Path:
    folder = "bench-small" if size == SMALL else "bench"
    kept = os.environ.get("LLM_ESR_BENCH_RESULTS") or ROOT / "runs" / folder / "results"
    return Path(kept) / f"{section}.json"


def save(size: Size, section: str, results: Results) -> None:
    write_json(_path(size, section), results.to_json())


def load(size: Size, section: str) -> dict[str, Any] | None:
    """A section's results as `Results.to_json` wrote them, None where it was never run."""
    path = _path(size, section)
    return read_json(path) if path.exists() else None
