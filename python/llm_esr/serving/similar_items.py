"""Items that are like an item: by their texts, by what a model was trained to, by who met them.

Shapes: N items asked about, I items, K places of a list, E width of what is compared, W entries of a table's row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.doors import warn
from llm_esr.retrieval import nearest
from llm_esr.scoring import NetworkScorer
from llm_esr.scoring.neighbours import CoOccurrence
from llm_esr.serving.recommend import Catalogue, Owners, empty_frame, item_numbers, list_frame, list_length

if TYPE_CHECKING:
    from llm_esr.data import Dataset

Similarity = Literal["text", "trained", "co-occurrence"]
_Lists = tuple[NDArray[np.int32], NDArray[np.float32]]
# Why nothing is similar to an item.
WHY_NONE: dict[Similarity, str] = {
    "text": "their text vectors are zero",
    "trained": "their trained vectors are zero",
    "co-occurrence": "in training nobody met them together with another item",
}


class SimilarItems:
    """Finds similar items; what is counted is counted once.

    Args:
        data: has the texts' vectors and the training sequences.
        network: gives trained vectors; None: there is none.
        name: what has no network, for messages.

    """

    def __init__(self, data: Dataset, network: NetworkScorer | None = None, name: str | None = None) -> None:
        self.data, self.network, self.name = data, network, name
        self._counted: CoOccurrence | None = None

    def frame(
        self, items: Any, k: int = 10, by: Similarity | None = None, *, skip_unknown: bool = False
    ) -> pl.DataFrame:
        """See `Recommender.similar_items`."""
        k, settled = list_length(k, self.data), self.settled(by)
        numbers = item_numbers(self.data, items, "items", skip_unknown)
        if not len(numbers):
            warn("no item was given, so there is no list")
            return empty_frame(self.data, "similar_to")
        catalogue = Catalogue(self.data)
        ids_NK, cosines_NK = self.lists(numbers, k, settled)
        owners = Owners("similar_to", catalogue.given_ids[numbers - 1], catalogue.id_type)
        alone = catalogue.ids[numbers[(ids_NK == 0).all(axis=1)] - 1].tolist()
        if alone:
            shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
            warn(f"nothing is similar by {settled} to {len(alone):,} of the items ({shown}): {WHY_NONE[settled]}")
        return list_frame(catalogue, owners, ids_NK, cosines_NK)

    def settled(self, by: str | None) -> Similarity:
        """What is meant by `by`; None: texts where there are any, else trained vectors, else co-occurrence.

        Raises:
            ValueError: another name, or trained vectors of a model without a network.
            FileNotFoundError: texts of a data set without item vectors.

        """
        data, network = self.data, self.network
        match by:
            case None if data.item_embeddings is not None:
                return "text"
            case None:
                return "co-occurrence" if network is None else "trained"
            case "text" if data.item_embeddings is None:
                raise FileNotFoundError(
                    f"similar items by text read {data.folder}/item_embeddings.npy, which does not exist; run "
                    f"`llm-esr embed` first, or ask by {self._others(by)} (--by)"
                )
            case "trained" if network is None:
                what = f"{data.folder} holds data and no model" if self.name is None else (
                    f"{self.name} is a scorer without a network")  # fmt: skip
                raise ValueError(
                    f"{what}, so none of its items has a trained vector; ask by {self._others(by)} (--by), or of a "
                    "trained model"
                )
            case "text" | "trained" | "co-occurrence":
                return by
        raise ValueError(f"by (--by): expected {', '.join(get_args(Similarity))}, got {by!r}")

    def lists(self, items_N: NDArray[np.int64], k: int, by: Similarity) -> _Lists:
        """The k items most like each of some items, itself left out, best first; ties go to the lower id.

        Returns:
            ids int32 [N, K] (0 where there is no further one) and cosines float32 [N, K].

        """
        if by == "co-occurrence":
            return self._counted_lists(items_N, k)
        network = self.network
        if by == "trained":
            assert network is not None, "the caller has settled it"
            vectors_IE = network.item_vectors().cpu().numpy()
        else:
            vectors = self.data.item_embeddings
            assert vectors is not None, "the caller has settled it"
            vectors_IE = np.asarray(vectors)
        # One more than is asked for: the item itself is among them, unless twins with lower ids fill the list.
        rows_NK, cosines_NK = nearest(vectors_IE, k + 1, queries=vectors_IE[items_N - 1])
        return _without_itself(np.where(rows_NK < 0, 0, rows_NK + 1).astype(np.int32), cosines_NK, items_N, k)

    def _others(self, by: Similarity) -> str:
        """The other ways in which items can be compared here."""
        there = {"text": self.data.item_embeddings is not None, "trained": self.network is not None}
        return " or ".join(name for name in get_args(Similarity) if name != by and there.get(name, True))

    def _counted_lists(self, items_N: NDArray[np.int64], k: int) -> _Lists:
        if self._counted is None:
            self._counted = CoOccurrence(self.data)
        ids_IW, values_IW = self._counted.table
        return _without_itself(ids_IW[items_N - 1], values_IW[items_N - 1], items_N, k)


def _without_itself(
    ids_NW: NDArray[np.int32], values_NW: NDArray[np.float32], items_N: NDArray[np.int64], k: int
) -> _Lists:
    """Lists of at most k items in their order, each without the item that it belongs to."""
    gone = (ids_NW == items_N[:, None]) | (ids_NW == 0)
    order = np.argsort(gone, axis=1, kind="stable")[:, :k]
    left = ~np.take_along_axis(gone, order, axis=1)
    ids, values = np.take_along_axis(ids_NW, order, axis=1), np.take_along_axis(values_NW, order, axis=1)
    return np.where(left, ids, 0).astype(np.int32), np.where(left, values, 0).astype(np.float32)
