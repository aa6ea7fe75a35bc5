"""Requests that come together are scored together, and each gets its own result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from llm_esr.serving.http.batching import Batcher, FullError


class Scorer:
    """Doubles numbers, remembers the batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.go.wait(20)
        self.batches.append(list(batch))
        if 13 in batch:
            raise RuntimeError("thirteen")
        return [2 * number for number in batch]


def with_batcher(work, **settings):
    async def run():
        scorer, sizes = Scorer(), []
        batcher: Batcher[int, int] = Batcher(scorer, lambda number: number >= 100, told=sizes.append, **settings)
        batcher.start()
        try:
            return await work(batcher, scorer, sizes)
        finally:
            scorer.go.set()
            await batcher.stop()

    return asyncio.run(run())


def test_what_waits_while_the_model_works_is_one_batch_of_each_kind() -> None:
    async def work(batcher, scorer, sizes):
        scorer.go.clear()
        first = asyncio.create_task(batcher.submit([1]))
        while batcher or not sizes:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.submit([number, number + 1])) for number in (2, 100, 4, 102)]
        while len(batcher) < 8:
            await asyncio.sleep(0.001)
        scorer.go.set()
        assert await first == [2]
        assert [await task for task in others] == [[4, 6], [200, 202], [8, 10], [204, 206]]
        assert scorer.batches == [[1], [2, 3, 4, 5], [100, 101, 102, 103]]
        assert sizes == [1, 4, 4]

    with_batcher(work)


def test_a_batch_holds_no_more_than_the_most_and_the_order_stays() -> None:
    async def work(batcher, scorer, sizes):
        assert await batcher.submit(list(range(10))) == [2 * number for number in range(10)]
        assert scorer.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    with_batcher(work, most=4)


def test_a_failure_reaches_its_batch_alone() -> None:
    async def work(batcher, scorer, sizes):
        bad = asyncio.create_task(batcher.submit([13]))
        good = asyncio.create_task(batcher.submit([100]))
        with pytest.raises(RuntimeError, match="thirteen"):
            await bad
        assert await good == [200]
        assert await batcher.submit([7]) == [14]

    with_batcher(work)


def test_beyond_the_limit_nothing_is_taken_and_nobody_is_scored_who_has_gone() -> None:
    async def work(batcher, scorer, sizes):
        scorer.go.clear()
        first = asyncio.create_task(batcher.submit([1]))
        while not sizes:
            await asyncio.sleep(0.001)
        gone = asyncio.create_task(batcher.submit([2, 3]))
        stays = asyncio.create_task(batcher.submit([4]))
        await asyncio.sleep(0.01)
        with pytest.raises(FullError):
            await batcher.submit([5])
        gone.cancel()
        await asyncio.sleep(0.01)
        scorer.go.set()
        assert (await first, await stays) == ([2], [8])
        assert scorer.batches == [[1], [4]]

    with_batcher(work, waiting=3)


def test_stopping_finishes_what_waits() -> None:
    async def work(batcher, scorer, sizes):
        tasks = [asyncio.create_task(batcher.submit([number])) for number in range(5)]
        await asyncio.sleep(0)
        await batcher.stop()
        assert [await task for task in tasks] == [[0], [2], [4], [6], [8]]

    with_batcher(work, gather=0.05)
