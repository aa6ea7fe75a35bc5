"""Whether tuning did an encoder good, before any recommender is trained: figures on views that it was not trained on.

Shapes: I items, n views, P pairs of items, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EmbedConfig
from llm_esr.data import Dataset
from llm_esr.semantics.attribute_views import ItemAttributes

# No epoch of the training: its views are others.
_EPOCH = 2**32 - 1
_MOST_VIEWS = 2000
_MOST_PAIRS = 50_000
_MOST_RANKED = 5_000  # of those pairs: each is a search through the catalogue
_NEAREST = 10
_NEAR = 50  # places by popularity within which an item's stand-in is drawn
_HEAD_SHARE = 0.2
_ROWS = 512


@dataclass(frozen=True)
class Acceptance:
    """Figures of an encoder.

    Attributes:
        recall: share of views whose item is the nearest of all items, by the items' whole texts; items at one distance
            share it.
        recall_tail: the same for views of tail items, the less met four fifths.
        auc: how often two items that stand side by side in a training sequence are closer than two random ones that
            are met as often; half is chance.
        auc_tail: the same for pairs with a tail item.
        near: share of such pairs (5,000 at most) whose later item is among the 10 nearest of all others to the
            earlier one. A recommender reads the nearest items, and they may get worse while the AUC rises.
        near_tail: the same for pairs with a tail item.
    """

    recall: float
    recall_tail: float
    auc: float
    auc_tail: float
    near: float
    near_tail: float


@dataclass(frozen=True)
class Trial:
    """Texts and pairs that encoders are judged on: the same before and after.

    Attributes:
        texts: the whole texts of I items, then n views.
        n_items: I.
        items: the row of each view's item, `[n]`.
        pairs: rows of items side by side in training sequences, `[P, 2]`.
        random: rows of their stand-ins, `[P, 2]`.
        is_tail: by row, `[I]`.
    """

    texts: list[str]
    n_items: int
    items: NDArray[np.int64]
    pairs: NDArray[np.int64]
    random: NDArray[np.int64]
    is_tail: NDArray[np.bool_]

    def judge(self, encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> Acceptance:
        """The figures of an encoder that gives vectors `[len(texts), E]` of unit length."""
        vectors = encode(self.texts)
        items_IE, views_nE = vectors[: self.n_items], vectors[self.n_items :]
        hits = first_shares(views_nE, items_IE, self.items)
        return Acceptance(
            recall=_mean(hits), recall_tail=_mean(hits[self.is_tail[self.items]]), **self.judge_items(items_IE)
        )

    def judge_items(self, items_IE: NDArray[np.float32]) -> dict[str, float]:
        """The figures that read the items' vectors alone, `auc` to `near_tail`."""
        close, far = (
            np.einsum("pe,pe->p", items_IE[rows[:, 0]], items_IE[rows[:, 1]]) for rows in (self.pairs, self.random)
        )
        tail = np.asarray(self.is_tail[self.pairs].any(axis=1))
        ranked = np.linspace(0, len(self.pairs) - 1, min(len(self.pairs), _MOST_RANKED)).astype(np.int64)
        near = nearest_hold(items_IE, self.pairs[ranked], _NEAREST)
        return {
            "auc": auc(close, far),
            "auc_tail": auc(close[tail], far[tail]),
            "near": _mean(near),
            "near_tail": _mean(near[tail[ranked]]),
        }


def make_trial(data: Dataset, prompts: Sequence[str], attributes: ItemAttributes, config: EmbedConfig) -> Trial:
    """Draw views (at most 2,000) and pairs (at most 50,000) from the training part, by `embed.tune_seed`.

    Args:
        data: a data set.
        prompts: the whole texts of its items.
        attributes: those of its items.
        config: the section `embed`.
    """
    rng = np.random.default_rng([config.tune_seed, _EPOCH])
    items = np.sort(rng.permutation(attributes.trained)[:_MOST_VIEWS])
    draw = (config.tune_seed, _EPOCH, 1)
    ratio, keep = config.tune_drop_ratio, config.tune_keep_title
    views = [attributes.text(attributes.view(int(row), draw, ratio, keep_title=keep)) for row in items]
    counts = np.asarray(data.training_counts)[1:]
    shuffled = rng.permutation(data.n_items)
    by_count = shuffled[np.argsort(counts[shuffled], kind="stable")]
    pairs = _neighbours(data)
    pairs = pairs[np.sort(rng.permutation(len(pairs))[:_MOST_PAIRS])]
    place = np.empty(data.n_items, dtype=np.int64)
    place[by_count] = np.arange(data.n_items)
    near = place[pairs] + rng.integers(-_NEAR, _NEAR + 1, pairs.shape)
    is_tail = np.ones(data.n_items, dtype=bool)
    is_tail[by_count[data.n_items - int(_HEAD_SHARE * data.n_items) :]] = False
    random = by_count[near.clip(0, data.n_items - 1)]
    apart = random[:, 0] != random[:, 1]  # an item is always close to itself
    return Trial([*prompts, *views], data.n_items, items, pairs[apart], random[apart], is_tail)


