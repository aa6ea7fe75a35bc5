"""A few of the states that a power cut may leave; `make faults` tries all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="handles are named through /proc")
HARNESS = Path(__file__).with_name("power_loss.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def cut(counts: Path, *options: str, before: str = "") -> dict[str, dict[str, object]]:
    """Run the harness, after some statements; its counts."""
    script = "\n".join([
        f"import runpy, sys; sys.path.insert(0, {str(HARNESS.parent)!r})", before,
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script, str(HARNESS), "--json", str(counts), *options],
                          env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)  # fmt: skip
    assert counts.exists(), done.stdout + done.stderr
    return json.loads(counts.read_text())


def test_every_state_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    found = cut(tmp_path / "counts.json", "--limit", "4", "--seed", "1")
    assert len(found) == 6
    for name, one in found.items():
        assert one["tried"] == 4 and one["wrong"] == [], (name, one["wrong"])
    assert sum(int(str(one["states"])) for one in found.values()) > 1000


@pytest.mark.parametrize(
    ("command", "broken"),
    [
        ("prepare again", "import llm_esr.files.atomic as atomic; atomic._sync = lambda path: None"),
        ("train", "from llm_esr.training import metrics_log; metrics_log.os = type('', (), {'fsync': print})"),
    ],
)
def test_the_harness_finds_a_writer_that_does_not_wait_for_the_disk(tmp_path: Path, command: str, broken: str) -> None:
    found = cut(tmp_path / "counts.json", "--only", command, "--limit", "60", "--stop", before=broken)
    assert found[command]["wrong"], "nothing was found"
