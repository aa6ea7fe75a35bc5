"""Every batch against an oracle in plain Python over NumPy's Philox: order, tokens, teachers, negatives, smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llm_esr.loading import Augmentation, BatchLoader

CASES: dict[str, dict[str, Any]] = {
    "shared": {"negatives": "shared", "n_negatives": 30, "similar_users": 4},
    "own": {"negatives": "own", "n_negatives": 3},
    "one own, smoothed, teachers": {
        "negatives": "own", "n_negatives": 1, "smoothing": 0.5, "smoothing_temperature": 0.1, "similar_users": 6,
    },
    "own of the whole catalogue": {"negatives": "own", "n_negatives": 9, "catalogue": "all"},
    "the paper's SASRec": {
        "negatives": "own", "n_negatives": 1, "similar_users": 3, "sequence": "without-last", "catalogue": "all",
    },
    "last targets, smoothed": {
        "negatives": "own", "n_negatives": 2, "targets": "last", "smoothing": 0.5, "smoothing_temperature": 0.1,
    },
    "masked, own negatives, smoothed": {
        "negatives": "own", "n_negatives": 2, "mask_probability": 0.6, "smoothing": 0.3, "smoothing_temperature": 0.1,
        "similar_users": 3, "sequence": "without-last",
    },
    "masked, mask tokens appended": {
        "negatives": "shared", "n_negatives": 9, "mask_probability": 0.3, "append_mask": True, "similar_users": 3,
    },
    "every way to change a sequence, smoothed": {
        "negatives": "own", "n_negatives": 2, "smoothing": 0.4, "smoothing_temperature": 0.2, "similar_users": 2,
        "augmentation": Augmentation(0.8, crop=0.6, mask=0.4, reorder=0.7),
    },
    "none, all smoothed": {"negatives": None, "smoothing": 1.0, "smoothing_temperature": 0.5, "similar_users": 1},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_batches_equal_the_oracle(shop: Any, make_oracle: Any, case: str, layout: str) -> None:
    settings: dict[str, Any] = {"seed": 2**40 + 9, "batch_size": 17, "max_len": 8, **CASES[case]}
    oracle = make_oracle(shop, **settings)
    loader = BatchLoader(shop, layout=layout, **settings)
    assert loader.n_students == len(oracle.students)
    assert len(loader) == -(-len(oracle.entries) // 17)
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert [b.step for b in batches] == list(range(len(loader)))
        for batch in batches[:: 2 if epoch else 1]:
            assert batch.epoch == epoch
            oracle.check(batch)


@st.composite
def anything(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Any small data and any settings."""
    n_items = draw(st.integers(2, 12))
    histories = draw(st.lists(st.lists(st.integers(1, n_items), max_size=9), min_size=1, max_size=8))
    n_users = len(histories)
    near = draw(arrays(np.int32, (n_items, 3), elements=st.sampled_from([-1, *range(1, n_items + 1)])))
    files = {
        "histories": histories,
        "n_items": n_items,
        "held": draw(st.integers(0, 2)),
        "similar_users": draw(arrays(np.int32, (n_users, 4), elements=st.integers(-1, n_users - 1))),
        "similar_items": near,
        "scores": draw(arrays(np.float32, (n_items, 3), elements=st.floats(-1, 1, width=16))),
    }
    options = {
        "seed": draw(st.integers(0, 2**63 - 1)),
        "batch_size": draw(st.integers(1, 6)),
        "max_len": draw(st.integers(1, 6)),
        "similar_users": draw(st.integers(0, 4)),
        "negatives": draw(st.sampled_from(["shared", "own"])),
        "n_negatives": draw(st.integers(1, 9)),
        "catalogue": draw(st.sampled_from(["training", "all"])),
        "smoothing": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "smoothing_temperature": draw(st.sampled_from([0.1, 1.0])),
        "sequence": draw(st.sampled_from(["whole", "without-last"])),
    }
    if draw(st.booleans()):
        options["mask_probability"] = draw(st.sampled_from([1e-6, 0.2, 0.6, 1.0]))
        options["append_mask"] = draw(st.booleans())
    else:
        options["targets"] = draw(st.sampled_from(["every", "last"]))
        ratio = st.sampled_from([0.0, 0.3, 0.7, 1.0])
        options["augmentation"] = draw(st.none() | st.builds(Augmentation, ratio, ratio, ratio, ratio))
    layouts = {"packed": {"layout": "packed"}, "padded": {"layout": "padded"}}
    layouts["tokens"] = {"layout": "padded", "padding_tokens": True}
    return files, options | layouts[draw(st.sampled_from(sorted(layouts)))]


