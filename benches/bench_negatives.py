"""Negatives of our loader and of NumPy's rejection in pytest-benchmark's table; `make bench` has the ratios."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from our_loader import endless, our_loader
from peers.samplers import Met
from sections.negatives import drawn, targeted_users
from workload import Histories, Size, Workload, usual

SIZE = Size.from_environment()
STEPS = max(SIZE.our_steps // 10, 1)


@pytest.fixture(scope="module")
def work() -> Workload:
    return usual(SIZE)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_ours(benchmark: Any, work: Workload, distribution: str) -> None:
    batches = endless(our_loader(work, SIZE, n_negatives=SIZE.negatives, distribution=distribution))
    benchmark.extra_info["negatives"] = drawn(batches, STEPS)
    benchmark.pedantic(lambda: drawn(batches, STEPS), rounds=SIZE.repeats, warmup_rounds=1)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_numpy_rejection(benchmark: Any, work: Workload, distribution: str) -> None:
    met = Met.of(Histories.read(work.folder), work.n_items)
    draw = met.uniform if distribution == "uniform" else met.by_popularity
    rng, users = np.random.default_rng(0), targeted_users(endless(our_loader(work, SIZE)))
    benchmark.extra_info["negatives"] = draw(rng, next(users), SIZE.negatives).size
    benchmark.pedantic(lambda: draw(rng, next(users), SIZE.negatives), rounds=SIZE.repeats, warmup_rounds=1)
