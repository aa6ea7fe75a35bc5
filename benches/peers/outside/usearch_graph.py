"""usearch, run in an environment of its own (`make bench-peers`); see `neighbour_tasks`."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from neighbour_tasks import Side, serve, without_self
from usearch.index import Index


class Usearch(Side):
    """A navigable graph over bfloat16 vectors."""

    lasting = True

    def build(self, m: int = 16, ef_construction: int = 200) -> None:
        rows, width = self.vectors.shape
        self.index = Index(ndim=width, metric="ip", dtype="bf16", connectivity=m, expansion_add=ef_construction)
        self.index.add(np.arange(rows), self.vectors, threads=self.threads)

    def graph(self, k: int, *, ef: int) -> np.ndarray:
        return without_self(self.search(self.vectors, k + 1, ef=ef))

    def search(self, queries: np.ndarray, k: int, *, ef: int) -> np.ndarray:
        self.index.expansion_search = max(ef, k)
        found = self.index.search(queries, k, threads=self.threads)
        ids = np.atleast_2d(found.keys).astype(np.int64)
        # Where it found fewer, the rest of a list is not filled.
        counts = np.atleast_1d(getattr(found, "counts", ids.shape[1]))
        ids[np.arange(ids.shape[1]) >= counts[:, None]] = -1
        return ids


if __name__ == "__main__":
    serve(Usearch, version("usearch"))
