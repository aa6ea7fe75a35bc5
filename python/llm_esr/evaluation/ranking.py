"""The rank of each user's target in the whole catalogue, by counting.

Nothing is sorted to find a rank: it is one more than the number of items with a higher score. On the CPU a Rust kernel
reads each score once, for the rank and the list alike; on other devices torch does the same in blocks. Users come in
chunks, so that memory does not depend on their number.

Shapes: B users of a chunk, U users in all, I items, N candidates, K places of a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr import _native
from llm_esr.data.counts import distinct_pairs
from llm_esr.scoring.lists import count_above, counts_natively, top_k
from llm_esr.scoring.scorer import Scorer, chunks, refuse_nan, scores_of
from llm_esr.world import World

if TYPE_CHECKING:
    from llm_esr.data import Dataset

HeldOut = Literal["validation", "test"]

NEVER = np.iinfo(np.int32).max  # the best place of an item that is in no list


@dataclass(frozen=True)
class Ranks:
    """Where each user's target stands.

    Attributes:
        users: int64 [U].
        targets: int32 [U], ids.
        above: int64 [U], competing items with a higher score.
        tied: int64 [U], competing items with the same score.
        repeat: bool [U], whether the target is among the user's earlier items.
        best_place: int32 [I], the best place (1 is the top) that an item takes in any user's list; `NEVER`: in none.
            None where no lists were asked for.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int32]
    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    repeat: NDArray[np.bool_]
    best_place: NDArray[np.int32] | None


def rank_targets(
    scorer: Scorer,
    data: Dataset,
    part: HeldOut,
    users: NDArray[np.int64],
    *,
    keep_seen: bool = False,
    candidates: NDArray[np.int32] | None = None,
    list_length: int = 0,
    see: Callable[[NDArray[np.int32]], None] | None = None,
    shared_by: World | None = None,
) -> Ranks:
    """Rank the target of each of `users`.

    Args:
        scorer: gives the scores.
        data: histories and targets.
        part: `validation` or `test`.
        users: int64 [U], each with a target and a non-empty input.
        keep_seen: let the user's earlier items compete. A target that is among them is ranked in any case.
        candidates: int32 [U, N], the only items that compete; none of them the target. None: the whole catalogue.
        list_length: length of the lists behind `Ranks.best_place` (earlier items left out unless `keep_seen`);
            0: none.
        see: is given the lists of each chunk, ids [B, K], 0 where there is no further item.
        shared_by: the processes that share the users; each gets the ranks of all, and sees all lists.

    Raises:
        ValueError: scores that are NaN or of another shape.
    """
    if shared_by is not None and shared_by.several:
        return _ranks_of_all(
            shared_by,
            scorer,
            data,
            part,
            users,
            keep_seen=keep_seen,
            candidates=candidates,
            length=list_length,
            see=see,
        )
    targets_U = np.asarray(data.targets(part))[users]
    above_U = np.zeros(len(users), np.int64)
    tied_U = np.zeros(len(users), np.int64)
    repeat_U = np.zeros(len(users), np.bool_)
    best_I = np.full(data.n_items, NEVER, np.int32) if list_length else None
    for chunk in chunks(users, data.n_items):
        items, offsets = data.histories(users[chunk], part)
        scores_BI = scores_of(scorer, items, offsets, data.n_items)
        target_B = targets_U[chunk]
        rows = np.repeat(np.arange(len(target_B)), np.diff(offsets))
        repeat_U[chunk][rows[items == target_B[rows]]] = True
        if candidates is None and counts_natively(scores_BI):
            seen = None if keep_seen else (items, offsets)
            above, tied, ids_BK, _ = _native_ranks(scorer, scores_BI, target_B, seen, list_length)
        else:
            refuse_nan(scorer, scores_BI)
            if candidates is not None:
                above, tied = _count_candidates(scores_BI, target_B, candidates[chunk])
            else:
                above, tied = _count_all(scores_BI, target_B)
                if not keep_seen:
                    _take_off_seen(scores_BI, target_B, items, offsets, above, tied)
            if list_length:
                ids_BK, _ = top_k(scores_BI, list_length, None if keep_seen else (items, offsets))
        del scores_BI  # the next chunk's take the same memory
        above_U[chunk], tied_U[chunk] = above, tied
        if best_I is not None:
            _note_places(ids_BK, best_I)
            if see is not None:
                see(ids_BK)
    return Ranks(users, targets_U, above_U, tied_U, repeat_U, best_I)


