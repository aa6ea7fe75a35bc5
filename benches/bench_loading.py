"""Batches a second: ours beside the pure-Python loader of `peers.py`, with and without similar users.

`pytest benches/bench_loading.py` for pytest-benchmark's table; `python benches/bench_loading.py` for the ratios, each
the median of alternating repeats in one run, everything on one thread.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peers import PeerDataset, peer_loader
from workload import BATCH_SIZE, MAX_LEN, SIMILAR_USERS, Workload, make_workload

from llm_esr.loading import Batch, BatchLoader, Sequences

REPEATS = 7
# A pure-Python epoch takes half a minute; this many of its batches make a repeat.
PEER_STEPS = 25

OURS: dict[str, dict[str, Any]] = {
    "packed, similar users": {"similar_users": SIMILAR_USERS},
    "padded, similar users": {"similar_users": SIMILAR_USERS, "layout": "padded"},
    "packed, similar users, 1 background thread": {"similar_users": SIMILAR_USERS, "threads": 1},
    "packed": {},
}


def our_loader(work: Workload, **options: Any) -> BatchLoader:
    """One own negative a target from the whole catalogue, as the peer draws it; no background thread by default."""
    common = {"batch_size": BATCH_SIZE, "max_len": MAX_LEN, "negatives": "own", "n_negatives": 1, "catalogue": "all"}
    return BatchLoader(work, **{**common, "threads": 0, **options})  # type: ignore[arg-type]


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """Every array of a batch as the training step takes it: nothing may stay lazy."""
    sequences = [batch.students] if batch.teachers is None else [batch.students, batch.teachers]
    arrays = [batch.users, batch.negatives]
    arrays += [a for s in sequences for a in (s.items, s.positions, s.targets, s.offsets, s.slots)]
    return [torch.from_numpy(a) for a in arrays + ([] if batch.teacher_index is None else [batch.teacher_index])]


def run_ours(loader: BatchLoader) -> int:
    """One epoch; returns its batches."""
    steps = 0
    for batch in loader:
        tensors_of(batch)
        steps += 1
    return steps


def peer_runner(dataset: PeerDataset) -> Callable[[], int]:
    """The next `PEER_STEPS` batches of an endless iteration, so that no repeat pays for the start of an epoch."""

    def endless() -> Iterator[Any]:
        while True:
            yield from peer_loader(dataset, BATCH_SIZE)

    batches = endless()
    return lambda: sum(1 for _ in itertools.islice(batches, PEER_STEPS))


def per_second(work: Callable[[], int]) -> float:
    """Batches a second of one repeat."""
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def check_same(work: Workload, dataset: PeerDataset, steps: int = 3) -> None:
    """Both loaders give the same students and teachers in the same order, and negatives that nobody met."""
    ours = our_loader(work, similar_users=SIMILAR_USERS, shuffle=False, layout="padded")
    for batch, peer in itertools.islice(
        zip(ours, peer_loader(dataset, BATCH_SIZE, shuffle=False), strict=False), steps
    ):
        np.testing.assert_array_equal(batch.users, peer["user"])
        students, teachers = batch.students, batch.teachers
        assert teachers is not None
        for name in ("items", "positions", "targets"):
            np.testing.assert_array_equal(dense(students, getattr(students, name)), peer[name])
        for name in ("items", "positions"):
            rows = dense(teachers, getattr(teachers, name))[batch.teacher_index]
            np.testing.assert_array_equal(rows, peer[f"teacher_{name}"])
        users = np.repeat(batch.users, np.diff(students.offsets))[students.targets > 0]
        assert len(users) == len(batch.negatives) == int((peer["negatives"] > 0).sum())
        drawn = zip(users.tolist(), batch.negatives.ravel().tolist(), strict=True)
        assert all(1 <= i <= work.n_items and i not in dataset.seen[u] for u, i in drawn)
        for user, row in zip(peer["user"].tolist(), peer["negatives"].tolist(), strict=True):
            assert not dataset.seen[user] & set(row)


def dense(sequences: Sequences, values: np.ndarray) -> np.ndarray:
    """Left-padded rows [S, L]."""
    return np.append(values, 0)[sequences.slots]


def measure(folder: Path, repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """Batches a second by loader; `ratio` is the median over repeats of ours against the peer's of that repeat."""
    torch.set_num_threads(1)
    work = make_workload(folder)
    peers = {k: PeerDataset(work.folder, work.n_items, MAX_LEN, k) for k in (SIMILAR_USERS, 0)}
    check_same(work, peers[SIMILAR_USERS])
    runners = {k: peer_runner(dataset) for k, dataset in peers.items()}
    loaders = {name: our_loader(work, **options) for name, options in OURS.items()}
    rates: dict[str, list[float]] = {name: [] for name in [*OURS, *(f"peer {k}" for k in peers)]}
    for repeat in range(repeats + 1):
        for k, runner in runners.items():
            rates[f"peer {k}"].append(per_second(runner))
        for name, loader in loaders.items():
            loader.set_epoch(repeat)
            rates[name].append(per_second(lambda loader=loader: run_ours(loader)))  # type: ignore[misc]
    # The first repeat warms caches and pools.
    rates = {name: values[1:] for name, values in rates.items()}
    table = {}
    for name, values in rates.items():
        k = SIMILAR_USERS if "similar" in name or name.endswith(str(SIMILAR_USERS)) else 0
        ratios = [ours / peer for ours, peer in zip(values, rates[f"peer {k}"], strict=True)]
        shown = f"pure Python, {'similar users' if k else 'none'}" if name.startswith("peer") else name
        # A row is a sequence that a student is given: its own or a similar user's.
        rows = BATCH_SIZE * (1 + k) * statistics.median(values)
        table[shown] = {"batches": statistics.median(values), "rows": rows, "ratio": statistics.median(ratios)}
    return table


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The workload's folder."""
    torch.set_num_threads(1)
    return make_workload(tmp_path_factory.mktemp("workload"))


@pytest.mark.parametrize("name", OURS)
def test_ours(benchmark: Any, work: Workload, name: str) -> None:
    loader = our_loader(work, **OURS[name])
    benchmark.extra_info["batches"] = len(loader)
    benchmark.pedantic(run_ours, args=(loader,), rounds=REPEATS, warmup_rounds=1)


@pytest.mark.parametrize("similar_users", [SIMILAR_USERS, 0])
def test_pure_python(benchmark: Any, work: Workload, similar_users: int) -> None:
    dataset = PeerDataset(work.folder, work.n_items, MAX_LEN, similar_users)
    if similar_users:
        check_same(work, dataset)
    benchmark.extra_info["batches"] = PEER_STEPS
    benchmark.pedantic(peer_runner(dataset), rounds=5, warmup_rounds=1)


def main() -> None:
    """Print the table and the ratio that matters."""
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder))
    for name, row in table.items():
        print(f"{name:45} {row['batches']:9,.0f} batches/s {row['rows']:12,.0f} rows/s {row['ratio']:7.1f}x")
    ratio = table["packed, similar users"]["ratio"]
    print(f"\nwith {SIMILAR_USERS} similar users: {ratio:.0f} times the pure-Python loader (asked for: 50)")


if __name__ == "__main__":
    main()
