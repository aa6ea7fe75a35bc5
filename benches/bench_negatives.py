"""Negatives a second: ours, which are never a seen item, beside a rejection loop and `torch.multinomial`.

`pytest benches/bench_negatives.py`, or `python benches/bench_negatives.py` for medians of alternating repeats.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peers import PeerDataset, multinomial_negatives
from workload import BATCH_SIZE, Workload, make_workload

from llm_esr.loading import BatchLoader

REPEATS = 7
N = 64
STEPS = 60


def our_runner(work: Workload, **options: Any) -> Callable[[], int]:
    """Own negatives of the first steps of an epoch, cutting and packing of the sequences included."""
    loader = BatchLoader(work, batch_size=BATCH_SIZE, threads=0, negatives="own", n_negatives=N, **options)  # type: ignore[arg-type]

    def run() -> int:
        return sum(batch.negatives.size for batch, _ in zip(loader, range(STEPS), strict=False))

    return run


def rejection_runner(work: Workload) -> Callable[[], int]:
    """The pure-Python loop of `PeerDataset`."""
    dataset = PeerDataset(work.folder, work.n_items, 50, 0)

    def run() -> int:
        return len([dataset.negative(seen) for seen in dataset.seen[:20_000]])

    return run


def multinomial_runner(work: Workload) -> Callable[[], int]:
    """By popularity; items that the user met are not left out."""
    counts = np.bincount(np.load(work.folder / "items.npy"), minlength=work.n_items + 1)
    weights = torch.from_numpy(counts.astype(np.float64))
    return lambda: multinomial_negatives(weights, 1000, N).numel()


RUNNERS: dict[str, Callable[[Workload], Callable[[], int]]] = {
    "uniform": our_runner,
    "by popularity": lambda work: our_runner(work, distribution="popularity"),
    "pure-Python rejection loop, uniform": rejection_runner,
    "torch.multinomial, by popularity, seen items not left out": multinomial_runner,
}


def measure(folder: Path, repeats: int = REPEATS) -> dict[str, float]:
    """Median negatives a second by sampler."""
    torch.set_num_threads(1)
    work = make_workload(folder)
    runners = {name: make(work) for name, make in RUNNERS.items()}
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats + 1):
        for name, runner in runners.items():
            began = time.perf_counter()
            rates[name].append(runner() / (time.perf_counter() - began))
    return {name: statistics.median(values[1:]) for name, values in rates.items()}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The workload's folder."""
    torch.set_num_threads(1)
    return make_workload(tmp_path_factory.mktemp("workload"))


@pytest.mark.parametrize("name", RUNNERS)
def test_negatives(benchmark: Any, work: Workload, name: str) -> None:
    runner = RUNNERS[name](work)
    benchmark.extra_info["negatives"] = runner()
    benchmark.pedantic(runner, rounds=REPEATS)


def main() -> None:
    """Print millions a second."""
    with tempfile.TemporaryDirectory() as folder:
        for name, rate in measure(Path(folder)).items():
            print(f"{name:60} {rate / 1e6:8.2f} M/s")


if __name__ == "__main__":
    main()
