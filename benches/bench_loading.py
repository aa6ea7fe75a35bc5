"""Batches of the loaders in pytest-benchmark's table; `make bench` has the ratios.

`LLM_ESR_BENCH_SMALL=1 pytest benches` tries them in seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from our_loader import endless, our_loader, take
from peers.authors_loader import AuthorsDataset, authors_batches
from peers.vectorised_loader import VectorisedLoader
from sections.loading import check, forever
from workload import Size, Workload, usual

SIZE = Size.from_environment()


@pytest.fixture(scope="module")
def work() -> Workload:
    return usual(SIZE)


def batches_of(name: str, work: Workload, k: int) -> Iterator[Any]:
    """An endless iteration of the loader of that name."""
    if name == "authors":
        dataset = AuthorsDataset(work.folder, work.n_items, SIZE.max_len, k)
        check(work, SIZE, k, dataset)
        return forever(lambda: authors_batches(dataset, SIZE.batch_size))
    if name == "vectorised":
        loader = VectorisedLoader(work.folder, work.n_items, SIZE.max_len, k, SIZE.batch_size)
        return forever(lambda: iter(loader))
    return endless(our_loader(work, SIZE, similar_users=k, layout=name))


@pytest.mark.parametrize("k", [SIZE.similar_users, 0])
@pytest.mark.parametrize("name", ["packed", "padded", "authors", "vectorised"])
def test_loading(benchmark: Any, work: Workload, name: str, k: int) -> None:
    batches = batches_of(name, work, k)
    steps = {"authors": SIZE.peer_steps, "vectorised": SIZE.fast_steps}.get(name, SIZE.our_steps)
    run: Callable[[], int] = lambda: take(batches, steps)  # noqa: E731
    if name in ("authors", "vectorised"):
        run = lambda: sum(1 for _ in itertools.islice(batches, steps))  # noqa: E731
    benchmark.extra_info["batches"] = steps
    benchmark.pedantic(run, rounds=SIZE.repeats, warmup_rounds=1)
