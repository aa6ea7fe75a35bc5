"""Disks that take no more, at a few places of every command; `make faults` has many."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from faults_harness import counts_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and small disks are Linux's")

COMMANDS = ("prepare", "index", "train")


def test_files_that_may_not_grow_are_one_error_and_lose_nothing(tmp_path: Path) -> None:
    chosen = [part for name in COMMANDS for part in ("--only", name)]
    found = counts_of("broken_writes", tmp_path, "--steps", "3", *chosen)
    assert found.keys() == set(COMMANDS)
    for name, one in found.items():
        assert one["refused"] >= 1 and one["wrong"] == [], (name, one["wrong"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_one_error_and_loses_nothing(tmp_path: Path) -> None:
    try:
        found = counts_of("broken_writes", tmp_path, "--disk", "--steps", "2", "--only", "prepare")
    except AssertionError as error:
        if "no file system can be mounted" in str(error):
            pytest.skip("no small file system can be mounted here")
        raise
    for name, one in found.items():
        assert one["refused"] >= 1 and one["wrong"] == [], (name, one["wrong"])


def test_the_harness_finds_an_error_that_names_nothing(tmp_path: Path) -> None:
    broken = "import llm_esr.files.refusals as refusals; refusals._refusal = lambda error, target: None"
    found = counts_of("broken_writes", tmp_path, "--steps", "3", "--only", "prepare", before=broken)
    assert found["prepare"]["wrong"], "nothing was found"
