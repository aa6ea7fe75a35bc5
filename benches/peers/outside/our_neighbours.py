"""Our side of `retrieval-peers`, in a process of its own and in this environment; see `neighbour_tasks`."""

from __future__ import annotations

from typing import Any

import numpy as np
from neighbour_tasks import Side, serve
from numpy.typing import NDArray

from llm_esr import __version__
from llm_esr.retrieval import ENGINES, nearest


class Ours(Side):
    """`llm_esr.retrieval.nearest` with an engine by its name and its keyword arguments."""

    def build(self, engine: str = "exact", **settings: Any) -> None:
        """Nothing yet: `nearest` makes an index of its own, in the time of a graph."""
        self.engine, self.settings = engine, settings
        self.index: Any = None

    def graph(self, k: int) -> NDArray[np.int32]:
        return nearest(self.vectors, k, threads=self.threads, engine=self.engine, **self.settings)[0]

    def before_search(self) -> None:
        if self.index is None:
            self.index = ENGINES[self.engine](self.vectors, self.threads, **self.settings)

    def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int32]:
        ids: NDArray[np.int32] = self.index.search(queries, k)[0]
        return ids


if __name__ == "__main__":
    serve(Ours, __version__)
