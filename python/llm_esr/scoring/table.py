"""The scorers that need no training, by name: a new one is a file of its own and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from llm_esr.scoring.ease import Ease
from llm_esr.scoring.neighbours import CoOccurrence, NearestText, TextNeighbours, Transitions
from llm_esr.scoring.popularity import Popularity
from llm_esr.scoring.scorer import Scorer
from llm_esr.scoring.similar_histories import PrefixNeighbours, SimilarUsers

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.data.dataset import Part

# Each is built from a data set and from what it may know of it: all users' inputs for a part.
UNTRAINED: Mapping[str, Callable[[Dataset, Part], Scorer]] = {
    "popularity": Popularity,
    "transitions": Transitions,
    "co-occurrence": CoOccurrence,
    "text": TextNeighbours,
    "text-max": NearestText,
    "ease": Ease,
    "prefixes": PrefixNeighbours,
    "similar-users": SimilarUsers,
}


def build_untrained(name: str, data: Dataset, part: Part = "train") -> Scorer:
    """A scorer of the table.

    Raises:
        ValueError: another name.

    """
    if name not in UNTRAINED:
        raise ValueError(f"no scorer '{name}'; there are: {', '.join(UNTRAINED)}")
    return UNTRAINED[name](data, part)
