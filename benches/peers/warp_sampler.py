"""The process queue of SASRec's public implementations: workers fill a queue with batches of users drawn at random.

Each worker has a generator of its own; a user's rows are filled as in `authors_loader`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from peers import Dense
from peers.authors_loader import AuthorsDataset

QUEUE = 10  # batches a worker that may wait


class WarpSampler:
    """An endless iterator over batches; close it."""

    def __init__(self, dataset: AuthorsDataset, batch_size: int, *, workers: int = 1, seed: int = 0) -> None:
        context = multiprocessing.get_context("fork")
        self.waiting = workers * QUEUE
        self.queue: Any = context.Queue(maxsize=self.waiting)
        self.workers = [
            context.Process(target=_fill, args=(self.queue, dataset, batch_size, seed + worker), daemon=True)
            for worker in range(workers)
        ]
        for process in self.workers:
            process.start()

    def __iter__(self) -> Iterator[Dense]:
        while True:
            yield Dense(*(torch.from_numpy(array) for array in self.queue.get()))

    def close(self) -> None:
        for process in self.workers:
            process.terminate()
            process.join()
        self.queue.close()


def _fill(queue: Any, dataset: AuthorsDataset, batch_size: int, seed: int) -> None:
    np.random.seed(seed)
    while True:
        drawn = np.random.randint(len(dataset), size=batch_size).tolist()
        users, items, targets, negatives, positions, *teachers = zip(*(dataset[i] for i in drawn), strict=True)
        columns = [items, positions, targets, negatives, *teachers]
        queue.put([np.array(users), *(np.stack(column) for column in columns)])
