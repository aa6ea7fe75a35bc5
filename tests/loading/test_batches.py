"""Every batch against an oracle in plain Python over NumPy's Philox: order, tokens, teachers, negatives, smoothing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llm_esr.loading import Batch, BatchLoader

ORDER, OWN, SHARED, SMOOTHING = range(4)
ATTEMPTS = 16


class Oracle:
    """What each batch should hold, written for clarity."""

    def __init__(self, data: Any, *, seed: int, batch_size: int, max_len: int, **options: Any) -> None:
        self.data, self.seed, self.batch_size, self.max_len = data, seed, batch_size, max_len
        self.options = options
        shortest = 1 if options.get("similar_users") else 2
        self.students = [u for u, h in enumerate(data.training) if len(h) >= shortest]
        counts = np.bincount([i for h in data.training for i in h], minlength=data.n_items + 1)
        everything = options.get("catalogue") == "all"
        self.drawable = [i for i in range(1, data.n_items + 1) if everything or counts[i] > 0]

    def word(self, epoch: int, owner: int, stream: int, draw: int, attempt: int = 0) -> int:
        counter = owner + (draw // 8 << 64) + (stream << 8 << 128) + (attempt << 192)
        bits = np.random.Philox(key=self.seed + (epoch << 64), counter=(counter - 1) % 2**256).random_raw(4)
        return int(bits[draw % 8 // 2]) >> (32 * (draw % 2)) & 0xFFFFFFFF

    @staticmethod
    def accept(word: int, n: int) -> int | None:
        return word * n >> 32 if (word * n) % 2**32 >= 2**32 % n else None

    def below(self, n: int, *key: int, attempt: int = 0) -> int:
        tries = (self.accept(self.word(*key, attempt=a), n) for a in itertools.count(attempt))
        return next(t for t in tries if t is not None)

    def order(self, epoch: int) -> list[int]:
        places = list(range(len(self.students)))
        for last in range(len(places) - 1, 0, -1):
            other = self.below(last + 1, epoch, 0, ORDER, last)
            places[last], places[other] = places[other], places[last]
        return [self.students[p] for p in places]

    def users(self, epoch: int, step: int) -> list[int]:
        return self.order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]

    def targets(self, epoch: int, user: int) -> list[int]:
        shown = self.data.training[user][-self.max_len :]
        return [self.smooth(epoch, user, p, t) for p, t in enumerate(shown[1:])] + [0]

    def smooth(self, epoch: int, user: int, position: int, target: int) -> int:
        probability = self.options.get("smoothing", 0.0)
        if self.word(epoch, user, SMOOTHING, 2 * position) >= probability * 2**32:
            return target
        near = [(i, s) for i, s in zip(self.data.similar_items[target - 1], self.data.scores[target - 1], strict=True)]
        near = [(i, np.float32(s)) for i, s in near if i > 0]
        if not near:
            return target
        scores = np.array([s for _, s in near], np.float64) / self.options["smoothing_temperature"]
        weights = np.exp(scores - scores.max())
        share = self.word(epoch, user, SMOOTHING, 2 * position + 1) / 2**32
        return int(
            near[min(int(np.searchsorted(np.cumsum(weights) / weights.sum(), share, "right")), len(near) - 1)][0]
        )

    def own(self, epoch: int, user: int, position: int, k: int, target: int) -> int:
        draw = position * self.options["n_negatives"] + k
        banned = {*self.data.training[user], target}
        for attempt in range(ATTEMPTS):
            rank = self.accept(self.word(epoch, user, OWN, draw, attempt), len(self.drawable))
            if rank is not None and self.drawable[rank] not in banned:
                return self.drawable[rank]
        left = [i for i in self.drawable if i not in banned]
        return left[self.below(len(left), epoch, user, OWN, draw, attempt=ATTEMPTS)]

    def shared(self, epoch: int, step: int) -> list[int]:
        n = len(self.drawable)
        return [self.drawable[self.below(n, epoch, step, SHARED, d)] for d in range(self.options["n_negatives"])]


def check(batch: Batch, oracle: Oracle) -> None:
    data, epoch = oracle.data, batch.epoch
    users = oracle.users(epoch, batch.step)
    assert batch.users.tolist() == users
    assert batch.showings.tolist() == [0] * len(users)
    shown = [data.training[u][-oracle.max_len :] for u in users]
    assert batch.students.items.tolist() == [i for s in shown for i in s]
    assert batch.students.positions.tolist() == [p + 1 for s in shown for p in range(len(s))]
    assert np.diff(batch.students.offsets).tolist() == [len(s) for s in shown]
    targets = [oracle.targets(epoch, u) for u in users]
    assert batch.students.targets.tolist() == [t for row in targets for t in row]
    if oracle.options.get("similar_users"):
        check_teachers(batch, oracle, users)
    else:
        assert batch.teachers is None
        assert batch.teacher_index is None
    if oracle.options.get("negatives", "shared") == "own":
        expected = [
            [oracle.own(epoch, user, position, k, target) for k in range(oracle.options["n_negatives"])]
            for user, row in zip(users, targets, strict=True)
            for position, target in enumerate(row)
            if target
        ]
        assert batch.negatives.tolist() == expected
        assert batch.collision is None
    elif oracle.options["negatives"] == "shared":
        assert batch.negatives.tolist() == oracle.shared(epoch, batch.step)
        assert batch.collision is not None
        assert batch.collision.tolist() == [[i in data.training[u] for i in batch.negatives.tolist()] for u in users]


def check_teachers(batch: Batch, oracle: Oracle, users: list[int]) -> None:
    similar = oracle.data.similar_users[:, : oracle.options["similar_users"]]
    wanted = sorted({int(v) for u in users for v in similar[u] if v >= 0 and oracle.data.training[v]})
    shown = [oracle.data.training[v][-oracle.max_len :] for v in wanted]
    assert batch.teachers is not None
    assert batch.teacher_index is not None
    assert batch.teachers.items.tolist() == [i for s in shown for i in s]
    assert np.diff(batch.teachers.offsets).tolist() == [len(s) for s in shown]
    assert not batch.teachers.targets.any()
    expected = [[wanted.index(v) if v in wanted else -1 for v in similar[u]] for u in users]
    assert batch.teacher_index.tolist() == expected


CASES: dict[str, dict[str, Any]] = {
    "shared": {"negatives": "shared", "n_negatives": 30, "similar_users": 4},
    "own": {"negatives": "own", "n_negatives": 3},
    "one own, smoothed, teachers": {
        "negatives": "own", "n_negatives": 1, "smoothing": 0.5, "smoothing_temperature": 0.1, "similar_users": 6,
    },
    "own of the whole catalogue": {"negatives": "own", "n_negatives": 9, "catalogue": "all"},
    "none, all smoothed": {"negatives": None, "smoothing": 1.0, "smoothing_temperature": 0.5, "similar_users": 1},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_batches_equal_the_oracle(shop: Any, case: str, layout: str) -> None:
    settings: dict[str, Any] = {"seed": 2**40 + 9, "batch_size": 17, "max_len": 8, **CASES[case]}
    oracle = Oracle(shop, **settings)
    loader = BatchLoader(shop, layout=layout, **settings)
    assert loader.n_students == len(oracle.students)
    assert len(loader) == -(-len(oracle.students) // 17)
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert [b.step for b in batches] == list(range(len(loader)))
        for batch in batches[:: 2 if epoch else 1]:
            assert batch.epoch == epoch
            check(batch, oracle)


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
    }
    return files, options


@given(anything(), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_batches_of_any_data_equal_the_oracle(
    tmp_path_factory: pytest.TempPathFactory, make: Any, case: tuple[dict[str, Any], dict[str, Any]], epoch: int
) -> None:
    files, options = case
    data = make(tmp_path_factory.mktemp("any"), **files)
    oracle = Oracle(data, **options)
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
    assert len(batches) == -(-len(oracle.students) // options["batch_size"])
    for batch in batches:
        check(batch, oracle)


def test_a_user_who_saw_nearly_everything_gets_the_exact_draw(make_folder: Any) -> None:
    histories = [[i for i in range(1, 401) if i not in (5, 399)] * 2, [5, 399, 7]]
    data = make_folder(histories, 400)
    settings: dict[str, Any] = {"seed": 1, "batch_size": 2, "max_len": 1000, "negatives": "own", "n_negatives": 1}
    batch = next(iter(BatchLoader(data, **settings)))
    check(batch, Oracle(data, **settings))
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
