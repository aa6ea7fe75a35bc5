"""The weights of a blend, looked for on validation by coordinate ascent over a fixed grid.

Six numbers are chosen from some thousands of users, in one fixed order, so the same data and network give the same
weights. What is reported of validation afterwards has been tuned on.

Shapes: U users of the sample, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.evaluation.evaluate import early_stopping_users
from llm_esr.evaluation.metrics import expected_metrics
from llm_esr.scoring.blend import BLENDED, blended_scorers, log_probabilities
from llm_esr.scoring.scorer import Scorer, chunks

if TYPE_CHECKING:
    from llm_esr.data import Dataset

USERS = 8000
_MEMORY = 2 << 30  # bytes of scores that are kept while weights are looked for
_ROUNDS = 2
_LEAST_GAIN = 1e-5
_PER_BLOCK = 256  # users whose scores are added up at once


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        weights: of each scorer, zeros too, in the order in which they were looked for.
        alone: validation NDCG@10 of the network alone (of the first scorer, without a network), on the sample.
        blended: that of the blend.
        users: the size of the sample.

    """

    weights: dict[str, float]
    alone: float
    blended: float
    users: int


def tune_blend(network: Scorer | None, data: Dataset, scorers: Sequence[str]) -> Tuned | None:
    """Weights of `scorers` beside a network; None where nobody has a validation target.

    Args:
        network: see `Blend`; None: the first of `scorers` gets the weight 1.
        data: the data set.
        scorers: names in `BLENDED`.

    """
    parts = blended_scorers(data, scorers)
    room = _MEMORY // (4 * data.n_items * (len(parts) + 1))
    users = early_stopping_users(data, "validation", int(max(64, min(USERS, room))))
    if len(users) == 0:
        return None
    sample = _Sample(network, parts, data, users)
    weights = dict.fromkeys(parts, 0.0)
    first = None if network is not None else next(iter(parts))
    if first is not None:
        weights[first] = 1.0
    alone = best = sample.ndcg(sample.total(weights))
    for _ in range(_ROUNDS):
        moved = False
        for name in parts:
            if name == first:
                continue
            others = sample.total(weights | {name: 0.0})
            for weight in (0.0, *BLENDED[name].grid):
                if weight == weights[name]:
                    continue
                value = sample.ndcg(others, (name, weight))
                if value > best + _LEAST_GAIN:
                    best, moved = value, True
                    weights[name] = weight
        if not moved:
            break
    return Tuned(weights, alone, best, len(users))


class _Sample:
    """The scores of some users' validation histories, what they met at minus infinity."""

    def __init__(
        self, network: Scorer | None, parts: Mapping[str, Scorer], data: Dataset, users: NDArray[np.int64]
    ) -> None:
        targets = np.asarray(data.targets("validation"))[users]
        self.target_U1 = torch.from_numpy(targets.astype(np.int64) - 1)[:, None]
        self.base_UI = torch.zeros(len(users), data.n_items)
        self.parts = {name: torch.empty(len(users), data.n_items) for name in parts}
        for chunk in chunks(users, data.n_items):
            items, offsets = data.histories(users[chunk], "validation")
            if network is not None:
                self.base_UI[chunk] = log_probabilities(network.scores(items, offsets)).cpu()
            for name, part in parts.items():
                self.parts[name][chunk] = part.scores(items, offsets)
            rows = torch.from_numpy(np.repeat(np.arange(chunk.start, chunk.stop), np.diff(offsets)))
            columns = torch.from_numpy(items.astype(np.int64) - 1)
            kept = columns != self.target_U1[rows, 0]
            self.base_UI[rows[kept], columns[kept]] = -torch.inf

    def total(self, weights: Mapping[str, float]) -> Tensor:
        """The blend's scores, [U, I]."""
        total_UI = self.base_UI.clone()
        for name, weight in weights.items():
            if weight:
                total_UI.add_(self.parts[name], alpha=weight)
        return total_UI

    def ndcg(self, scores_UI: Tensor, added: tuple[str, float] | None = None) -> float:
        """NDCG@10 of scores, with one scorer more."""
        above, tied = [], []
        for start in range(0, len(scores_UI), _PER_BLOCK):
            rows = slice(start, start + _PER_BLOCK)
            block = scores_UI[rows]
            if added is not None:
                block = torch.add(block, self.parts[added[0]][rows], alpha=added[1])
            mark = block.gather(1, self.target_U1[rows])
            above.append((block > mark).sum(dim=1))
            tied.append((block == mark).sum(dim=1) - 1)
        values = expected_metrics(torch.cat(above).numpy(), torch.cat(tied).numpy(), [10])
        return float(values["ndcg", 10].mean())
