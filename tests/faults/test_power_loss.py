"""A few of the states that a power cut may leave; `make faults` tries all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from faults_harness import counts_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="handles are named through /proc")


def test_every_state_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    found = counts_of("power_loss", tmp_path, "--limit", "4", "--seed", "1")
    assert len(found) == 6
    for name, one in found.items():
        assert one["tried"] == 4 and one["wrong"] == [], (name, one["wrong"])
    assert sum(one["states"] for one in found.values()) > 1000


@pytest.mark.parametrize(
    ("command", "broken"),
    [
        ("prepare again", "import llm_esr.files.atomic as atomic; atomic._sync = lambda path: None"),
        ("train", "from llm_esr.training import metrics_log; metrics_log.os = type('', (), {'fsync': print})"),
    ],
)
def test_the_harness_finds_a_writer_that_does_not_wait_for_the_disk(tmp_path: Path, command: str, broken: str) -> None:
    found = counts_of("power_loss", tmp_path, "--only", command, "--limit", "60", "--stop", before=broken)
    assert found[command]["wrong"], "nothing was found"
