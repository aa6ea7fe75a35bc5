"""Blends: a network's log-probabilities plus weighted scores of neighbour scorers.

    score(x) = log_softmax(network)(x) + sum_k weight_k s_k(x)

Shapes: S histories, T items of all of them, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.scoring.ease import Ease
from llm_esr.scoring.lent_scores import KnowsReasons, Lenders, LentScores
from llm_esr.scoring.neighbours import CoOccurrence, NearestText, TextNeighbours, Transitions
from llm_esr.scoring.popularity import Popularity
from llm_esr.scoring.scorer import Scorer, reads_at_most, refresh
from llm_esr.scoring.similar_histories import PrefixNeighbours, SimilarUsers

if TYPE_CHECKING:
    from llm_esr.data import Dataset


class LogPopularity(Popularity):
    """log(n + 1) of each item's training count, for everybody alike."""

    name = "log-popularity"

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        return super().scores(items, offsets)[:1].log1p().expand(len(offsets) - 1, -1)


@dataclass(frozen=True)
class Blended:
    """A scorer that can be blended in.

    Attributes:
        build: makes it from a data set.
        grid: the weights that are tried beside 0.
        reads_texts: whether it needs the items' vectors.
        lent: whether an item that training never met has its lenders' scores (`lent_scores.py`). Scorers of texts have
            a score of its own for it, and it is as popular as it is.

    """

    build: Callable[[Dataset], Scorer]
    grid: tuple[float, ...]
    reads_texts: bool = False
    lent: bool = False


# In the order in which their weights are looked for.
BLENDED: Mapping[str, Blended] = {
    "text-max": Blended(NearestText, (0.5, 1.0, 2.0, 3.0, 4.0), reads_texts=True),
    "text": Blended(TextNeighbours, (0.25, 0.5, 1.0, 1.5, 2.0), reads_texts=True),
    "transitions": Blended(Transitions, (0.1, 0.2, 0.3, 0.5), lent=True),
    "co-occurrence": Blended(CoOccurrence, (1.0, 2.0, 4.0, 8.0, 12.0), lent=True),
    "log-popularity": Blended(LogPopularity, (-0.1, -0.05, 0.05)),
    # The rest is not in the presets' `blend.scorers`: what they add was measured (docs/tail.md).
    "ease": Blended(Ease, (1.0, 2.0, 4.0, 8.0, 16.0), lent=True),
    "prefixes": Blended(PrefixNeighbours, (1.0, 2.0, 4.0, 8.0, 16.0), reads_texts=True, lent=True),
    "similar-users": Blended(SimilarUsers, (0.5, 1.0, 2.0, 4.0, 8.0), reads_texts=True, lent=True),
}


class Blend:
    """A network and neighbour scorers as one `Scorer`.

    Args:
        network: gives scores whose softmax over the catalogue is meant; None: neighbours alone.
        data: what the neighbour scorers are counted from.
        weights: of scorers in `BLENDED`; those of weight 0 are left out.
        name: what tables call it.

    Raises:
        ValueError: an unknown scorer, or nothing to add up.
    """

    def __init__(self, network: Scorer | None, data: Dataset, weights: Mapping[str, float], name: str) -> None:
        unknown = [scorer for scorer in weights if scorer not in BLENDED]
        if unknown:
            raise ValueError(f"no scorer '{unknown[0]}' can be blended in; there are: {', '.join(BLENDED)}")
        self.network, self.name = network, name
        self.weights = {scorer: weight for scorer, weight in weights.items() if weight}
        if network is None and not self.weights:
            raise ValueError(f"the blend {name} has neither a network nor a scorer with a weight")
        self.parts = blended_scorers(data, self.weights)

    @property
    def max_len(self) -> int | None:
        """The newest items that the network reads; None without one."""
        return reads_at_most(self.network)

    def refresh(self) -> None:
        """Let the network forget what it keeps of earlier weights."""
        if self.network is not None:
            refresh(self.network)

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        total_SI = None if self.network is None else log_probabilities(self.network.scores(items, offsets))
        for scorer, weight in self.weights.items():
            added_SI = weight * self.parts[scorer].scores(items, offsets)
            total_SI = added_SI if total_SI is None else total_SI.add_(added_SI.to(total_SI.device))
        assert total_SI is not None
        return total_SI


def blended_scorers(data: Dataset, names: Iterable[str]) -> dict[str, Scorer]:
    """The scorers of a blend, by name."""
    parts = {name: BLENDED[name].build(data) for name in names}
    text, nearest = parts.get(TextNeighbours.name), parts.get(NearestText.name)
    if isinstance(text, TextNeighbours) and isinstance(nearest, NearestText):
        # One copy of the texts, and of their cosines where these are kept.
        text.texts, text.cosines = nearest.texts, nearest.cosines
    lenders = Lenders.of(data)
    if lenders is None:
        return parts
    return {name: _lent(part, lenders) if BLENDED[name].lent else part for name, part in parts.items()}


def _lent(part: Scorer, lenders: Lenders) -> Scorer:
    assert isinstance(part, KnowsReasons), f"{part.name} goes by who met what and cannot tell why"
    return LentScores(part, lenders)


def log_probabilities(scores_SI: Tensor) -> Tensor:
    """A network's scores as logarithms of a softmax over the catalogue."""
    return torch.log_softmax(scores_SI, dim=1)


def blendable(data: Dataset, scorers: Sequence[str]) -> list[str]:
    """Those of the scorers that the data set allows: without item vectors, those that read no texts."""
    has_texts = data.item_embeddings is not None
    return [scorer for scorer in scorers if has_texts or not BLENDED[scorer].reads_texts]
