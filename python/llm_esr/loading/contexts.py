"""The contexts of items, and cuts of users' histories: what MELT's two branches read (docs/melt.md).

A context of an item is what a user met until then, or what the user met from then on, read backwards; its nearest
`max_len` items. All draws are named by seed, epoch and user or item, so they hang on nothing else.

Shapes: I items, N contexts, S sequences, T items of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llm_esr import _native
from llm_esr.loading.sequences import at_least, integers

if TYPE_CHECKING:
    from llm_esr.data import Dataset

# Histories one after another: ids int32 [T], and where each starts, int64 [S + 1].
Flat = tuple[NDArray[np.int32], NDArray[np.int64]]


class Pass(NamedTuple):
    """Sequences whose tokens stand for many contexts.

    Attributes:
        histories: the sequences, S of T items.
        tokens: for each context the token whose state is its state, int64 [N].
        owners: for each context its item, int64 [N].

    """

    histories: Flat
    tokens: NDArray[np.int64]
    owners: NDArray[np.int64]


class Contexts:
    """The contexts of all items of a data set, in the training sequences.

    They are numbered item by item, user by user, place by place: what came before first, then what came after.

    Args:
        data: the prepared data.
        max_len: the nearest items of a context that are read.
        reversed: whether what came after counts too.
        holds_item: whether a context ends with the item itself.

    Attributes:
        offsets: where each item's contexts start, int64 [I + 2].

    Raises:
        ValueError: a `max_len` below 1, or contexts that do not fit into memory.

    """

    def __init__(self, data: Dataset, *, max_len: int, reversed: bool = True, holds_item: bool = True) -> None:
        store = _native.Store(data.folder, data.n_items)
        self._native = _native.Contexts(store, at_least("max_len", max_len, 1), bool(reversed), bool(holds_item))
        self.n_users, self.n_items = data.n_users, data.n_items
        self.offsets: NDArray[np.int64] = self._native.offsets

    def counts(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Contexts of each of some items, int64 [n]."""
        return np.diff(self.offsets)[items]

    def of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of all contexts of some items, one item's after another's, int64 [N]."""
        counts = self.counts(items)
        before = np.cumsum(counts) - counts
        numbers: NDArray[np.int64] = np.arange(int(counts.sum())) + np.repeat(self.offsets[items] - before, counts)
        return numbers

    def read(self, numbers: ArrayLike) -> Flat:
        """The items of contexts by their numbers, the nearest last.

        Raises:
            IndexError: a number that no context has.

        """
        return self._native.read(integers("numbers", numbers, np.int64))

    def draw(
        self, items: ArrayLike, most: int, *, seed: int, epoch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw 1 to `most` contexts of each of some items, at most all of them, none twice.

        Returns:
            How many of each, int64 [n] (0 where an item has none), and their numbers, one item's after another's.

        Raises:
            IndexError: an item that the data set does not have.
            ValueError: a `most` below 1.

        """
        chosen = integers("items", items, np.int64)
        return self._native.draw(chosen, _most(most), at_least("seed", seed, 0), at_least("epoch", epoch, 0))

    def pass_over(self, first: int, last: int, wanted: NDArray[np.bool_]) -> Pass:
        """The contexts of `wanted` items (bool [I + 1]) in the histories of the users `first` to `last - 1`.

        One sequence and its reverse hold all contexts of a user up to `max_len` items, for encoders whose state of a
        token is that of the history until it; longer ones are sequences of their own.

        Raises:
            ValueError: users or `wanted` that do not fit the data.

        """
        items, offsets, tokens, owners = self._native.pass_over(
            at_least("first", first, 0), at_least("last", last, 0), wanted
        )
        return Pass((items, offsets), tokens, owners)


def recent_cuts(users: ArrayLike, most: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """How many of its newest items each of some users shows in an epoch, uniform in 1 to `most`, int64 [n].

    Raises:
        ValueError: a `most` below 1, or a negative user.

    """
    chosen = integers("users", users, np.int64)
    return _native.recent_cuts(chosen, _most(most), at_least("seed", seed, 0), at_least("epoch", epoch, 0))


def newest(histories: Flat, counts: NDArray[np.int64]) -> Flat:
    """The newest items of each history, so many as `counts` says or all there are."""
    items, offsets = histories
    lengths = np.minimum(np.diff(offsets), counts)
    cut = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(cut[-1]) + np.repeat(offsets[1:] - lengths - cut[:-1], lengths)
    return items[places], cut


def _most(most: int) -> int:
    # More contexts than 32 bits can number are as good as all of them.
    return min(at_least("most", most, 1), 2**32 - 1)
