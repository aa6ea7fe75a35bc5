"""Scorers of similar users by text: whose history says the same, and what they met.

A history's profile is the decayed sum of its items' centred text vectors, `sum_j .8^j e_j`, at unit length. The
nearest ones of training vote by softmax(cosine / .05):

- prefixes: the 200 nearest beginnings of training sequences, each for the item that came next;
- similar-users: the 100 nearest training sequences, each for all its items.

Shapes: S histories, T items of all of them, I items, E width of the texts, P stored profiles, N nearest of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.scoring.neighbours import TextNeighbours
from llm_esr.scoring.stored_tables import Expected, stored_arrays
from llm_esr.semantics.vector_files import stored_checksum

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.data.dataset import Part

MOST_PROFILES = 500_000  # 768 MB of profiles that are 384 wide; of more, an even share is kept
_DECAY = 0.8
_TEMPERATURE = 0.05
_ROWS = 256  # histories that are compared with all profiles at once
_PROFILES = 8192  # profiles that are made at once


class PrefixNeighbours(TextNeighbours):
    """What came next after the beginnings of sequences that say the same.

    Args:
        data: the data set, with item vectors.
        part: not read: training parts alone.

    Raises:
        FileNotFoundError: no item vectors.
    """

    name = "prefixes"
    nearest: ClassVar[int] = 200

    def __init__(self, data: Dataset, part: Part = "train") -> None:
        super().__init__(data, part)
        items, offsets = data.histories(np.arange(data.n_users), "train")
        starts, ends = self._prefixes(offsets)
        if len(ends) > MOST_PROFILES:
            kept = np.linspace(0, len(ends) - 1, MOST_PROFILES).astype(np.int64)
            starts, ends = starts[kept], ends[kept]
        self.items, self.starts, self.ends = items, starts, ends
        part_of = {"profiles": Expected(np.float32, (len(ends), self.texts.shape[1]), mode="c")}
        # Where nothing is kept, nothing has to be told from what was kept before.
        vectors = "" if data.tables_folder is None else stored_checksum(data.folder, "item_embeddings")
        made_from = {"item_embeddings": vectors, "decay": _DECAY}
        stored = stored_arrays(data, self.name, part_of, made_from, lambda: {"profiles": self._all_profiles().numpy()})
        self.profiles_PE = torch.from_numpy(stored["profiles"])

    def _all_profiles(self) -> Tensor:
        """The profiles of all beginnings, [P, E]."""
        rows = [slice(row, row + _PROFILES) for row in range(0, len(self.ends), _PROFILES)]
        made = [self._profiles(self.items, self.starts[some], self.ends[some]) for some in rows]
        return torch.cat(made) if made else self.texts[:0]

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`: the votes for each item, which add up to 1 over what each neighbour votes for once."""
        scores_SI = torch.zeros(len(offsets) - 1, len(self.texts) - 1)
        if not len(self.profiles_PE):
            return scores_SI
        profiles_SE = self._profiles(items, offsets[:-1], offsets[1:])
        for start in range(0, len(profiles_SE), _ROWS):
            cosines_SP = profiles_SE[start : start + _ROWS] @ self.profiles_PE.T
            count = min(self.nearest, cosines_SP.shape[1])
            best_SN, place_SN = cosines_SP.topk(count, dim=1)
            self._vote(scores_SI[start : start + _ROWS], place_SN, torch.softmax(best_SN / _TEMPERATURE, dim=1))
        return scores_SI

    def by_item(self, history: NDArray[np.int32], item: int) -> list[tuple[int, float]]:
        """The item of the history whose text is nearest: a profile is made of all of them."""
        return super().by_item(history, item)[:1]

    def _prefixes(self, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each beginning starts and ends, [P]; the item at its end came next."""
        lengths = np.maximum(np.diff(offsets) - 1, 0)
        starts = np.repeat(offsets[:-1], lengths)
        first = np.cumsum(lengths) - lengths
        return starts, starts + 1 + np.arange(lengths.sum()) - np.repeat(first, lengths)

    def _vote(self, scores_SI: Tensor, place_SN: Tensor, votes_SN: Tensor) -> None:
        """Add the votes of the nearest profiles."""
        following = torch.from_numpy(self.items[self.ends].astype(np.int64) - 1)
        scores_SI.scatter_add_(1, following[place_SN], votes_SN)

    def _profiles(self, items: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Tensor:
        """Profiles of the items from `starts` to `ends`, float32 [n, E]; of nothing, zeros."""
        longest = int(min((ends - starts).max(initial=0), 30))  # .8^30 is a thousandth
        total_nE = torch.zeros(len(starts), self.texts.shape[1])
        padded = np.concatenate([items, np.zeros(1, np.int32)])
        for back in range(longest):
            places = ends - 1 - back
            ids = np.where(places >= starts, padded[np.where(places >= starts, places, -1)], 0)
            total_nE += _DECAY ** (back + 1) * self.texts[torch.from_numpy(ids.astype(np.int64))]
        return F.normalize(total_nE, dim=1)


class SimilarUsers(PrefixNeighbours):
    """What the users met whose training sequences say the same; the user's own is one of them."""

    name = "similar-users"
    nearest: ClassVar[int] = 100

    def _prefixes(self, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        kept = np.diff(offsets) > 0
        return offsets[:-1][kept], offsets[1:][kept]

    def _vote(self, scores_SI: Tensor, place_SN: Tensor, votes_SN: Tensor) -> None:
        starts, ends = self.starts[place_SN.numpy()], self.ends[place_SN.numpy()]
        lengths = (ends - starts).ravel()
        first = np.cumsum(lengths) - lengths
        places = np.repeat(starts.ravel() - first, lengths) + np.arange(lengths.sum())
        rows = np.repeat(np.arange(len(place_SN)), (ends - starts).sum(axis=1))
        votes = np.repeat(votes_SN.numpy().ravel(), lengths)
        flat = rows * scores_SI.shape[1] + self.items[places] - 1
        added = np.bincount(flat, weights=votes, minlength=scores_SI.numel()).astype(np.float32)
        scores_SI += torch.from_numpy(added.reshape(scores_SI.shape))
