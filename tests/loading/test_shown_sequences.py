"""What students and teachers show, worked out by hand: the sequence read, its targets, padding, and masked items."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

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
    assert batch.showings.tolist() == [0, 1, 0, 1, 0, 1]
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
