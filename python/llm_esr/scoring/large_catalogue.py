"""Lists of a network over a catalogue so large that scoring all of it for every list takes too long.

The item vectors lie in lists about centres (`retrieval/engines/lists.py`); a user vector looks into those of the
largest inner products. How many that must be is measured on a sample of histories, and told.

Shapes: S histories, T items of all of them, I items, C channels, K places of a list.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.retrieval.engines import ListSearch, told
from llm_esr.scoring.lists import top_k
from llm_esr.scoring.network import NetworkScorer
from llm_esr.scoring.scorer import chunks, scores_of, take_histories

Histories = tuple[NDArray[np.int32], NDArray[np.int64]]

# Items from which lists are found faster so than by scoring the whole catalogue (docs/retrieval.md).
LARGE = 200_000
RECALL = 0.99
LONGEST = 1024  # items of a history that is searched for
MOST_OF = 8  # a list is searched for where it is no more than this part of the catalogue


class LargeCatalogue:
    """A network, its lists found by an approximate search.

    Args:
        network: encodes histories and has the item vectors.
        sample: histories by which the search is tuned: (items, offsets), as of `Scorer.scores`.
        path: where the index is kept; None, or a folder that cannot be written to: it is made at every start.
    """

    has_lists = True

    def __init__(self, network: NetworkScorer, sample: Histories, path: Path | None = None) -> None:
        self.network = network
        self.name = network.name
        self._sample, self._path = sample, path
        self._search: ListSearch | None = None
        self._asked = 0

    @property
    def max_len(self) -> int | None:
        """The newest items that the network reads."""
        return self.network.max_len

    def refresh(self) -> None:
        """Forget what was made of the weights before; the file of the index goes with the next search."""
        self.network.refresh()
        self._search = None

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`: of the whole catalogue."""
        return self.network.scores(items, offsets)

    def lists(
        self, items: NDArray[np.int32], offsets: NDArray[np.int64], k: int, *, keep_seen: bool = False
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See `CountedNeighbours.lists`; nearly what `scoring.lists.top_k` makes of `scores`.

        Empty histories, those of more than `LONGEST` items, and lists that are a large part of the catalogue come from
        scores of all of it.
        """
        n_items = len(self.network.item_vectors())
        lengths_S = np.diff(offsets)
        ids_SK = np.zeros((len(lengths_S), min(k, n_items)), np.int32)
        scores_SK = np.full(ids_SK.shape, -np.inf, np.float32)
        searched_S = (lengths_S > 0) & (lengths_S <= LONGEST) & (k <= n_items // MOST_OF)
        searched, others = np.flatnonzero(searched_S), np.flatnonzero(~searched_S)
        if len(searched):
            part = take_histories(items, offsets, searched)
            ids_SK[searched], scores_SK[searched] = self._searched(*part, ids_SK.shape[1], keep_seen)
        for chunk in chunks(others, n_items):
            part = take_histories(items, offsets, others[chunk])
            scores_BI = scores_of(self.network, *part, n_items)
            found = top_k(scores_BI, ids_SK.shape[1], None if keep_seen else part)
            ids_SK[others[chunk]], scores_SK[others[chunk]] = found
        return ids_SK, scores_SK

    def _searched(
        self, items: NDArray[np.int32], offsets: NDArray[np.int64], k: int, keep_seen: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Lists [S, K] by the search, for histories that are neither empty nor long."""
        n_items = len(self.network.item_vectors())
        lengths_S = np.diff(offsets)
        asked = self._tuned(k + (0 if keep_seen else int(lengths_S.max())), n_items)
        users_SC = self.network.user_vectors(items, offsets).cpu().numpy()
        rows_SM, found_SM = self._engine().search(np.ascontiguousarray(users_SC), asked)
        ids_SM = rows_SM + 1
        drop_SM = ids_SM == 0
        if not keep_seen:
            owners_S = np.arange(len(lengths_S)) * (n_items + 1)
            drop_SM |= np.isin(owners_S[:, None] + ids_SM, np.repeat(owners_S, lengths_S) + items)
        kept_SK = np.argsort(drop_SM, axis=1, kind="stable")[:, :k]
        there_SK = ~np.take_along_axis(drop_SM, kept_SK, axis=1)
        ids_SK = np.where(there_SK, np.take_along_axis(ids_SM, kept_SK, axis=1), 0)
        scores_SK = np.where(there_SK, np.take_along_axis(found_SM, kept_SK, axis=1), np.float32(-np.inf))
        return ids_SK.astype(np.int32), scores_SK.astype(np.float32)

    def about(self) -> str:
        """How the lists so far were found, and what share of the exact ones."""
        engine = self._engine()
        return told(engine, self._asked) if self._asked else engine.about()

    def _engine(self) -> ListSearch:
        if self._search is None:
            vectors_IC = np.ascontiguousarray(self.network.item_vectors().cpu().numpy())
            if self._path is not None and self._path.exists():
                self._search = ListSearch.open(self._path, vectors_IC)
            else:
                self._search = ListSearch(vectors_IC, recall=RECALL, inner_product=True)
                if self._path is not None:
                    with suppress(OSError):  # who may only read makes it at every start
                        self._search.save(self._path)
        return self._search

    def _tuned(self, wanted: int, n_items: int) -> int:
        """How many are asked for, so that enough are left: few different numbers, since each is tuned by itself."""
        asked = min(n_items, 1 << (wanted - 1).bit_length())
        engine = self._engine()
        if not engine.is_tuned(asked):
            users_SC = self.network.user_vectors(*self._sample).cpu().numpy()
            engine.tune(asked, np.ascontiguousarray(users_SC))
        self._asked = asked
        return asked
