"""What a blend adds to a network's scores, as tables that NumPy can add up.

Each scorer is of one of three kinds (docs/serving.md has the formulas as code):

- table: sum_(j <= newest) decay^j T[j-th newest item, x], then log(floor + sum) where there is a floor;
- texts: sum_(j <= newest) decay^j e_j . e_x, or the largest e_j . e_x where `largest`;
- constant: the same for every history.

Where a part is `lent`, items that training never met (`lent.items`, rows) have the scores of their lenders afterwards:
sum_j `lent.shares`_xj score(`lent.lenders`_xj).

Shapes: I items, W entries of a table's row, E width of the texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.scoring.blend import Blend, LogPopularity
from llm_esr.scoring.lent_scores import LentScores
from llm_esr.scoring.neighbours import COUNTED_SCORES, CountedNeighbours, NearestText, TextNeighbours, Transitions
from llm_esr.scoring.similar_histories import PrefixNeighbours

Arrays = dict[str, NDArray[Any]]


def blend_tables(blend: Blend) -> tuple[dict[str, Any], Arrays]:
    """Each scorer of a blend in words and numbers, and the arrays that they name.

    Raises:
        ValueError: a scorer that reads the sequences of all users.

    """
    about: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, weight in blend.weights.items():
        scorer, lent = blend.parts[name], {}
        if isinstance(scorer, LentScores):
            lenders, scorer, lent = scorer.lenders, scorer.scorer, {"lent": True}
            arrays["lent.items"] = lenders.unmet.numpy()
            arrays["lent.lenders"] = np.ascontiguousarray(lenders.columns.numpy())
            arrays["lent.shares"] = np.ascontiguousarray(lenders.shares.numpy())
        said: Mapping[str, Any]
        if isinstance(scorer, PrefixNeighbours):
            raise ValueError(
                f"the blend's scorer {name} reads the sequences of all users, which no table holds; export the network "
                "alone (--no-blend), or train with a blend.scorers without it"
            )
        if isinstance(scorer, CountedNeighbours):
            floor = COUNTED_SCORES if isinstance(scorer, Transitions) else None
            said = {"kind": "table", "decay": scorer.sum.decay, "newest": scorer.sum.newest, "floor": floor}
            arrays[f"{name}.ids"], arrays[f"{name}.values"] = map(np.ascontiguousarray, scorer.table)
        elif isinstance(scorer, TextNeighbours):
            largest = isinstance(scorer, NearestText)
            said = {"kind": "texts", "decay": scorer.sum.decay, "newest": scorer.sum.newest, "largest": largest}
            arrays["texts"] = np.ascontiguousarray(scorer.texts[1:].numpy())
        else:
            assert isinstance(scorer, LogPopularity), f"{name} has no form as a table"
            said = {"kind": "constant"}
            one = scorer.scores(np.empty(0, np.int32), np.zeros(2, np.int64))
            arrays[f"{name}.values"] = np.ascontiguousarray(one[0].numpy())
        about[name] = {"weight": weight, **said, **lent}
    return about, arrays
