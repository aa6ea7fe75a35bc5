"""Data folders of the loading tests, written as the `.npy` files that Rust reads, and what batches of them hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_esr.loading import Batch, Sequences


class Folder:
    """The part of `Dataset` that the loader reads, over the files of a folder."""

    def __init__(
        self,
        folder: Path,
        histories: list[list[int]],
        n_items: int,
        *,
        held: int = 0,
        similar_users: Any = None,
        similar_items: Any = None,
        scores: Any = None,
    ) -> None:
        self.folder, self.histories, self.n_items, self.n_users = folder, histories, n_items, len(histories)
        lengths = np.array([len(h) for h in histories], np.int64)
        kept = np.where(lengths >= 3, lengths - held, lengths)
        self.splits = np.stack([kept, np.minimum(kept + 1, lengths)], axis=1).reshape(-1, 2)
        self.training = [h[:end] for h, end in zip(histories, kept, strict=True)]
        self.fingerprint = f"{histories}"
        folder.mkdir(parents=True, exist_ok=True)
        self.save("offsets", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        self.save("items", np.array([i for h in histories for i in h], np.int32))
        self.save("splits", self.splits.astype(np.int64))
        self.similar_users = similar_users
        self.similar_items, self.scores = similar_items, scores
        for name, array, dtype in (
            ("similar_users", similar_users, np.int32),
            ("similar_items", similar_items, np.int32),
            ("similar_items_scores", scores, np.float32),
        ):
            if array is not None:
                self.save(name, np.asarray(array, dtype))

    def save(self, name: str, array: np.ndarray) -> None:
        np.save(self.folder / f"{name}.npy", array)

    def targets(self, part: str) -> np.ndarray:
        at = 0 if part == "validation" else 1
        rows = zip(self.histories, self.splits, strict=True)
        return np.array([h[ends[at]] if ends[at] < len(h) else 0 for h, ends in rows], np.int32)


ORDER, OWN, SHARED, SMOOTHING, _, MASKING, AUGMENTATION = range(7)
ATTEMPTS = 16
Token = tuple[int, int, int]  # item, position, target


class Oracle:
    """What each batch should hold, in plain Python over NumPy's Philox, written for clarity."""

    def __init__(self, data: Folder, *, seed: int, batch_size: int, max_len: int, **options: Any) -> None:
        self.data, self.seed, self.batch_size, self.max_len = data, seed, batch_size, max_len
        self.options = options
        self.masked = options.get("mask_probability") is not None
        self.without_last = options.get("sequence") == "without-last"
        self.last_alone = options.get("targets") == "last"
        self.appends = bool(options.get("append_mask"))
        self.mask_token = data.n_items + 1
        shortest = 1 if options.get("similar_users") or self.masked or self.without_last else 2
        self.students = [u for u, h in enumerate(data.training) if len(h) >= shortest]
        self.entries = [(u, showing) for u in self.students for showing in range(2 if self.masked else 1)]
        counts = np.bincount([i for h in data.training for i in h], minlength=data.n_items + 1)
        everything = options.get("catalogue") == "all"
        self.drawable = [i for i in range(1, data.n_items + 1) if everything or counts[i] > 0]

    def word(self, epoch: int, owner: int, stream: int, draw: int, attempt: int = 0, showing: int = 0) -> int:
        counter = owner + (draw // 8 << 64) + ((stream << 8 | showing) << 128) + (attempt << 192)
        bits = np.random.Philox(key=self.seed + (epoch << 64), counter=(counter - 1) % 2**256).random_raw(4)
        return int(bits[draw % 8 // 2]) >> (32 * (draw % 2)) & 0xFFFFFFFF

    @staticmethod
    def accept(word: int, n: int) -> int | None:
        return word * n >> 32 if (word * n) % 2**32 >= 2**32 % n else None

    def below(self, n: int, *key: int, attempt: int = 0, showing: int = 0) -> int:
        tries = (self.accept(self.word(*key, attempt=a, showing=showing), n) for a in itertools.count(attempt))
        return next(t for t in tries if t is not None)

    def order(self, epoch: int) -> list[tuple[int, int]]:
        places = list(range(len(self.entries)))
        for last in range(len(places) - 1, 0, -1):
            other = self.below(last + 1, epoch, 0, ORDER, last)
            places[last], places[other] = places[other], places[last]
        return [self.entries[p] for p in places]

    def step(self, epoch: int, step: int) -> list[tuple[int, int]]:
        return self.order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]

    def student(self, epoch: int, user: int, showing: int) -> list[Token]:
        history = self.data.training[user]
        if self.masked:
            return self.filled(self.random(epoch, user) if showing == 0 else self.last_masked(epoch, user))
        read = history[:-1] if self.without_last else history
        first = max(len(read) - self.max_len, 0)
        window = history[first:]
        items, window = self.augmented(epoch, user, window, len(window) - (len(history) - len(read)))
        tokens = [(i, p, t) for p, (i, t) in enumerate(zip(items, [*window[1:], 0], strict=False), 1)]
        if self.last_alone:
            newest = max((p for _, p, target in tokens if target), default=0)
            tokens = [(item, p, target if p == newest else 0) for item, p, target in tokens]
        tokens = self.filled([(i, p, self.smooth(epoch, user, p - 1, t) if t else 0) for i, p, t in tokens])
        if not read and self.last_alone and tokens:
            tokens[-1] = (0, 0, self.smooth(epoch, user, 0, history[-1]))
        return tokens

    def augmented(self, epoch: int, user: int, window: list[int], n_read: int) -> tuple[list[int], list[int]]:
        """The items read of a window, and the window itself, the last target included."""
        how, key = self.options.get("augmentation"), (epoch, user, AUGMENTATION)
        n, behind = len(window), len(window) - n_read
        ways = [] if how is None else [way for way in ("crop", "mask", "reorder") if getattr(how, way) > 0]
        if not ways or self.word(*key, 0) >= how.probability * 2**32:
            return window[:n_read], window
        way = ways[self.below(len(ways), *key, 1)]
        ratio = getattr(how, way)
        if way == "mask":
            items, left = list(window[:n_read]), int(ratio * n_read)
            for place in range(n_read):
                if self.below(n_read - place, *key, 4 + place) < left:
                    items[place], left = self.mask_token, left - 1
            return items, window
        length = max(int(ratio * n), 2 if way == "crop" else 0)
        if n < 2 or length < 2:
            return window[:n_read], window
        start = self.below(n - length + 1, *key, 2)
        part = window[start : start + length]
        if way == "crop":
            return part[: length - behind], part
        for place in range(length - 1, 0, -1):
            other = self.below(place + 1, *key, 4 + place)
            part[place], part[other] = part[other], part[place]
        window = window[:start] + part + window[start + length :]
        return window[:n_read], window

    def window(self, history: list[int], append: bool) -> list[tuple[int, int]]:
        """Items and positions; where a mask token is to follow in a full window, the oldest goes."""
        window = list(zip(history[-self.max_len :], itertools.count(1), strict=False))
        return window[1:] if append and len(window) == self.max_len else window

    def with_mask(self, history: list[int], tokens: list[Token]) -> list[Token]:
        return [*tokens, (self.mask_token, min(len(history), self.max_len) + 1, 0)]

    def random(self, epoch: int, user: int) -> list[Token]:
        history = self.data.training[user]
        tokens = [self.mask(epoch, user, item, p) for item, p in self.window(history, self.appends)]
        return self.with_mask(history, tokens) if self.appends else tokens

    def mask(self, epoch: int, user: int, item: int, position: int) -> Token:
        coin, kind, other = (4 * (position - 1) + k for k in range(3))
        if self.word(epoch, user, MASKING, coin) >= self.options["mask_probability"] * 2**32:
            return item, position, 0
        word = self.word(epoch, user, MASKING, kind)
        replacement = item
        if word < 8 * 2**32 // 10:
            replacement = self.mask_token
        elif word < 9 * 2**32 // 10:
            replacement = self.below(self.data.n_items, epoch, user, MASKING, other) + 1
        return replacement, position, self.smooth(epoch, user, position - 1, item)

    def last_masked(self, epoch: int, user: int) -> list[Token]:
        *before, (item, p) = self.window(self.data.training[user], append=False)
        target = self.smooth(epoch, user, p - 1, item, showing=1)
        return [*((i, q, 0) for i, q in before), (self.mask_token, p, target)]

    def teacher(self, user: int) -> list[Token]:
        history = self.data.training[user][:-1] if self.without_last else self.data.training[user]
        tokens = [(item, p, 0) for item, p in self.window(history, self.appends)]
        return self.filled(self.with_mask(history, tokens) if self.appends else tokens)

    def filled(self, tokens: list[Token]) -> list[Token]:
        missing = self.max_len - len(tokens) if self.options.get("padding_tokens") else 0
        return [(0, 0, 0)] * missing + tokens

    def smooth(self, epoch: int, user: int, place: int, target: int, showing: int = 0) -> int:
        probability = self.options.get("smoothing", 0.0)
        if self.word(epoch, user, SMOOTHING, 2 * place, showing=showing) >= probability * 2**32:
            return target
        near = [(i, s) for i, s in zip(self.data.similar_items[target - 1], self.data.scores[target - 1], strict=True)]
        near = [(i, np.float32(s)) for i, s in near if i > 0]
        if not near:
            return target
        scores = np.array([s for _, s in near], np.float64) / self.options["smoothing_temperature"]
        weights = np.exp(scores - scores.max())
        share = self.word(epoch, user, SMOOTHING, 2 * place + 1, showing=showing) / 2**32
        return int(
            near[min(int(np.searchsorted(np.cumsum(weights) / weights.sum(), share, "right")), len(near) - 1)][0]
        )

    def own(self, epoch: int, user: int, showing: int, position: int, k: int, target: int) -> int:
        draw = max(position - 1, 0) * self.options["n_negatives"] + k
        banned = {*self.data.training[user], target}
        for attempt in range(ATTEMPTS):
            rank = self.accept(self.word(epoch, user, OWN, draw, attempt, showing), len(self.drawable))
            if rank is not None and self.drawable[rank] not in banned:
                return self.drawable[rank]
        left = [i for i in self.drawable if i not in banned]
        return left[self.below(len(left), epoch, user, OWN, draw, attempt=ATTEMPTS, showing=showing)]

    def shared(self, epoch: int, step: int) -> list[int]:
        n = len(self.drawable)
        return [self.drawable[self.below(n, epoch, step, SHARED, d)] for d in range(self.options["n_negatives"])]

    def check(self, batch: Batch) -> None:
        """Hold every array of a batch against what it should be."""
        epoch, data = batch.epoch, self.data
        step = self.step(epoch, batch.step)
        assert list(zip(batch.users.tolist(), batch.masking_passes.tolist(), strict=True)) == step
        students = [self.student(epoch, *entry) for entry in step]
        assert tokens_of(batch.students) == students
        if self.options.get("similar_users"):
            self.check_teachers(batch, [u for u, _ in step])
        else:
            assert batch.teachers is None
            assert batch.teacher_index is None
        if self.options.get("negatives", "shared") == "own":
            assert batch.negatives.tolist() == [
                [self.own(epoch, *entry, position, k, target) for k in range(self.options["n_negatives"])]
                for entry, row in zip(step, students, strict=True)
                for _, position, target in row
                if target
            ]
            assert batch.collision is None
        elif self.options["negatives"] == "shared":
            assert batch.negatives.tolist() == self.shared(epoch, batch.step)
            assert batch.collision is not None
            drawn = batch.negatives.tolist()
            assert batch.collision.tolist() == [[i in data.training[u] for i in drawn] for u, _ in step]

    def check_teachers(self, batch: Batch, users: list[int]) -> None:
        similar = self.data.similar_users[:, : self.options["similar_users"]]
        wanted = sorted({int(v) for u in users for v in similar[u] if v >= 0 and self.data.training[v]})
        assert batch.teachers is not None
        assert batch.teacher_index is not None
        assert tokens_of(batch.teachers) == [self.teacher(v) for v in wanted]
        expected = [[wanted.index(v) if v in wanted else -1 for v in similar[u]] for u in users]
        assert batch.teacher_index.tolist() == expected


def tokens_of(sequences: Sequences) -> list[list[Token]]:
    """Item, position and target of each token, sequence after sequence."""
    arrays = (sequences.items.tolist(), sequences.positions.tolist(), sequences.targets.tolist())
    tokens = list(zip(*arrays, strict=True))
    assert sequences.offsets[0] == 0
    assert sequences.offsets[-1] == len(tokens)
    return [tokens[a:b] for a, b in itertools.pairwise(sequences.offsets.tolist())]


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Folder]:
    """A new folder from histories at each call."""
    made = iter(range(1000))

    def make(histories: list[list[int]], n_items: int, **files: Any) -> Folder:
        return Folder(tmp_path / str(next(made)), histories, n_items, **files)

    return make


@pytest.fixture(scope="session")
def make() -> type[Folder]:
    """The class itself, for tests that name their folders."""
    return Folder


@pytest.fixture(scope="session")
def make_oracle() -> type[Oracle]:
    """What the batches of some data and settings should hold."""
    return Oracle


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """120 users of 90 items with neighbours; some users have no or one training item, some many and repeats."""
    rng = np.random.default_rng(3)
    n_users, n_items = 120, 90
    lengths = rng.integers(0, 14, n_users)
    lengths[:4] = [0, 1, 2, 3]
    lengths[40] = 70
    histories = [rng.integers(1, n_items + 1, n).tolist() for n in lengths]
    similar = np.array([rng.permutation(n_users)[:6] for _ in range(n_users)])
    similar[5] = -1
    similar[6, 2:] = -1
    near = np.array([rng.permutation(n_items)[:5] + 1 for _ in range(n_items)])
    near[7] = -1
    near[8, 1:] = -1
    scores = -np.sort(-rng.random((n_items, 5)), axis=1)
    folder = tmp_path_factory.mktemp("shop")
    return Folder(folder, histories, n_items, held=2, similar_users=similar, similar_items=near, scores=scores)
