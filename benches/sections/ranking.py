"""Ranking in the whole catalogue: ours beside the matrix product that nobody can avoid, and beside sorting."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch
from measuring import Results, Row, alternating, median_ratio, rate_of
from numpy.typing import NDArray
from torch import Tensor
from workload import Histories, Size, usual

from llm_esr.evaluation.ranking import NEVER, Ranks, rank_targets
from llm_esr.scoring.scorer import chunks

SECTION = "ranking"
TITLE = "Ranking"
CHANNELS = 128  # two views of width 64
USERS = 2048
LISTED = 20


def about(size: Size) -> str:
    return (
        f"The rank of each user's last item among all {size.items:,} items, the others that the user met left out: the "
        f"product of user and item vectors ({CHANNELS} channels), then counting the items with a higher score; and the "
        f"list of the {LISTED} best items in the same reading. Beside it, in the same chunks: the product alone; "
        "sorting each user's scores (`torch.argsort`), checked to give the same ranks; and `torch.topk`, checked to "
        "give the same lists, which knows no rank beyond them."
    )


class Shop:
    """Users whose last item is the target: what `rank_targets` asks of a `Dataset` and of a scorer."""

    name = "vectors"

    def __init__(self, histories: Histories, n_items: int, n_users: int) -> None:
        self.kept, self.n_items = histories, n_items
        rng = np.random.default_rng(2)
        self.users = np.flatnonzero(histories.lengths > 1)[:n_users]
        vectors = rng.standard_normal((len(histories.lengths) + n_items, CHANNELS), np.float32)
        self.users_UC, self.items_CI = torch.from_numpy(vectors).split([len(histories.lengths), n_items])
        self.items_CI = self.items_CI.T.contiguous()
        self._asked = self.users

    def targets(self, part: str) -> NDArray[np.int32]:
        return self.kept.flat[self.kept.starts + self.kept.lengths - 1].astype(np.int32)

    def histories(self, users: NDArray[np.int64], part: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        self._asked = users
        starts, lengths = self.kept.starts[users], self.kept.lengths[users] - 1
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return self.kept.flat[places].astype(np.int32), offsets

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        return self.users_UC[torch.from_numpy(self._asked)] @ self.items_CI


def measure(size: Size) -> Results:
    work = usual(size)
    shop = Shop(Histories.read(work.folder), work.n_items, USERS)
    check(shop)
    ours: dict[str, Callable[[], int]] = {
        "ranks in the whole catalogue": lambda: len(_ours(shop).users),
        f"ranks and lists of {LISTED}": lambda: len(_ours(shop, LISTED).users),
    }
    peers: dict[str, Callable[[], int]] = {
        "the matrix product alone": lambda: _product(shop),
        "sorting (torch.argsort)": lambda: len(_sorting(shop)),
        f"torch.topk, {LISTED} best": lambda: len(_listing(shop)),
    }
    found = alternating({name: rate_of(run) for name, run in (ours | peers).items()}, size.repeats)
    return Results(
        [
            Row(SECTION, name, statistics.median(found[name]), "users/s", 1, peer, statistics.median(found[peer]),
                median_ratio(found[name], found[peer]))
            for name in ours for peer in peers
        ]
    )  # fmt: skip


def check(shop: Shop) -> None:
    """Sorting gives the ranks that counting gives (equal scores it puts in any order); torch.topk the same lists."""
    ours, sorted_ = _ours(shop, LISTED), _sorting(shop)
    assert ((ours.above <= sorted_) & (sorted_ <= ours.above + ours.tied)).all(), "ranks differ"
    best = np.full(shop.n_items, NEVER, np.int32)
    for place, ids in enumerate(_listing(shop).T, start=1):
        best[ids] = np.minimum(best[ids], place)
    assert ours.best_place is not None and (ours.best_place == best).all(), "lists differ"


def _ours(shop: Shop, k: int = 0) -> Ranks:
    return rank_targets(shop, shop, "test", shop.users, list_length=k)  # type: ignore[arg-type]


def _product(shop: Shop) -> int:
    for chunk in chunks(shop.users, shop.n_items):
        shop.users_UC[torch.from_numpy(shop.users[chunk])] @ shop.items_CI
    return len(shop.users)


def _masked(shop: Shop, users: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Scores without what the users met, and the targets, which stay."""
    items, offsets = shop.histories(users, "test")
    scores = shop.scores(items, offsets)
    targets = torch.from_numpy(shop.targets("test")[users].astype(np.int64) - 1)
    kept = scores.gather(1, targets[:, None])
    rows = torch.from_numpy(np.repeat(np.arange(len(users)), np.diff(offsets)))
    scores[rows, torch.from_numpy(items.astype(np.int64) - 1)] = -torch.inf
    return scores.scatter_(1, targets[:, None], kept), targets


def _sorting(shop: Shop) -> NDArray[np.int64]:
    ranks = []
    for chunk in chunks(shop.users, shop.n_items):
        scores, targets = _masked(shop, shop.users[chunk])
        order = scores.argsort(dim=1, descending=True)
        ranks.append((order == targets[:, None]).nonzero()[:, 1].numpy())
    return np.concatenate(ranks)


def _listing(shop: Shop) -> NDArray[np.int64]:
    """Columns of the best, without what was met, the target included where it was met before."""
    lists = []
    for chunk in chunks(shop.users, shop.n_items):
        items, offsets = shop.histories(shop.users[chunk], "test")
        scores = shop.scores(items, offsets)
        rows = torch.from_numpy(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
        scores[rows, torch.from_numpy(items.astype(np.int64) - 1)] = -torch.inf
        lists.append(torch.topk(scores, LISTED, dim=1).indices.numpy())
    return np.concatenate(lists)
