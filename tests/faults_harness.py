"""The harnesses of `tests/faults` as processes of their own: their children are forked before any thread runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).with_name("faults")
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def counts_of(harness: str, folder: Path, *options: str, before: str = "") -> dict[str, dict[str, Any]]:
    """Run a harness, after some statements that break the package; its counts by command."""
    counts = folder / "counts.json"
    script = "\n".join([
        f"import runpy, sys; sys.path.insert(0, {str(_FOLDER)!r})", before,
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
    ])  # fmt: skip
    line = [sys.executable, "-c", script, str(_FOLDER / f"{harness}.py"), "--json", str(counts), *options]
    done = subprocess.run(line, env=_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=900)
    assert counts.exists(), done.stdout + done.stderr
    found: dict[str, dict[str, Any]] = json.loads(counts.read_text())
    assert done.returncode == (1 if any(one["wrong"] for one in found.values()) else 0), done.stderr
    return found