def _ranks_of_all(
    world: World,
    scorer: Scorer,
    data: Dataset,
    part: HeldOut,
    users: NDArray[np.int64],
    *,
    keep_seen: bool,
    candidates: NDArray[np.int32] | None,
    length: int,
    see: Callable[[NDArray[np.int32]], None] | None,
) -> Ranks:
    """As `rank_targets`: each user by one process, the others' zeros added to what it counts."""
    own = world.share(len(users))
    lists: list[NDArray[np.int32]] = []
    found = rank_targets(
        scorer,
        data,
        part,
        users[own],
        keep_seen=keep_seen,
        candidates=None if candidates is None else candidates[own],
        list_length=length,
        see=lists.append,
    )
    counted_3U = np.zeros((3, len(users)), np.int64)
    counted_3U[:, own] = found.above, found.tied, found.repeat
    above_U, tied_U, repeat_U = world.sums(counted_3U)
    best_I = None if found.best_place is None else world.least(found.best_place.astype(np.int64)).astype(np.int32)
    if length and see is not None:
        ids_UK = np.zeros((len(users), length), np.int64)
        ids_UK[own] = np.concatenate([*lists, np.zeros((0, length), np.int32)])
        ids_UK = world.sums(ids_UK)
        for chunk in chunks(users, data.n_items):
            see(ids_UK[chunk].astype(np.int32))
    return Ranks(users, np.asarray(data.targets(part))[users], above_U, tied_U, repeat_U.astype(np.bool_), best_I)


def _native_ranks(
    scorer: Scorer,
    scores_BI: Tensor,
    target_B: NDArray[np.int32],
    seen: tuple[NDArray[np.int32], NDArray[np.int64]] | None,
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    threads = torch.get_num_threads()
    scores = scores_BI.detach().contiguous().numpy()
    above_B, tied_B, ids_BK, values_BK, unknown_B = _native.rank_rows(scores, target_B, seen, k, threads)
    if unknown_B.any():
        refuse_nan(scorer, scores_BI)
    return above_B, tied_B, ids_BK, values_BK


def _target_scores(scores_BI: Tensor, target_B: NDArray[np.int32]) -> Tensor:
    index_B1 = torch.from_numpy(target_B.astype(np.int64) - 1)[:, None]
    return scores_BI.gather(1, index_B1.to(scores_BI.device))


def _count_all(scores_BI: Tensor, target_B: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    mine_B1 = _target_scores(scores_BI, target_B)
    above_B, reach_B = count_above(scores_BI, mine_B1)
    return above_B, reach_B - above_B - 1


def _take_off_seen(
    scores_BI: Tensor,
    target_B: NDArray[np.int32],
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    above: NDArray[np.int64],
    tied: NDArray[np.int64],
) -> None:
    # Earlier items are taken off the counts instead of masked in the scores: a scorer's tensor is not ours to change.
    rows, seen = distinct_pairs(items, offsets, scores_BI.shape[1])
    competes = seen != target_B[rows]
    rows, seen = rows[competes], seen[competes]
    rows_P = torch.from_numpy(rows).to(scores_BI.device)
    other_P = scores_BI[rows_P, torch.from_numpy(seen - 1).to(scores_BI.device)]
    mine_P = _target_scores(scores_BI, target_B).squeeze(1)[rows_P]
    above -= np.bincount(rows[(other_P > mine_P).cpu().numpy()], minlength=len(above))
    tied -= np.bincount(rows[(other_P == mine_P).cpu().numpy()], minlength=len(tied))


def _count_candidates(
    scores_BI: Tensor, target_B: NDArray[np.int32], candidates_BN: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    mine_B1 = _target_scores(scores_BI, target_B)
    index_BN = torch.from_numpy(candidates_BN.astype(np.int64) - 1).to(scores_BI.device)
    scores_BN = scores_BI.gather(1, index_BN)
    above_B = (scores_BN > mine_B1).sum(dim=1)
    return above_B.cpu().numpy(), (scores_BN == mine_B1).sum(dim=1).cpu().numpy()


def _note_places(ids_BK: NDArray[np.int32], best_I: NDArray[np.int32]) -> None:
    for place, ids_B in enumerate(ids_BK.T, start=1):
        index = ids_B[ids_B > 0] - 1
        best_I[index] = np.minimum(best_I[index], place)
