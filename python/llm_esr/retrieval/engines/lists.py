"""Approximate search in lists about centres, and the file that such an index is kept in.

A file holds centres, lists and how many lists are looked into, not the vectors: they are read where they lie. It is
checked when it is opened (checksum, and whatever the Rust core demands of lists).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from llm_esr import _native
from llm_esr.files import FORMAT, atomic_file
from llm_esr.files.tensors import UNREADABLE, array_parts, check_tensors, with_checksum
from llm_esr.retrieval.engines.engine import Found, Piece, Recall

PIECES_AT_ONCE = 8  # of 1,024 rows
SAMPLE, RUN = 512, 4  # rows, and how many of them lie together
_PARTS = ("centres", "offsets", "members")


@dataclass(frozen=True)
class _Tuned:
    probes: int
    recall: Recall


class ListSearch:
    """Rows lie in lists about centres (k-means); a query looks into as many of the nearest as the recall needs.

    Inside the lists the search is exact. How many lists a recall takes is measured on a sample, for each k. The same
    seed gives the same lists and the same neighbours on any number of threads.

    Args:
        vectors: [n, E], float32 or float16, contiguous; read where they lie.
        threads: 0 for all cores.
        recall: the share of the exact neighbours that is to be found.
        inner_product: score by inner product instead of by cosine; then a sample of queries must be given to `tune`
            before anything is searched.
        lists: how many; 0: four times the square root of n.
        seed: of the first centres.

    Raises:
        ValueError: NaN or infinity (its row is named), another type, or a recall outside 0..1.
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        threads: int = 0,
        *,
        recall: float = 0.99,
        inner_product: bool = False,
        lists: int = 0,
        seed: int = 0,
        index: _native.ListIndex | None = None,
    ) -> None:
        if not 0 < recall <= 1:
            raise ValueError(f"recall is {recall}; expected a share above 0, at most 1")
        self._index = index or _native.ListIndex(vectors, threads, inner_product=inner_product, lists=lists, seed=seed)
        self._wanted = recall
        self._inner_product = inner_product
        self._tuned: dict[int, _Tuned] = {}  # by k

    def tune(self, k: int, queries: NDArray[Any] | None = None) -> int:
        """Measure how many lists the recall takes for k neighbours.

        Args:
            k: neighbours.
            queries: a sample of queries [m, E]: by every other the lists are chosen, by the rest the recall is
                measured. None: rows of the table.

        Returns:
            How many of the nearest lists are looked into.
        """
        first = queries if queries is None or len(queries) < 2 else queries[::2]
        mean, error = self._index.recalls(k, sample=SAMPLE, queries=_whole(first))
        # Below by a standard error, the sample may have been a lucky one.
        enough = np.flatnonzero(mean - error >= self._wanted)
        probes = int(enough[0]) + 1 if len(enough) else len(mean)
        measured, count = None, SAMPLE
        if queries is not None and len(queries) > 1:
            rest, count = queries[1::2], len(queries) // 2
            measured = float(self._index.recalls(k, queries=_whole(rest))[0][probes - 1])
        self._tuned[k] = _Tuned(probes, Recall(float(mean[probes - 1]), measured, count, self._wanted))
        return probes

    def is_tuned(self, k: int) -> bool:
        """Whether it is known how many lists k neighbours take."""
        return k in self._tuned

    def _probes(self, k: int) -> int:
        if k not in self._tuned:
            if self._inner_product:
                raise ValueError(f"inner products need a sample of queries: call tune({k}, queries) before a search")
            if len(self._index) == 0:
                return 1
            try:
                self.tune(k)
            except ValueError:
                return self._index.lists  # nothing has a neighbour
        return self._tuned[k].probes

    def search(self, queries: NDArray[Any], k: int) -> Found:
        """See `Engine.search`."""
        return self._index.search(queries, k, self._probes(k))

    def rows(self, k: int) -> Iterator[Piece]:
        """See `Engine.rows`."""
        probes, pieces = self._probes(k), self._index.pieces
        for start in range(0, pieces, PIECES_AT_ONCE):
            stop = min(pieces, start + PIECES_AT_ONCE)
            rows, found = self._index.search_pieces(start, stop, k, probes)
            yield Piece(rows, found, stop, pieces)

    def about(self) -> str:
        """See `Engine.about`."""
        probes = ", ".join(dict.fromkeys(f"{tuned.probes:,}" for tuned in self._tuned.values()))
        return f"approximate search in {self._index.lists:,} lists" + (f", {probes} looked into" if probes else "")

    def recall(self, k: int) -> Recall | None:
        """See `Engine.recall`."""
        if k not in self._tuned:
            return None
        probes, recall = self._tuned[k].probes, self._tuned[k].recall
        if recall.measured is not None:
            return recall
        # Other rows than those that the number of lists was chosen by: between two of their runs.
        between = len(self._index) // (SAMPLE // RUN) // 2
        mean, _ = self._index.recalls(k, sample=SAMPLE, first=between)
        return Recall(recall.expected, float(mean[probes - 1]), SAMPLE, self._wanted)

    def save(self, path: str | Path) -> None:
        """Write the index, without its vectors, to one file."""
        tensors: dict[str, NDArray[Any]] = dict(zip(_PARTS, self._index.parts(), strict=True))
        # Not as metadata, of which safetensors keeps no order: the same index is the same file.
        tensors["settings"] = np.array([FORMAT, self._inner_product, self._wanted], np.float64)
        with atomic_file(path) as file:
            file.write(save(tensors, metadata=with_checksum({}, array_parts(tensors))))

    @classmethod
    def open(cls, path: str | Path, vectors: NDArray[Any], threads: int = 0) -> ListSearch:
        """Open an index beside the vectors that it was made of.

        Where the vectors have more rows by now, the new ones at the end join the lists; `save` keeps that.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged file, one of another version, or one that does not fit the vectors.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; make the index again")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            check_tensors(metadata, array_parts(tensors), ())
            if not metadata:
                raise ValueError("it carries no checksum")
            version, inner_product, recall = tensors["settings"].tolist()
            if version != FORMAT:
                raise ValueError(f"it has format {version:g}, and this version reads {FORMAT}")
            centres, offsets, members = (tensors[name] for name in _PARTS)
            index = _native.ListIndex.open(
                vectors, (centres, offsets, members), threads, inner_product=bool(inner_product)
            )
        except UNREADABLE as error:
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} is no index of these vectors ({said}); delete it and make it again") from None
        return cls(vectors, threads, recall=recall, inner_product=bool(inner_product), index=index)


def _whole(queries: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if queries is None else np.ascontiguousarray(queries)
