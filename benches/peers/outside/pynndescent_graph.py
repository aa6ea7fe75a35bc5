"""pynndescent, run in an environment of its own (`make bench-peers`); see `neighbour_tasks`."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from neighbour_tasks import Side, serve, without_self
from pynndescent import NNDescent

WARMING = 2_000  # rows on which everything is compiled before the clock


class Descent(Side):
    """Its neighbour graph; a row is its own first neighbour there."""

    def __init__(self, vectors: np.ndarray, threads: int) -> None:
        super().__init__(vectors, threads)
        self.made(vectors[:WARMING], 10)

    def graph(self, k: int) -> np.ndarray:
        return without_self(self.made(self.vectors, k + 1).neighbor_graph[0])

    def made(self, vectors: np.ndarray, k: int) -> NNDescent:
        return NNDescent(vectors, metric="cosine", n_neighbors=k, n_jobs=self.threads, random_state=0)


if __name__ == "__main__":
    serve(Descent, version("pynndescent"))
