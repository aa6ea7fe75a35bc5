"""Neighbour scorers: nothing is trained, tables are counted from training sequences in seconds.

- transitions: what came one, two, three places after an item (1, .5, .25), over all that came after it plus 5;
  score log(1e-4 + sum_(j <= 5) .6^j T[j-th newest, x]).
- co-occurrence (item kNN): the cosine between two items' columns of the matrix of users and items;
  score sum_(j <= 10) .7^j C[j-th newest, x].
- text: the cosine between centred text vectors; score sum_(j <= 10) .7^j cos(e_j, e_x).
- text-max: the largest such cosine over the 10 newest items.

Shapes: S histories, T items of all of them, I items, W entries of a table's row, E width of the texts, J newest items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm_esr import _native
from llm_esr.models.text_profile import centred_texts
from llm_esr.scoring.stored_tables import Table, stored_table

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.data.dataset import Part

TABLE_WIDTH = 200  # entries of a row that are kept
_KEPT_COSINES = 1 << 28  # numbers: a gigabyte, for catalogues up to 16,384 items
COUNTED_SCORES = 1e-4  # under the logarithm of transitions: what never followed


@dataclass(frozen=True)
class DecayedSum:
    """How a history's newest items add up."""

    decay: float
    newest: int


class CountedNeighbours:
    """Scores by a table that is counted from the training sequences, once for a data folder (`stored_tables.py`).

    Args:
        data: the data set.
        part: not read: the tables know the training parts alone.
    """

    name: str
    kind: ClassVar[Literal["transitions", "co-occurrence"]]
    sum: ClassVar[DecayedSum]
    settings: ClassVar[Mapping[str, float]] = {}  # what the table depends on beside the training sequences

    def __init__(self, data: Dataset, part: Part = "train") -> None:
        width = min(TABLE_WIDTH, data.n_items)
        self.table = stored_table(data, self.name, width, self.settings, lambda: self._count(data, width))

    def _count(self, data: Dataset, width: int) -> Table:
        """The table, of rows so wide."""
        return _native.neighbour_table(
            self.kind,
            np.ascontiguousarray(data.items),
            np.ascontiguousarray(data.offsets),
            data.training_lengths,
            data.n_items,
            width,
            torch.get_num_threads(),
        )

    def lists(
        self, items: NDArray[np.int32], offsets: NDArray[np.int64], k: int, *, keep_seen: bool = False
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What `scoring.lists.top_k` makes of `scores`, from the entries of the table alone: ids [S, k], scores [S, k].

        k is cut to the catalogue; an id of 0 says that no item is left.
        """
        histories = (np.ascontiguousarray(items), np.ascontiguousarray(offsets))
        decay, newest = self.sum.decay, self.sum.newest
        threads = torch.get_num_threads()
        return _native.neighbour_lists(self.table, histories, decay, newest, not keep_seen, k, threads)

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        histories = (np.ascontiguousarray(items), np.ascontiguousarray(offsets))
        decay, newest = self.sum.decay, self.sum.newest
        return torch.from_numpy(
            _native.add_neighbour_rows(self.table, histories, decay, newest, torch.get_num_threads())
        )

    def by_item(self, history: NDArray[np.int32], item: int) -> list[tuple[int, float]]:
        """The items of a history that speak for an item and what each adds, most first."""
        ids_IW, values_IW = self.table
        found: dict[int, float] = {}
        for place, number in enumerate(history[::-1][: self.sum.newest], start=1):
            value = float(values_IW[number - 1][ids_IW[number - 1] == item].sum())
            if value > 0:
                found[int(number)] = found.get(int(number), 0.0) + self.sum.decay**place * value
        return sorted(found.items(), key=lambda pair: -pair[1])


class Transitions(CountedNeighbours):
    """What users did next."""

    name = "transitions"
    kind = "transitions"
    sum = DecayedSum(decay=0.6, newest=5)

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        return super().scores(items, offsets).add_(COUNTED_SCORES).log_()

    def lists(
        self, items: NDArray[np.int32], offsets: NDArray[np.int64], k: int, *, keep_seen: bool = False
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See `CountedNeighbours.lists`."""
        ids_SK, sums_SK = super().lists(items, offsets, k, keep_seen=keep_seen)
        return ids_SK, np.log(np.maximum(sums_SK, 0.0) + np.float32(COUNTED_SCORES))


class CoOccurrence(CountedNeighbours):
    """What the same users met."""

    name = "co-occurrence"
    kind = "co-occurrence"
    sum = DecayedSum(decay=0.7, newest=10)


class TextNeighbours:
    """Scores by the items' texts alone.

    Args:
        data: the data set, with item vectors.
        part: not read.

    Raises:
        FileNotFoundError: no item vectors.
    """

    name = "text"
    sum: ClassVar[DecayedSum] = DecayedSum(decay=0.7, newest=10)

    def __init__(self, data: Dataset, part: Part = "train") -> None:
        if data.item_embeddings is None:
            raise FileNotFoundError(
                f"{data.folder} has no item_embeddings.npy, which the scorer {self.name} reads; run `llm-esr embed` "
                "first"
            )
        texts_IE = centred_texts(torch.from_numpy(np.array(data.item_embeddings)), data.n_prepared_items)
        self.texts = F.pad(texts_IE, (0, 0, 1, 0))  # row = id; 0 fills histories and says nothing
        self.cosines: Cosines | None = None

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        if self.cosines is not None:
            return self.cosines.combined(items, offsets, self.sum.newest, self.sum.decay)
        newest_SJ = newest_items(items, offsets, self.sum.newest)
        weights_J = self.sum.decay ** torch.arange(1, self.sum.newest + 1, dtype=torch.float32)
        profiles_SE = torch.einsum("sje,j->se", self.texts[newest_SJ], weights_J)
        return profiles_SE @ self.texts[1:].T

    def by_item(self, history: NDArray[np.int32], item: int) -> list[tuple[int, float]]:
        """The items of a history whose texts speak for an item and what each adds, most first."""
        newest = history[::-1][: self.sum.newest]
        cosines = (self.texts[torch.from_numpy(newest.astype(np.int64))] @ self.texts[item]).tolist()
        found = {
            int(number): self._added(place, cosine)
            for place, (number, cosine) in enumerate(zip(newest, cosines, strict=True), 1)
        }
        return sorted(((number, value) for number, value in found.items() if value > 0), key=lambda pair: -pair[1])

    def _added(self, place: int, cosine: float) -> float:
        return self.sum.decay**place * float(cosine)


class NearestText(TextNeighbours):
    """Scores by the one item of the history whose text is nearest; -1 for an empty history."""

    name = "text-max"

    def __init__(self, data: Dataset, part: Part = "train") -> None:
        super().__init__(data, part)
        self.cosines = Cosines.kept_of(self.texts)

    def by_item(self, history: NDArray[np.int32], item: int) -> list[tuple[int, float]]:
        """The one item whose text is nearest."""
        return super().by_item(history, item)[:1]

    def _added(self, place: int, cosine: float) -> float:
        return float(cosine)

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        if self.cosines is not None:
            return self.cosines.combined(items, offsets, self.sum.newest, decay=None)
        newest_SJ = newest_items(items, offsets, self.sum.newest)
        best_SI = torch.full((len(newest_SJ), len(self.texts) - 1), -1.0)
        for column_S in newest_SJ.T:
            rows = (column_S > 0).nonzero()[:, 0]
            best_SI[rows] = torch.maximum(best_SI[rows], self.texts[column_S[rows]] @ self.texts[1:].T)
        return best_SI


class Cosines:
    """The cosines of all texts of a small catalogue with each other: a list then costs the rows of its few items.

    Args:
        texts: unit vectors [I + 1, E], row = id.
    """

    def __init__(self, texts: Tensor) -> None:
        self.texts = texts
        self._all_II: NDArray[np.float32] | None = None

    @classmethod
    def kept_of(cls, texts: Tensor) -> Cosines | None:
        """Those of some texts; None where they would take more than a gigabyte."""
        return cls(texts) if (len(texts) - 1) ** 2 <= _KEPT_COSINES else None

    def combined(
        self, items: NDArray[np.int32], offsets: NDArray[np.int64], newest: int, decay: float | None
    ) -> Tensor:
        """The cosines of each history's newest items, added up with a decay; None: the largest, -1 without an item."""
        if self._all_II is None:
            # At the first call: a scorer may be built and never asked.
            self._all_II = (self.texts[1:] @ self.texts[1:].T).numpy()
        histories = (np.ascontiguousarray(items), np.ascontiguousarray(offsets))
        return torch.from_numpy(
            _native.combine_dense_rows(self._all_II, histories, decay, newest, torch.get_num_threads())
        )


def newest_items(items: NDArray[np.int32], offsets: NDArray[np.int64], count: int) -> Tensor:
    """The newest items of each history, newest first, int64 [S, J]; 0 where there are fewer."""
    lengths = np.diff(offsets)
    back = np.arange(count)
    places_SJ = offsets[1:, None] - 1 - back
    known_SJ = back < lengths[:, None]
    padded = np.concatenate([items, np.zeros(1, np.int32)])
    return torch.from_numpy(np.where(known_SJ, padded[np.where(known_SJ, places_SJ, -1)], 0).astype(np.int64))
