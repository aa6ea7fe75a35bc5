"""The contexts of items and the cuts of users, against plain Python over NumPy's Philox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llm_esr import _native
from llm_esr.loading.contexts import Contexts, newest, recent_cuts

HISTORIES = [[3, 1, 4, 1, 5], [2], [1, 2, 3, 4, 5, 6, 7, 8], [], [6, 2], [9, 9, 9]]
N_ITEMS = 11
ORDER, RECENT, CONTEXTS = 0, 7, 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, make: Any) -> Any:
    return make(tmp_path_factory.mktemp("contexts"), HISTORIES, N_ITEMS, held=1)


def oracle(data: Any, max_len: int, reversed: bool, holds_item: bool) -> list[list[list[int]]]:
    """Each item's contexts, by id."""
    found: list[list[list[int]]] = [[] for _ in range(N_ITEMS + 1)]
    for history in data.training:
        for place, item in enumerate(history):
            before = history[: place + 1] if holds_item else history[:place]
            after = history[place:] if holds_item else history[place + 1 :]
            ways = [before, after[::-1] if reversed and len(history) > 1 else []]
            found[item] += [way[-max_len:] for way in ways if way]
    return found


def split(flat: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    return [part.tolist() for part in np.split(flat[0], flat[1][1:-1])] if len(flat[1]) > 1 else []


def word(seed: int, epoch: int, stream: int, owner: int, draw: int, attempt: int) -> int:
    before = (sum(c << 64 * k for k, c in enumerate((owner, draw // 8, stream << 8, attempt))) - 1) % 2**256
    block = np.random.Philox(key=seed + (epoch << 64), counter=before).random_raw(4)
    half = int(block[draw % 8 // 2])
    return half >> 32 if draw % 2 else half & 0xFFFFFFFF


def below(bound: int, *key: int) -> int:
    attempt = 0
    while True:
        product = word(*key, attempt) * bound
        if product & 0xFFFFFFFF >= (2**32 - bound) % bound:
            return product >> 32
        attempt += 1


@pytest.mark.parametrize("max_len", [1, 3, 20])
@pytest.mark.parametrize("reversed", [True, False])
@pytest.mark.parametrize("holds_item", [True, False])
def test_every_context_is_there_in_its_place(data: Any, max_len: int, reversed: bool, holds_item: bool) -> None:
    contexts = Contexts(data, max_len=max_len, reversed=reversed, holds_item=holds_item)
    expected = oracle(data, max_len, reversed, holds_item)
    items = np.arange(1, N_ITEMS + 1)
    assert contexts.counts(items).tolist() == [len(found) for found in expected[1:]]
    assert split(contexts.read(contexts.of(items))) == [context for found in expected for context in found]
    few = np.array([9, 1, 10])
    assert split(contexts.read(contexts.of(few))) == expected[9] + expected[1] + expected[10]


@pytest.mark.parametrize("max_len", [1, 3, 20])
@pytest.mark.parametrize("reversed", [True, False])
@pytest.mark.parametrize("holds_item", [True, False])
def test_a_pass_over_the_users_holds_the_same_contexts(
    data: Any, max_len: int, reversed: bool, holds_item: bool
) -> None:
    contexts = Contexts(data, max_len=max_len, reversed=reversed, holds_item=holds_item)
    wanted = np.zeros(N_ITEMS + 1, np.bool_)
    wanted[[1, 5, 6, 9, 10]] = True
    found: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for first, last in ((0, 2), (2, 3), (3, 6), (6, 6)):
        passed = contexts.pass_over(first, last, wanted)
        items, offsets = passed.histories
        assert (np.diff(offsets) <= max_len).all() and (np.diff(offsets) > 0).all()
        for token, owner in zip(passed.tokens, passed.owners, strict=True):
            start = offsets[np.searchsorted(offsets, token, side="right") - 1]
            found[int(owner), tuple(items[start : token + 1].tolist())] += 1
    expected = oracle(data, max_len, reversed, holds_item)
    assert found == Counter((int(i), tuple(c)) for i in np.flatnonzero(wanted) for c in expected[i])


def test_one_sequence_and_its_reverse_stand_for_a_users_contexts(data: Any) -> None:
    passed = Contexts(data, max_len=20).pass_over(2, 3, np.ones(N_ITEMS + 1, np.bool_))
    assert split(passed.histories) == [[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1]]


def test_draws_are_floyds_sample_of_named_words(data: Any) -> None:
    contexts = Contexts(data, max_len=4)
    items = np.array([9, 1, 2, 10, 4])
    for seed, epoch, most in ((3, 0, 3), (3, 1, 3), (2**40, 7, 100), (3, 0, 1)):
        counts, numbers = contexts.draw(items, most, seed=seed, epoch=epoch)
        expected_counts, expected = [], []
        for item in items.tolist():
            n = int(contexts.counts(np.array([item]))[0])
            key = (seed, epoch, CONTEXTS, item)
            k = 1 + below(min(n, most), *key, 0) if n else 0
            chosen: set[int] = set()
            for draw, last in enumerate(range(n - k, n), 1):
                taken = below(last + 1, *key, draw)
                taken = last if taken in chosen else taken
                chosen.add(taken)
                expected.append(int(contexts.offsets[item]) + taken)
            expected_counts.append(k)
        assert counts.tolist() == expected_counts and numbers.tolist() == expected
        assert len(set(numbers.tolist())) == len(numbers)


def test_a_draw_hangs_on_nothing_but_its_key_and_every_choice_comes(data: Any) -> None:
    contexts = Contexts(data, max_len=4)
    alone = contexts.draw([4], 2, seed=1, epoch=5)[1]
    _, together = contexts.draw([1, 4], 2, seed=1, epoch=5)
    assert together[-len(alone) :].tolist() == alone.tolist()
    n = int(contexts.counts(np.array([4]))[0])
    drawn = [contexts.draw([4], n, seed=1, epoch=epoch)[1] - contexts.offsets[4] for epoch in range(400)]
    assert {frozenset(d.tolist()) for d in drawn if len(d) == 2} == {
        frozenset({a, b}) for a in range(n) for b in range(a)
    }
    assert {len(d) for d in drawn} == set(range(1, n + 1))


def test_cuts_are_named_words_and_an_order_holds_everyone_once() -> None:
    users = np.array([0, 5, 10**6])
    cuts = recent_cuts(users, 6, seed=4, epoch=2)
    assert cuts.tolist() == [1 + below(6, 4, 2, RECENT, int(user), 0) for user in users]
    members = np.arange(10, 40)
    orders = [_native.shuffled(members, owner, 4, epoch) for owner, epoch in ((1, 0), (2, 0), (1, 1))]
    assert all(sorted(order.tolist()) == members.tolist() for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    expected = members.copy()
    for place in range(len(expected) - 1, 0, -1):
        other = below(place + 1, 4, 0, ORDER, 1, place)
        expected[[place, other]] = expected[[other, place]]
    assert orders[0].tolist() == expected.tolist()


def test_the_newest_items_of_histories() -> None:
    flat = np.array([1, 2, 3, 4, 5, 6], np.int32), np.array([0, 3, 3, 6])
    assert split(newest(flat, np.array([2, 4, 9]))) == [[2, 3], [], [4, 5, 6]]


def test_hostile_values_are_refused_with_their_names(data: Any) -> None:
    contexts = Contexts(data, max_len=3)
    with pytest.raises(ValueError, match="max_len is 0; expected a whole number from 1 up"):
        Contexts(data, max_len=0)
    with pytest.raises(IndexError, match=r"items: id 12 lies outside 1\.\.=11"):
        contexts.draw([12], 1, seed=0, epoch=0)
    with pytest.raises(ValueError, match="most is 0"):
        contexts.draw([1], 0, seed=0, epoch=0)
    for number in (-1, 10**6):
        with pytest.raises(IndexError, match=rf"numbers: id {number} lies outside"):
            contexts.read([number])
    with pytest.raises(ValueError, match="wanted: 3 entries; expected one for each id, 12"):
        contexts.pass_over(0, 1, np.zeros(3, np.bool_))
    for first, last in ((0, 7), (3, 2)):
        with pytest.raises(ValueError, match=rf"users: {first}\.\.{last}; there are 6"):
            contexts.pass_over(first, last, np.zeros(12, np.bool_))
    with pytest.raises(ValueError, match="users: -1"):
        recent_cuts([-1], 1, seed=0, epoch=0)


def test_contexts_of_nothing(make_folder: Callable[..., Any]) -> None:
    contexts = Contexts(make_folder([[]], 2), max_len=3)
    assert contexts.offsets.tolist() == [0, 0, 0, 0]
    assert contexts.draw([1, 2], 5, seed=0, epoch=0)[0].tolist() == [0, 0]
    assert split(contexts.read([])) == []