def first_shares(
    views_nE: NDArray[np.float32], items_IE: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For each view 1 where its item is the nearest alone, a share where others are as near, else 0: `[n]`."""
    shares = []
    for start in range(0, len(rows), _ROWS):
        cosines_nI = views_nE[start : start + _ROWS] @ items_IE.T
        own = np.take_along_axis(cosines_nI, rows[start : start + _ROWS, None], axis=1)
        nearer = (cosines_nI > own + 1e-6).any(axis=1)
        shares.append(np.where(nearer, 0.0, 1 / (np.abs(cosines_nI - own) <= 1e-6).sum(axis=1)))
    return np.concatenate(shares)


def nearest_hold(items_IE: NDArray[np.float32], pairs: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """For each pair of rows, [P, 2], 1 where fewer than `count` other items are nearer to the first than the second."""
    found = []
    for start in range(0, len(pairs), _ROWS):
        first, second = pairs[start : start + _ROWS].T
        cosines_pI = items_IE[first] @ items_IE.T
        cosines_pI[np.arange(len(first)), first] = -np.inf
        own = np.take_along_axis(cosines_pI, second[:, None], axis=1)
        found.append((cosines_pI > own).sum(axis=1) < count)
    return np.concatenate(found).astype(np.float64) if found else np.zeros(0)


def auc(close: NDArray[np.floating], far: NDArray[np.floating]) -> float:
    """How often one of `close` is larger than one of `far`, a tie counting half; nan where there are none."""
    if not len(close) or not len(far):
        return float("nan")
    ordered = np.sort(far)
    below = np.searchsorted(ordered, close, side="left") + np.searchsorted(ordered, close, side="right")
    return float(below.mean() / (2 * len(far)))


def acceptance_lines(before: dict[str, float | None], after: dict[str, float | None]) -> list[str]:
    """What the terminal says of the figures, before and after."""

    def change(name: str) -> str:
        digits = 4 if name.startswith("near") else 3
        both = before.get(name), after.get(name)
        return " -> ".join("-" if value is None else f"{value:.{digits}f}" for value in both)

    return [
        f"a view's own item is the nearest: {change('recall')}, tail items {change('recall_tail')}",
        f"items met together are closer than random ones (AUC): {change('auc')}, with a tail item {change('auc_tail')}",
        f"the item met next is among the 10 nearest: {change('near')}, with a tail item {change('near_tail')}",
    ]


def stored(figures: Acceptance) -> dict[str, float | None]:
    """As JSON takes them: None where there was nothing to count."""
    return {name: None if np.isnan(value) else round(value, 6) for name, value in asdict(figures).items()}


def _neighbours(data: Dataset) -> NDArray[np.int64]:
    """Rows of different items that stand side by side in training sequences, `[P, 2]`, in the order of the users."""
    items, offsets = data.histories(np.arange(data.n_users), "validation")
    rows = np.asarray(items, dtype=np.int64) - 1
    inner = np.ones(max(0, len(rows) - 1), dtype=bool)
    ends = np.asarray(offsets)[1:-1]
    inner[ends[(ends > 0) & (ends < len(rows))] - 1] = False
    pairs = np.stack([rows[:-1], rows[1:]], axis=1)[inner] if len(rows) else np.empty((0, 2), dtype=np.int64)
    different: NDArray[np.int64] = pairs[pairs[:, 0] != pairs[:, 1]]
    return different


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