@given(anything(), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_batches_of_any_data_equal_the_oracle(
    tmp_path_factory: pytest.TempPathFactory,
    make: Any,
    make_oracle: Any,
    case: tuple[dict[str, Any], dict[str, Any]],
    epoch: int,
) -> None:
    files, options = case
    data = make(tmp_path_factory.mktemp("any"), **files)
    oracle = make_oracle(data, **options)
    needed = 1 + (options["smoothing"] > 0)
    if options["negatives"] == "own" and any(
        len(set(oracle.drawable) - set(data.training[u])) < needed for u in oracle.students
    ):
        with pytest.raises(ValueError, match="own negatives"):
            BatchLoader(data, **options)
        return
    loader = BatchLoader(data, **options)
    loader.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == -(-len(oracle.entries) // options["batch_size"])
    for batch in batches:
        oracle.check(batch)


def test_a_user_who_saw_nearly_everything_gets_the_exact_draw(make_folder: Any, make_oracle: Any) -> None:
    histories = [[i for i in range(1, 401) if i not in (5, 399)] * 2, [5, 399, 7]]
    data = make_folder(histories, 400)
    settings: dict[str, Any] = {"seed": 1, "batch_size": 2, "max_len": 1000, "negatives": "own", "n_negatives": 1}
    batch = next(iter(BatchLoader(data, **settings)))
    make_oracle(data, **settings).check(batch)
    assert set(batch.negatives[:700].ravel().tolist()) >= {5, 399}


def test_a_smoothed_target_is_never_its_own_negative(make_folder: Any) -> None:
    # Each target becomes item 5 or 6; only these two were not met.
    near = np.tile([5, 6], (6, 1))
    data = make_folder([[1, 2, 3, 4] * 6, [5, 6]], 6, similar_items=near, scores=np.zeros((6, 2)))
    loader = BatchLoader(data, negatives="own", n_negatives=2, smoothing=1.0, max_len=50)
    for batch in loader:
        row = batch.students.targets[batch.students.targets > 0]
        assert (batch.negatives != row[:, None]).all()
        first = batch.users.tolist().index(0)
        start, end = batch.students.offsets[first : first + 2]
        assert set(batch.students.targets[start : end - 1]) == {5, 6}


def test_smoothing_draws_neighbours_by_the_softmax_of_their_scores(make_folder: Any) -> None:
    near = np.tile([3, 4, -1], (4, 1))
    scores = np.tile([0.9, 0.7, 0.0], (4, 1))
    data = make_folder([[1, 2] * 100 for _ in range(100)], 4, similar_items=near, scores=scores)
    loader = BatchLoader(data, negatives=None, smoothing=0.3, smoothing_temperature=0.2, max_len=200, batch_size=100)
    targets = next(iter(loader)).students.targets
    targets = targets[targets > 0]
    assert abs((targets > 2).mean() - 0.3) < 0.01
    assert abs((targets[targets > 2] == 3).mean() - 1 / (1 + np.exp(-1))) < 0.015


def test_popular_negatives_follow_the_counts(make_folder: Any) -> None:
    data = make_folder([[1] * 8 + [2] * 4 + [3] * 2, [4, 5], [6, 7]], 9)
    loader = BatchLoader(data, distribution="popularity", exponent=0.5, n_negatives=50_000, batch_size=9)
    drawn = np.bincount(next(iter(loader)).negatives, minlength=10) / 50_000
    weights = np.sqrt([0, 8, 4, 2, 1, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(drawn, weights / weights.sum(), atol=0.01)
    own = BatchLoader(data, distribution="popularity", negatives="own", n_negatives=2000, batch_size=9)
    batch = next(iter(own))
    rows = np.split(np.arange(len(batch.negatives)), np.cumsum(np.diff(batch.students.offsets) - 1)[:-1])
    for user, row in zip(batch.users.tolist(), rows, strict=True):
        assert not set(batch.negatives[row].ravel().tolist()) & {*data.training[user], 8, 9}
