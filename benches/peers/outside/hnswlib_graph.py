"""hnswlib, run in an environment of its own (`make bench-peers`); see `neighbour_tasks`."""

from __future__ import annotations

from importlib.metadata import version

import hnswlib
import numpy as np
from neighbour_tasks import Side, serve, without_self


class Hnsw(Side):
    """A navigable graph by inner product; of vectors of unit length that is by cosine."""

    lasting = True

    def build(self, m: int = 16, ef_construction: int = 200) -> None:
        rows, width = self.vectors.shape
        self.index = hnswlib.Index(space="ip", dim=width)
        self.index.init_index(max_elements=rows, M=m, ef_construction=ef_construction, random_seed=0)
        self.index.set_num_threads(self.threads)
        self.index.add_items(self.vectors, np.arange(rows), num_threads=self.threads)

    def graph(self, k: int, *, ef: int) -> np.ndarray:
        return without_self(self.search(self.vectors, k + 1, ef=ef))

    def search(self, queries: np.ndarray, k: int, *, ef: int) -> np.ndarray:
        self.index.set_ef(max(ef, k))
        return self.index.knn_query(queries, k=k, num_threads=self.threads)[0].astype(np.int64)


if __name__ == "__main__":
    serve(Hnsw, version("hnswlib"))
