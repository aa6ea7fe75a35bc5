"""Items that are like an item: by their texts, by what a model was trained to, by who met them.

Shapes: N items asked about, I items, K places of a list, E width of what is compared, W entries of a table's row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llm_esr.retrieval import nearest
from llm_esr.scoring.neighbours import CoOccurrence

if TYPE_CHECKING:
    from llm_esr.serving.recommender import Recommender

Similarity = Literal["text", "trained", "co-occurrence"]
_Lists = tuple[NDArray[np.int32], NDArray[np.float32]]
# Why nothing is similar to an item.
WHY_NONE: dict[Similarity, str] = {
    "text": "their text vectors are zero",
    "trained": "their trained vectors are zero",
    "co-occurrence": "in training nobody met them together with another item",
}


class SimilarItems:
    """Finds similar items for a recommender; what is counted is counted once.

    Args:
        model: its network gives trained vectors, its data the texts and the training sequences.

    """

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self._counted: CoOccurrence | None = None

    def settled(self, by: str | None) -> Similarity:
        """What is meant by `by`; None: texts where there are any, else trained vectors, else co-occurrence.

        Raises:
            ValueError: another name, or trained vectors of a model without a network.
            FileNotFoundError: texts of a data set without item vectors.

        """
        model, data = self.model, self.model.data
        match by:
            case None if data.item_embeddings is not None:
                return "text"
            case None:
                return "co-occurrence" if model.network is None else "trained"
            case "text" if data.item_embeddings is None:
                raise FileNotFoundError(
                    f"similar items by text read {data.folder}/item_embeddings.npy, which does not exist; run "
                    f"`llm-esr embed` first, or ask by {self._others(by)} (--by)"
                )
            case "trained" if model.network is None:
                raise ValueError(
                    f"{model.name} is a scorer without a network, so none of its items has a trained vector; ask by "
                    f"{self._others(by)} (--by), or of a trained model"
                )
            case "text" | "trained" | "co-occurrence":
                return by
        raise ValueError(f"by: expected {', '.join(get_args(Similarity))}, got {by!r}")

    def lists(self, items_N: NDArray[np.int64], k: int, by: Similarity) -> _Lists:
        """The k items most like each of some items, itself left out, best first; ties go to the lower id.

        Returns:
            ids int32 [N, K] (0 where there is no further one) and cosines float32 [N, K].

        """
        if by == "co-occurrence":
            return self._counted_lists(items_N, k)
        network = self.model.network
        if by == "trained":
            assert network is not None, "the caller has settled it"
            vectors_IE = network.item_vectors().cpu().numpy()
        else:
            vectors = self.model.data.item_embeddings
            assert vectors is not None, "the caller has settled it"
            vectors_IE = np.asarray(vectors)
        # One more than is asked for: the item itself is among them, unless twins with lower ids fill the list.
        rows_NK, cosines_NK = nearest(vectors_IE, k + 1, queries=vectors_IE[items_N - 1])
        return _without_itself(np.where(rows_NK < 0, 0, rows_NK + 1).astype(np.int32), cosines_NK, items_N, k)

    def _others(self, by: Similarity) -> str:
        """The other ways that this model can be asked in."""
        there = {"text": self.model.data.item_embeddings is not None, "trained": self.model.network is not None}
        return " or ".join(name for name in get_args(Similarity) if name != by and there.get(name, True))

    def _counted_lists(self, items_N: NDArray[np.int64], k: int) -> _Lists:
        if self._counted is None:
            self._counted = CoOccurrence(self.model.data)
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
