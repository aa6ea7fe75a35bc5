"""Memory that a step frees is kept for the next one."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from llm_esr.training.memory import kept_memory

BYTES = 256 << 20  # more than glibc ever keeps by itself
PAGES = BYTES // resource.getpagesize()


def faults_of_a_large_tensor() -> int:
    """Pages that the system gave while a tensor was made, written and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(BYTES // 4).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


def test_freed_memory_stays_until_the_end_and_is_given_back_then(undecided: None) -> None:
    with kept_memory() as kept:
        if not kept:
            pytest.skip("no glibc here: memory is left to the C library")
        # A small block may take a corner of what was freed, so that the next large one does not fit.
        within = [faults_of_a_large_tensor() for _ in range(6)]
        held = resident()
    assert min(within) < PAGES / 1000
    assert resident() < held - BYTES / 2


@pytest.mark.parametrize(("name", "value"), [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.top_pad=9")])
def test_who_set_the_allocator_has_decided(
    name: str, value: str, undecided: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with kept_memory() as kept:
        assert not kept


def test_it_can_be_switched_off() -> None:
    with kept_memory(wanted=False) as kept:
        assert not kept
