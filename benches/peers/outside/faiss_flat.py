"""faiss' exact index by inner product, run in an environment of its own (`make bench-peers`); see `neighbour_tasks`."""

from __future__ import annotations

from importlib.metadata import version

import faiss
import numpy as np
from neighbour_tasks import Side, serve, without_self


class Flat(Side):
    """`IndexFlatIP`: every query against every row."""

    def __init__(self, vectors: np.ndarray, threads: int) -> None:
        super().__init__(vectors, threads)
        faiss.omp_set_num_threads(threads)

    def build(self) -> None:
        self.index = faiss.IndexFlatIP(self.vectors.shape[1])
        self.index.add(self.vectors)

    def graph(self, k: int) -> np.ndarray:
        return without_self(self.search(self.vectors, k + 1))

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self.index.search(queries, k)[1]


if __name__ == "__main__":
    serve(Flat, version("faiss-cpu"))
