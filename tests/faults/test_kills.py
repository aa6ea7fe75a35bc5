"""Twenty kills at random moments; `make faults` does five hundred."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from faults_harness import counts_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and forks are those of POSIX")

# A writer that writes in place, and takes its time.
BROKEN = """
import time
from contextlib import contextmanager
from pathlib import Path
import llm_esr.retrieval
import llm_esr.semantics.vector_files as vector_files

@contextmanager
def in_place(path):
    with Path(path).open("wb") as file:
        # Nearly all of the command's time passes here, so that nearly every kill falls here.
        time.sleep(1.0 if path.name == "similar_users.npy" else 0)
        yield file

vector_files.atomic_file = in_place
sys.modules["llm_esr.retrieval.index"].is_fresh = lambda folder, name, key: (folder / "similar_users.npy").exists()
"""


def test_what_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    found = counts_of("kills", tmp_path, "--kills", "20", "--seed", "1")
    assert len(found) == 6 and sum(one["kills"] for one in found.values()) >= 20
    assert [one["wrong"] for one in found.values()] == [[]] * 6


def test_the_harness_finds_a_writer_that_is_not_atomic(tmp_path: Path) -> None:
    found = counts_of("kills", tmp_path, "--kills", "6", "--only", "index", before=BROKEN)
    assert found["index"]["wrong"], "nothing was found"
