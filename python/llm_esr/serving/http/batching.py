"""Requests that come at about the same time are scored as one batch.

    submit --> waiting --(`gather` seconds, or as long as the model is busy)--> score in a thread --> each future

Scoring reads the item matrix once for a batch, so a batch of thirty costs little more than a batch of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class FullError(Exception):
    """More is waiting than the limit allows."""


class Batcher(Generic[_Job, _Result]):
    """Gathers jobs and hands them to a function in a thread of its own.

    Args:
        score: jobs of one kind -> a result each.
        kind: which jobs may be in one batch.
        gather: seconds that the first job waits for others.
        most: jobs of a batch.
        waiting: jobs that may wait.
        told: called with the size of each batch.

    """

    def __init__(
        self,
        score: Callable[[Sequence[_Job]], Sequence[_Result]],
        kind: Callable[[_Job], Hashable],
        *,
        gather: float = 0.002,
        most: int = 64,
        waiting: int = 4096,
        told: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.score, self.kind = score, kind
        self.gather, self.most, self.waiting, self.told = gather, most, waiting, told
        self._jobs: list[tuple[_Job, asyncio.Future[_Result]]] = []
        self._some = asyncio.Event()
        self._ended = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._loop: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    def start(self) -> None:
        """Begin; within a running event loop."""
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Finish what waits, then end."""
        self._ended = True
        self._some.set()
        if self._loop is not None:
            await self._loop
        self._thread.shutdown()

    async def submit(self, jobs: Sequence[_Job]) -> list[_Result]:
        """The results of some jobs, in their order.

        Raises:
            FullError: too many wait.

        """
        if len(self._jobs) + len(jobs) > self.waiting:
            raise FullError
        loop = asyncio.get_running_loop()
        waiting = [(job, loop.create_future()) for job in jobs]
        self._jobs += waiting
        self._some.set()
        return list(await asyncio.gather(*(future for _, future in waiting)))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._jobs or not self._ended:
            await self._some.wait()
            if len(self._jobs) < self.most and not self._ended:
                await asyncio.sleep(self.gather)
            batch = self._next()
            if not batch:
                continue
            self.told(len(batch))
            # One at a time: while the model works, the next batch gathers.
            try:
                results = await loop.run_in_executor(self._thread, self.score, [job for job, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)

    def _next(self) -> list[tuple[_Job, asyncio.Future[_Result]]]:
        """The oldest job and those of its kind; nobody waits any more for a job that was cancelled."""
        self._jobs = [one for one in self._jobs if not one[1].done()]
        batch: list[tuple[_Job, asyncio.Future[_Result]]] = []
        left: list[tuple[_Job, asyncio.Future[_Result]]] = []
        for one in self._jobs:
            alike = not batch or self.kind(one[0]) == self.kind(batch[0][0])
            (batch if alike and len(batch) < self.most else left).append(one)
        self._jobs = left
        if not left:
            self._some.clear()
        return batch
