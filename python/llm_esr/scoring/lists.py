"""Top-k lists, and counts of the scores above a mark.

On the CPU a Rust kernel reads each score once; on other devices torch does the same in blocks.

Shapes: B users of a chunk, I items, K places of a list.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr import _native
from llm_esr.data.counts import distinct_pairs

_ITEM_BLOCK = 1 << 16  # items compared at once where torch compares
_TIE_BLOCK = 256  # rows with a tie for the last place that are settled at once


def counts_natively(scores_BI: Tensor) -> bool:
    """Whether the Rust kernel reads these scores."""
    return scores_BI.device.type == "cpu" and scores_BI.dtype == torch.float32


def top_k(
    scores_BI: Tensor, k: int, seen: tuple[NDArray[np.int32], NDArray[np.int64]] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k best items of each row, best first; equal scores by id, the lower one first.

    Args:
        scores_BI: without NaN.
        k: length of the lists, cut to the catalogue.
        seen: (items, offsets) of histories, one a row, whose items are in no list.

    Returns:
        ids int32 [B, k] (0 where a row has no further item above -inf) and scores float32 [B, k].

    """
    k = min(k, scores_BI.shape[1])
    if counts_natively(scores_BI):
        scores = scores_BI.detach().contiguous().numpy()
        _, _, ids_BK, values_BK, _ = _native.rank_rows(scores, None, seen, k, torch.get_num_threads())
        return ids_BK, values_BK
    if seen is not None:
        scores_BI = _without(scores_BI, *distinct_pairs(*seen, scores_BI.shape[1]))
    return _top_k_by_torch(scores_BI, k)


def _without(scores_BI: Tensor, rows: NDArray[np.int64], ids: NDArray[np.int64]) -> Tensor:
    """A copy of the scores in which the items `ids` of `rows` are -inf, so that no list holds them."""
    masked_BI = scores_BI.clone()
    device = scores_BI.device
    masked_BI[torch.from_numpy(rows).to(device), torch.from_numpy(ids - 1).to(device)] = -torch.inf
    return masked_BI


def _top_k_by_torch(scores_BI: Tensor, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    k_here = min(k, scores_BI.shape[1])
    values_BK, index_BK = torch.topk(scores_BI, k_here, dim=1)
    last_B1 = values_BK[:, -1:]
    # torch.topk takes any of the items that tie for the last place: those rows are chosen again, lower ids first.
    _, reach_B = count_above(scores_BI, last_B1)
    unsure = torch.from_numpy(np.flatnonzero(reach_B > k_here)).to(scores_BI.device)
    for rows in torch.split(unsure, _TIE_BLOCK):
        higher = scores_BI[rows] > last_B1[rows]
        equal = scores_BI[rows] == last_B1[rows]
        room = k_here - higher.sum(dim=1, keepdim=True)
        chosen = higher | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))
        index_BK[rows] = chosen.nonzero()[:, 1].view(len(rows), k_here)
    index_BK = index_BK.sort(dim=1).values
    values_BK, order_BK = scores_BI.gather(1, index_BK).sort(dim=1, descending=True, stable=True)
    ids_BK = index_BK.gather(1, order_BK) + 1
    ids_BK = ids_BK.masked_fill(values_BK == -torch.inf, 0)
    ids = np.zeros((len(scores_BI), k), np.int32)
    values = np.full((len(scores_BI), k), -np.inf, np.float32)
    ids[:, :k_here] = ids_BK.cpu().numpy()
    values[:, :k_here] = values_BK.cpu().numpy()
    return ids, values


def count_above(scores_BI: Tensor, mark_B1: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many scores of each row are above its mark, and how many reach it."""
    above_B = torch.zeros(len(scores_BI), dtype=torch.int64, device=scores_BI.device)
    reach_B = torch.zeros_like(above_B)
    for block_BI in torch.split(scores_BI, _ITEM_BLOCK, dim=1):
        above_B += (block_BI > mark_B1).sum(dim=1)
        reach_B += (block_BI >= mark_B1).sum(dim=1)
    return above_B.cpu().numpy(), reach_B.cpu().numpy()
