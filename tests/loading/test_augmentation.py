"""Cropped, masked and reordered sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm_esr.loading import Augmentation, BatchLoader

HISTORY = list(range(1, 21))


def students(make_folder: Any, augmentation: Augmentation | None, **options: Any) -> list[tuple[list[int], list[int]]]:
    """Items and targets of 400 users with one and the same history."""
    data = make_folder([HISTORY] * 400, 20)
    (batch,) = BatchLoader(data, batch_size=400, shuffle=False, augmentation=augmentation, **options)
    s = batch.students
    return [(s.items[a:b].tolist(), s.targets[a:b].tolist()) for a, b in zip(s.offsets, s.offsets[1:], strict=False)]


def test_a_crop_is_a_part_that_lies_together_wherever_it_starts(make_folder: Any) -> None:
    found = students(make_folder, Augmentation(1.0, crop=0.6))
    starts = [items[0] for items, _ in found]
    assert set(starts) == set(range(1, 10))
    for items, targets in found:
        assert items == list(range(items[0], items[0] + 12))
        assert targets == [*items[1:], 0]


def test_a_mask_hides_its_share_of_the_items_and_no_target(make_folder: Any) -> None:
    found = students(make_folder, Augmentation(1.0, mask=0.3))
    hidden = np.array([[item == 21 for item in items] for items, _ in found])
    assert (hidden.sum(1) == 6).all()
    assert (abs(hidden.mean(0) - 0.3) < 0.1).all()
    for items, targets in found:
        assert targets == [*HISTORY[1:], 0]
        assert all(item in (21, real) for item, real in zip(items, HISTORY, strict=True))


def test_a_reordered_part_keeps_its_items_and_predicts_what_follows_now(make_folder: Any) -> None:
    for items, targets in students(make_folder, Augmentation(1.0, reorder=0.5)):
        assert sorted(items) == HISTORY
        assert targets == [*items[1:], 0]
        moved = [p for p, item in enumerate(items) if item != p + 1]
        assert not moved or moved[-1] - moved[0] < 10


def test_without_the_last_the_last_target_is_part_of_what_is_changed(make_folder: Any) -> None:
    for items, targets in students(make_folder, Augmentation(1.0, crop=0.5), sequence="without-last"):
        assert len(items) == 9
        assert targets == list(range(items[0] + 1, items[0] + 10))


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_a_student_is_changed_with_the_probability_in_one_of_the_ways_that_are_on(
    make_folder: Any, probability: float
) -> None:
    found = students(make_folder, Augmentation(probability, crop=0.5, mask=0.5))
    cropped = np.mean([len(items) == 10 for items, _ in found])
    masked = np.mean([21 in items for items, _ in found])
    assert abs(cropped - probability / 2) < 0.08
    assert abs(masked - probability / 2) < 0.08


def test_what_is_off_changes_nothing_and_leaves_old_states_good(shop: Any) -> None:
    before = BatchLoader(shop, batch_size=16)
    now = BatchLoader(shop, batch_size=16, augmentation=Augmentation())
    now.load_state_dict(before.state_dict())
    for one, other in zip(before, now, strict=True):
        np.testing.assert_array_equal(one.students.items, other.students.items)
    on = BatchLoader(shop, batch_size=16, augmentation=Augmentation(crop=0.5))
    with pytest.raises(ValueError, match="settings"):
        on.load_state_dict(before.state_dict())


def test_each_epoch_changes_a_student_anew_whatever_the_threads(shop: Any) -> None:
    how = Augmentation(1.0, crop=0.5, mask=0.5, reorder=0.5)
    loaders = [BatchLoader(shop, batch_size=16, augmentation=how, threads=t, shuffle=False) for t in (0, 3)]
    epochs = []
    for epoch in (0, 1):
        for loader in loaders:
            loader.set_epoch(epoch)
        one, other = (np.concatenate([b.students.items for b in loader]) for loader in loaders)
        np.testing.assert_array_equal(one, other)
        epochs.append(one.tolist())
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("how", "options", "named"),
    [
        (Augmentation(1.5), {}, "probability is 1.5"),
        (Augmentation(crop=-0.1), {}, "crop is -0.1"),
        (Augmentation(reorder=float("nan")), {}, "reorder is NaN"),
        (Augmentation(mask=0.2), {"mask_probability": 0.5}, "does not fit masked items"),
    ],
)
def test_what_does_not_fit_is_named(shop: Any, how: Augmentation, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BatchLoader(shop, augmentation=how, **options)
