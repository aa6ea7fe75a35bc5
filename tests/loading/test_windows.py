"""What students and teachers show, worked out by hand: the sequence read, its targets, padding, and masked items."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from llm_esr.loading import Batch, BatchLoader, Sequences

# Users 1 to 3 have one, three and five training items; user 0 has none.
HISTORIES = [[], [7], [1, 2, 3], [4, 5, 6, 7, 8]]
SIMILAR = [[1, 2], [0, 2], [1, 3], [1, 0]]


def rows(sequences: Sequences | None, what: str) -> list[list[int]]:
    """One array of sequences, cut by sequence."""
    assert sequences is not None
    values, offsets = getattr(sequences, what).tolist(), sequences.offsets.tolist()
    return [values[a:b] for a, b in pairwise(offsets)]


@pytest.fixture
def only_batch(make_folder: Any) -> Any:
    """The one batch of the users above, in their order, with teachers."""
    data = make_folder(HISTORIES, 9, similar_users=SIMILAR)

    def make(**options: Any) -> Batch:
        options = {"max_len": 3, "similar_users": 2, "negatives": None, "shuffle": False, **options}
        (batch,) = BatchLoader(data, **options)
        return batch

    return make


def test_without_its_last_item_every_token_of_a_sequence_has_a_target(only_batch: Any) -> None:
    batch = only_batch(sequence="without-last")
    assert batch.users.tolist() == [1, 2, 3]
    assert rows(batch.students, "items") == [[], [1, 2], [5, 6, 7]]
    assert rows(batch.students, "targets") == [[], [2, 3], [6, 7, 8]]
    assert rows(batch.students, "positions") == [[], [1, 2], [1, 2, 3]]


def test_a_teacher_with_one_training_item_is_an_empty_sequence_without_its_last(only_batch: Any) -> None:
    batch = only_batch(sequence="without-last")
    assert rows(batch.teachers, "items") == [[], [1, 2], [5, 6, 7]]
    # User 0 has no training item and teaches nobody.
    assert batch.teacher_index.tolist() == [[-1, 1], [0, 2], [0, -1]]


def test_without_teachers_one_training_item_is_enough_for_a_sequence_without_its_last(only_batch: Any) -> None:
    assert only_batch(sequence="without-last", similar_users=0).users.tolist() == [1, 2, 3]
    assert only_batch(sequence="whole", similar_users=0).users.tolist() == [2, 3]


def test_the_last_target_is_the_last_training_item(only_batch: Any) -> None:
    assert rows(only_batch(targets="last").students, "targets") == [[0], [0, 3, 0], [0, 8, 0]]
    assert rows(only_batch(targets="last", sequence="without-last").students, "targets") == [[], [0, 3], [0, 0, 8]]


def test_padding_tokens_fill_every_sequence(only_batch: Any) -> None:
    batch = only_batch(layout="padded", padding_tokens=True, sequence="without-last", targets="last")
    assert rows(batch.students, "items") == [[0, 0, 0], [0, 1, 2], [5, 6, 7]]
    assert rows(batch.students, "positions") == [[0, 0, 0], [0, 1, 2], [1, 2, 3]]
    assert rows(batch.students, "targets") == [[0, 0, 7], [0, 0, 3], [0, 0, 8]]
    assert batch.students.slots.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert rows(batch.teachers, "items") == [[0, 0, 0], [0, 1, 2], [5, 6, 7]]
    assert not batch.teachers.targets.any()


def test_an_empty_row_has_a_target_only_where_the_last_one_is_trained(only_batch: Any) -> None:
    options = {"layout": "padded", "padding_tokens": True}
    batch = only_batch(sequence="without-last", **options)
    assert rows(batch.students, "targets") == [[0, 0, 0], [0, 2, 3], [6, 7, 8]]
    assert rows(only_batch(targets="last", **options).students, "targets") == [[0, 0, 0], [0, 3, 0], [0, 8, 0]]


def test_own_negatives_stand_beside_the_targets_that_are_left(only_batch: Any) -> None:
    options = {"layout": "padded", "sequence": "without-last", "negatives": "own", "n_negatives": 4}
    every = only_batch(**options)
    last = only_batch(targets="last", padding_tokens=True, **options)
    assert last.negatives.shape == (3, 4)
    assert every.negatives.shape == (5, 4)
    # A target's negatives are the same whatever else is trained or padded.
    assert last.negatives[1:].tolist() == every.negatives[[1, 4]].tolist()
    assert 7 not in last.negatives[0]


def test_the_second_showing_masks_the_last_item_alone(only_batch: Any) -> None:
    batch = only_batch(mask_probability=0.5)
    assert batch.users.tolist() == [1, 1, 2, 2, 3, 3]
    assert batch.masking_passes.tolist() == [0, 1, 0, 1, 0, 1]
    assert rows(batch.students, "items")[1::2] == [[10], [1, 2, 10], [6, 7, 10]]
    assert rows(batch.students, "targets")[1::2] == [[7], [0, 0, 3], [0, 0, 8]]


def test_a_masked_token_predicts_its_item(only_batch: Any) -> None:
    batch = only_batch(mask_probability=1.0, sequence="without-last")
    assert rows(batch.students, "targets")[::2] == [[7], [1, 2, 3], [6, 7, 8]]
    # The teachers read what `sequence` says, unmasked.
    assert rows(batch.teachers, "items") == [[], [1, 2], [5, 6, 7]]


def test_a_mask_token_is_appended_in_the_random_showing_and_to_teachers(only_batch: Any) -> None:
    batch = only_batch(mask_probability=1e-9, append_mask=True)
    assert rows(batch.students, "items") == [[7, 10], [10], [2, 3, 10], [1, 2, 10], [7, 8, 10], [6, 7, 10]]
    assert rows(batch.students, "positions") == [[1, 2], [1], [2, 3, 4], [1, 2, 3], [2, 3, 4], [1, 2, 3]]
    assert rows(batch.students, "targets")[::2] == [[0, 0], [0, 0, 0], [0, 0, 0]]
    assert rows(batch.teachers, "items") == [[7, 10], [2, 3, 10], [7, 8, 10]]
    short = only_batch(mask_probability=1e-9, append_mask=True, sequence="without-last")
    assert rows(short.teachers, "items") == [[10], [1, 2, 10], [6, 7, 10]]


def test_known_answers_of_the_masking_stream(make_folder: Any) -> None:
    data = make_folder([[*range(11, 27)], [*range(31, 43)]], 50)
    options: dict[str, Any] = {"seed": 42, "mask_probability": 0.6, "shuffle": False}
    loader = BatchLoader(data, negatives="own", n_negatives=2, **options)
    loader.set_epoch(3)
    (batch,) = loader
    items, targets = rows(batch.students, "items"), rows(batch.students, "targets")
    assert items[0] == [51, 12, 13, 14, 51, 2, 51, 18, 51, 51, 51, 22, 51, 24, 51, 26]
    assert targets[0] == [11, 0, 0, 0, 15, 16, 17, 0, 19, 20, 21, 22, 23, 0, 25, 0]
    assert items[2] == [51, 32, 51, 34, 51, 36, 37, 38, 51, 40, 51, 42]
    assert targets[2] == [31, 0, 33, 0, 35, 0, 0, 0, 39, 0, 41, 0]
    assert batch.negatives[:4].tolist() == [[7, 44], [28, 33], [9, 28], [31, 27]]
    loader = BatchLoader(data, negatives=None, **options | {"shuffle": True})
    loader.set_epoch(3)
    (batch,) = loader
    assert (batch.users.tolist(), batch.masking_passes.tolist()) == ([1, 1, 0, 0], [0, 1, 0, 1])


def test_masked_tokens_show_the_mask_a_uniform_item_or_themselves(make_folder: Any) -> None:
    n_items, probability = 20, 0.3
    history = [i % n_items + 1 for i in range(200)]
    data = make_folder([history] * 300, n_items)
    loader = BatchLoader(data, max_len=200, batch_size=600, mask_probability=probability, negatives=None, shuffle=False)
    (batch,) = loader
    shown = batch.students.items.reshape(300, 2, 200)[:, 0].ravel()
    targets = batch.students.targets.reshape(300, 2, 200)[:, 0].ravel()
    items = np.tile(history, 300)
    masked = targets > 0
    np.testing.assert_array_equal(targets[masked], items[masked])
    np.testing.assert_array_equal(shown[~masked], items[~masked])
    assert abs(masked.mean() - probability) < 0.01
    shown, items = shown[masked], items[masked]
    assert abs((shown == n_items + 1).mean() - 0.8) < 0.01
    # A random item may be the item itself.
    assert abs((shown == items).mean() - (0.1 + 0.1 / n_items)) < 0.01
    others = np.bincount(shown[(shown != items) & (shown <= n_items)], minlength=n_items + 1)[1:]
    assert len(others) == n_items
    np.testing.assert_allclose(others / others.sum(), 1 / n_items, atol=0.015)


def test_every_epoch_shows_each_user_twice_and_masks_anew(shop: Any) -> None:
    loader = BatchLoader(shop, mask_probability=0.6, batch_size=7, negatives=None)
    students = [u for u, history in enumerate(shop.training) if history]
    assert len(loader) == -(-2 * len(students) // 7)
    shown = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        batches = list(loader)
        found = [pair for b in batches for pair in zip(b.users.tolist(), b.masking_passes.tolist(), strict=True)]
        assert sorted(found) == [(u, s) for u in students for s in (0, 1)]
        assert any(len(set(b.users.tolist())) < len(b) for b in batches)
        sequences = [row for b in batches for row in rows(b.students, "items")]
        shown.append(dict(zip(found, sequences, strict=True)))
    first, second = shown
    assert all(first[u, 1] == second[u, 1] for u in students)
    assert any(first[u, 0] != second[u, 0] for u in students)


def test_a_masked_user_never_gets_a_seen_item_as_negative(shop: Any) -> None:
    options: dict[str, Any] = {"mask_probability": 0.6, "negatives": "own", "n_negatives": 5, "smoothing": 0.5}
    differ = False
    for batch in BatchLoader(shop, batch_size=10, **options):
        targets = rows(batch.students, "targets")
        ends = np.cumsum([np.count_nonzero(row) for row in targets])
        assert ends[-1] == len(batch.negatives)
        drawn: dict[int, list[int]] = {}
        for user, row, negatives in zip(
            batch.users.tolist(), targets, np.split(batch.negatives, ends[:-1]), strict=True
        ):
            assert not set(negatives.ravel().tolist()) & set(shop.training[user])
            for target, of_target in zip([t for t in row if t], negatives.tolist(), strict=True):
                assert target not in of_target
            if row[-1]:
                last = negatives[-1].tolist()
                differ |= drawn.setdefault(user, last) != last
    assert differ, "both showings of a user have the same negatives"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sequence": "half"}, "'whole' or 'without-last'"),
        ({"targets": "first"}, "'every' or 'last'"),
        ({"padding_tokens": True}, "padding_tokens.*layout 'padded'"),
        ({"mask_probability": 0.0}, "mask_probability"),
        ({"mask_probability": 1.5}, "mask_probability"),
        ({"mask_probability": float("nan")}, "mask_probability"),
        ({"mask_probability": 0.5, "targets": "last"}, "'last' does not fit masked items"),
        ({"append_mask": True}, "give mask_probability too"),
    ],
)
def test_settings_that_do_not_fit_are_named(only_batch: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        only_batch(**options)
