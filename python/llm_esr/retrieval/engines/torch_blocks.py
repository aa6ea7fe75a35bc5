"""The engine `torch`: blocks of matrix products and the best of each, on CUDA where there is any.

Scores are float32 sums in the order that the device adds in: exact but for rounding, and ties may fall either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.retrieval.engines.answers import without_own
from llm_esr.retrieval.engines.engine import Found, Piece, Recall

QUERIES_AT_ONCE = 2048
TABLE_AT_ONCE = 1 << 17  # with the queries a gigabyte of scores


class TorchSearch:
    """A table in blocks on a device.

    Args:
        vectors: [n, E], float32 or float16.
        threads: not read: torch has its own.
        inner_product: score by inner product instead of by cosine.
        device: None: CUDA where there is any, else the CPU.

    Raises:
        ValueError: NaN or infinity (its row is named).
    """

    def __init__(
        self, vectors: NDArray[Any], threads: int = 0, *, inner_product: bool = False, device: str | None = None
    ) -> None:
        import torch  # noqa: PLC0415 (heavy)

        self._torch = torch
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._inner_product = inner_product
        self._table = self._read(vectors, "vectors")

    def _read(self, vectors: NDArray[Any], argument: str) -> Any:
        torch = self._torch
        table = torch.from_numpy(np.array(vectors, np.float32)).to(self._device)
        bad = (~torch.isfinite(table).all(dim=1)).nonzero()
        if len(bad):
            raise ValueError(f"{argument}: row {int(bad[0, 0])} holds NaN or infinity; expected finite numbers")
        if self._inner_product:
            return table
        return torch.nn.functional.normalize(table, dim=1, eps=1e-38)

    def _ask(self, queries: Any, k: int) -> Found:
        torch = self._torch
        ids = np.full((len(queries), k), -1, np.int32)
        scores = np.zeros((len(queries), k), np.float32)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            block = queries[start : start + QUERIES_AT_ONCE]
            best: tuple[Any, Any] | None = None
            for first in range(0, len(self._table), TABLE_AT_ONCE):
                table = self._table[first : first + TABLE_AT_ONCE]
                products = block @ table.T
                if not self._inner_product:
                    products[:, ~table.any(dim=1)] = -torch.inf
                    products[~block.any(dim=1)] = -torch.inf
                top = torch.topk(products, min(k, len(table)))
                part = (top.values, top.indices + first)
                if best is not None:
                    values = torch.cat([best[0], part[0]], dim=1)
                    top = torch.topk(values, min(k, values.shape[1]))
                    part = (top.values, torch.cat([best[1], part[1]], dim=1).gather(1, top.indices))
                best = part
            if best is not None:
                values, numbers = best[0].cpu().numpy(), best[1].cpu().numpy()
                there = values > -np.inf
                rows = slice(start, start + len(values))
                ids[rows, : values.shape[1]] = np.where(there, numbers, -1)
                scores[rows, : values.shape[1]] = np.where(there, values, 0)
        return ids, scores

    def search(self, queries: NDArray[Any], k: int) -> Found:
        """See `Engine.search`."""
        return self._ask(self._read(queries, "queries"), k)

    def rows(self, k: int) -> Iterator[Piece]:
        """See `Engine.rows`."""
        starts = range(0, len(self._table), QUERIES_AT_ONCE)
        for done, start in enumerate(starts, start=1):
            rows = slice(start, min(len(self._table), start + QUERIES_AT_ONCE))
            ids, scores = self._ask(self._table[rows], k + 1)
            yield Piece(rows, without_own(ids, scores, np.arange(rows.start, rows.stop)), done, len(starts))

    def about(self) -> str:
        """See `Engine.about`."""
        return f"search by blocks of products on {self._device.type}, exact but for the rounding of float32"

    def recall(self, k: int) -> Recall | None:
        """See `Engine.recall`: nothing is left out, though rounding may swap what is all but equally near."""
        return None
