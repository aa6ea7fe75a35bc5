"""Why an item is in a list, in words: which items of the history speak for it, by which scorer.

A blend's scorers are asked in the order of what they add to the item's score beyond their mean over the catalogue; a
network alone is explained by the same scorers, which then say what speaks for the item, not what chose it.

Shapes: T items of a history, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config.parts import BLENDED_BY_DEFAULT
from llm_esr.scoring.blend import BLENDED, blendable, blended_scorers
from llm_esr.scoring.lent_scores import LentScores
from llm_esr.serving.ids import external_id

if TYPE_CHECKING:
    from llm_esr.serving.recommender import Recommender

_REASONS = 2  # scorers that an explanation names
_WORDS = {
    "transitions": "comes next after {items}",
    "co-occurrence": "met by the users of {items}",
    "text": "its text is near {items}",
    "text-max": "its text is nearest to {items}",
    "log-popularity": "met by many",
    "ease": "predicted from {items} among all items of the history",
    "prefixes": "met next after histories like that of {items}",
    "similar-users": "met by users with histories like that of {items}",
}
_OPPOSITE = {"log-popularity": "met by few"}  # of a scorer that a blend subtracts


@dataclass(frozen=True)
class _Reason:
    """What a scorer says for an item."""

    scorer: str
    added: float
    words: str


class Explainer:
    """Explains the lists of a recommender.

    Args:
        model: its blend, where it has one, says which scorers are asked.

    """

    def __init__(self, model: Recommender) -> None:
        self.model = model
        if model.network is None and model.blend is None:
            names = [model.name] if model.name in BLENDED else ["log-popularity"]
        else:
            names = list(model.blend or blendable(model.data, BLENDED_BY_DEFAULT))
        self.parts = blended_scorers(model.data, names)
        self.titles = model.data.titles() or model.data.item_ids

    def why(self, history: NDArray[np.int32], items: NDArray[np.int32]) -> list[str]:
        """A line for each of some recommended items.

        Args:
            history: int32 [T], item numbers, oldest first.
            items: int32 [k], the recommended items.

        """
        offsets = np.array([0, len(history)], np.int64)
        history = np.ascontiguousarray(history, dtype=np.int32)
        scores = {name: part.scores(history, offsets)[0].numpy() for name, part in self.parts.items()}
        network = self.model.network
        network_I = None if network is None else network.scores(history, offsets)[0].cpu().numpy()
        others_I = np.ones(self.model.data.n_items, np.bool_)
        others_I[history - 1] = False
        lines = []
        for item in items:
            reasons = [self._reason(name, scores[name], history, int(item)) for name in self.parts]
            good = sorted((reason for reason in reasons if reason is not None), key=lambda reason: -reason.added)
            # The two scorers of texts would say the same twice.
            texts = [reason for reason in good if BLENDED[reason.scorer].reads_texts]
            chosen = [reason for reason in good if reason not in texts[1:]][:_REASONS]
            named = [f"{reason.words} ({reason.scorer})" for reason in chosen]
            if network_I is not None:
                place = 1 + int((network_I[others_I] > network_I[item - 1]).sum())
                named.append(f"place {place:,} of the network alone")
            lines.append("; ".join(named) or "nothing in the history speaks for it")
        return lines

    def _reason(
        self, name: str, scores_I: NDArray[np.float32], history: NDArray[np.int32], item: int
    ) -> _Reason | None:
        weight = (self.model.blend or {}).get(name, 1.0)
        added = weight * float(scores_I[item - 1] - scores_I.mean())
        if added <= 0:
            return None
        part = self.parts[name]
        by_item = getattr(part, "by_item", None)
        if by_item is None:
            return _Reason(name, added, _WORDS[name] if weight > 0 else _OPPOSITE[name])
        if weight < 0:
            return None  # what the history says for an item is no reason where it is subtracted
        found = by_item(history, item)
        if not found:
            return None
        named = " and ".join(f"“{self.titles[number - 1]}”" for number, _ in found[:2])
        words = _WORDS[name].format(items=named)
        lent = isinstance(part, LentScores) and part.lenders.lends_to(item)
        return _Reason(name, added, f"met by nobody yet, but of its nearest items: {words}" if lent else words)


def explained(
    model: Recommender, found: pl.DataFrame, keys: list[Any], items: NDArray[np.int32], offsets: NDArray[np.int64]
) -> pl.DataFrame:
    """Lists with a column `why`.

    Args:
        model: made the lists.
        found: the lists, whose first column says whose they are.
        keys: the values of that column, a history each.
        items: the histories, as of `Scorer.scores`.
        offsets: likewise.
    """
    explainer, index = Explainer(model), model.data.item_index
    lines: dict[tuple[Any, Any], str] = {}
    pairs = list(zip(found[found.columns[0]].to_list(), found["item_id"].to_list(), strict=True))
    for row, key in enumerate(keys):
        ids = [item for owner, item in pairs if owner == key]
        history = items[offsets[row] : offsets[row + 1]]
        if len(history):
            said = explainer.why(history, np.array([index[external_id(item)] for item in ids], np.int32))
        else:
            said = ["no known item in the history: the most popular"] * len(ids)
        lines |= {(key, item): words for item, words in zip(ids, said, strict=True)}
    return found.insert_column(len(found.columns), pl.Series("why", [lines[pair] for pair in pairs], dtype=pl.String))
