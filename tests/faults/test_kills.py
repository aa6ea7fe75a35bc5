"""Twenty kills at random moments; `make faults` does five hundred."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and forks are those of POSIX")
HARNESS = Path(__file__).with_name("kills.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def test_what_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    done = subprocess.run([sys.executable, str(HARNESS), "--kills", "20", "--seed", "1", "--json", str(counts)],
                          env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(counts.read_text())
    assert len(found) == 6 and sum(one["kills"] for one in found.values()) >= 20


# A writer that writes in place, and takes its time.
BROKEN = """
import runpy, sys, time
from contextlib import contextmanager
from pathlib import Path
import llm_esr.retrieval
import llm_esr.semantics.vector_files as vector_files

@contextmanager
def in_place(path):
    with Path(path).open("wb") as file:
        yield file
        time.sleep(0.05)

vector_files.atomic_file = in_place
sys.modules["llm_esr.retrieval.index"].is_fresh = lambda folder, name, key: (folder / "similar_users.npy").exists()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_harness_finds_a_writer_that_is_not_atomic(tmp_path: Path) -> None:
    line = [sys.executable, "-c", BROKEN, str(HARNESS), "--kills", "4", "--only", "index", "--keep", str(tmp_path)]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1 and "index, killed after" in done.stdout, done.stdout + done.stderr
