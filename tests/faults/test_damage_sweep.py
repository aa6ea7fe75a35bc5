"""Whatever is damaged in a file, it is refused with its name or read as it was written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MOST = 60  # truncations and flips of a file, each; `damage.py FOLDER SEED 1000000` takes every place


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    folder = tmp_path_factory.mktemp("damage") / "files"
    command = [sys.executable, str(HERE / "damage.py"), str(folder), "1", str(MOST)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"it crashed: {done.stderr[-3000:]}"
    print(done.stderr)  # the first damages of each file that were not refused
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def test_nothing_is_read_differently_without_a_word(counts: dict[str, dict[str, int]]) -> None:
    assert {name: one["different"] for name, one in counts.items() if "different" in one} == {}


def test_no_error_comes_from_somebody_elses_code_or_names_no_file(counts: dict[str, dict[str, int]]) -> None:
    assert {name: one["foreign"] for name, one in counts.items() if "foreign" in one} == {}


def test_the_sweep_did_what_it_says(counts: dict[str, dict[str, int]]) -> None:
    assert len(counts) > 25
    for name, one in counts.items():
        assert sum(one.values()) > 120, (name, one)
        assert one.get("refused", 0) + one.get("fallback", 0) > 50, (name, one)
