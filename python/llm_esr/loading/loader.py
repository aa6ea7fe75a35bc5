"""The batch loader: an epoch of training batches from a data folder, made by Rust threads ahead of the reader.

Shapes: B users of a step (on this rank), K similar users, M tokens with a target, N negatives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from llm_esr import _native
from llm_esr.files import key_of
from llm_esr.loading.sequences import Sequences

if TYPE_CHECKING:
    from llm_esr.data import Dataset

STATE_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's inputs. Its arrays stay as they are for as long as anyone holds one of them.

    Attributes:
        epoch: the epoch.
        step: the step within the epoch.
        users: int64 [B].
        showings: int8 [B], which showing of the user this is.
        students: the users' training sequences with targets.
        teachers: the distinct similar users' sequences, by rising user number; None without teachers.
        teacher_index: int64 [B, K], rows of `teachers`, -1 for none; None without teachers.
        negatives: own ones int32 [M, N], a row for each non-zero target in token order; shared ones int32 [N].
        collision: bool [B, N], whether a shared negative is in the user's training sequence; None for own ones.
    """

    epoch: int
    step: int
    users: NDArray[np.int64]
    showings: NDArray[np.int8]
    students: Sequences
    teachers: Sequences | None
    teacher_index: NDArray[np.int64] | None
    negatives: NDArray[np.int32] | None
    collision: NDArray[np.bool_] | None


class BatchLoader:
    """Training batches of a data folder; iterate once for each epoch.

    Every number drawn is a pure function of seed, epoch, user (or step) and position, so batches are the same for any
    number of threads and ranks, and after a resume. Of the shape of `torch.utils.data.IterableDataset`; it needs no
    `DataLoader`, whose worker processes would only copy what threads here share.

    Args:
        data: a `Dataset`, or anything with `folder`, `n_items` and `fingerprint`.
        seed: of all randomness.
        batch_size: users a step, over all ranks.
        max_len: newest training items of a user that are read.
        layout: `packed` or `padded`; decides `slots` alone.
        similar_users: K nearest users that teach; 0 for none. Reads `similar_users.npy`.
        negatives: `shared` by the step, each target's `own`, or None.
        n_negatives: N.
        distribution: `uniform`, or `popularity`: in proportion to training count ** `exponent`.
        exponent: see `distribution`.
        catalogue: draw from items met in `training`, or from `all`.
        smoothing: probability that a target is replaced by one of its nearest items (`similar_items.npy`).
        smoothing_temperature: of the softmax over their scores.
        threads: background threads; 0 makes each batch when it is asked for.
        prefetch: steps kept ready at most.
        rank: this process's number among `world_size`.
        world_size: processes that share each step.
        shuffle: whether an epoch is a permutation.

    Raises:
        ValueError: a setting out of range, or a user who met every item that may be drawn (own negatives).
        FileNotFoundError: a file that the settings need.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        seed: int = 42,
        batch_size: int = 80,
        max_len: int = 50,
        layout: str = "packed",
        similar_users: int = 0,
        negatives: Literal["shared", "own"] | None = "shared",
        n_negatives: int = 512,
        distribution: Literal["uniform", "popularity"] = "uniform",
        exponent: float = 1.0,
        catalogue: Literal["training", "all"] = "training",
        smoothing: float = 0.0,
        smoothing_temperature: float = 0.1,
        threads: int = 1,
        prefetch: int = 4,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        _choice("distribution", distribution, ("uniform", "popularity"))
        _choice("catalogue", catalogue, ("training", "all"))
        folder = Path(data.folder)
        for name, wanted in (("similar_users", similar_users > 0), ("similar_items", smoothing > 0)):
            if wanted and not (folder / f"{name}.npy").exists():
                raise FileNotFoundError(f"{folder}/{name}.npy does not exist; make it with `llm-esr index`")
        self._batcher = _native.Batcher(
            _native.SequenceStore(folder, data.n_items),
            seed=seed,
            batch_size=batch_size,
            max_len=max_len,
            layout=layout,
            similar_users=similar_users,
            negatives=negatives,
            n_negatives=n_negatives,
            exponent=exponent if distribution == "popularity" else None,
            whole_catalogue=catalogue == "all",
            smoothing=smoothing,
            smoothing_temperature=smoothing_temperature,
            rank=rank,
            world_size=world_size,
            shuffle=shuffle,
        )
        self.batch_size, self.seed, self.threads, self.prefetch = batch_size, seed, threads, prefetch
        self._own = negatives == "own"
        self._n_negatives = n_negatives if negatives is not None else 0
        self._with_teachers = similar_users > 0
        self._data_key = str(data.fingerprint)
        self._settings_key = key_of(
            [max_len, similar_users, negatives, n_negatives, distribution, exponent, catalogue,
             smoothing, smoothing_temperature, shuffle]
        )  # fmt: skip
        self._epoch = 0
        self._yielded = 0
        self._stream: Any = None
        self._process = os.getpid()

    @property
    def n_students(self) -> int:
        """Users that are trained on, over all ranks: those with a target, and with teachers those with an item."""
        return self._batcher.n_students

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self._batcher.n_steps

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration give `epoch` from its first step."""
        self._epoch, self._yielded = epoch, 0

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch that `set_epoch` or `load_state_dict` chose, each rank its share.

        Raises:
            RuntimeError: inside a worker process of a `DataLoader`.
        """
        _refuse_worker()
        self._close()
        if self._yielded >= len(self) > 0:
            # The state of a finished epoch: nothing is left of it, and the next iteration starts it anew.
            self._yielded = 0
            return
        stream = self._batcher.start(self._epoch, self._yielded, self.threads, self.prefetch)
        self._stream, self._process = stream, os.getpid()
        try:
            while (raw := self._next(stream)) is not None:
                self._yielded += 1
                yield self._batch(raw)
            self._yielded = 0
        finally:
            if os.getpid() == self._process:
                stream.close()

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, as JSON values; steps are those that were yielded."""
        return {
            "format": STATE_FORMAT,
            "seed": self.seed,
            "epoch": self._epoch,
            "step": self._yielded,
            "batch_size": self.batch_size,
            "data": self._data_key,
            "settings": self._settings_key,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the number of ranks and threads may be another.

        Raises:
            ValueError: a state of another data set, seed, batch size or other settings.
        """
        mine = self.state_dict()
        for name, what in (
            ("format", "format of the state"),
            ("data", "data set"),
            ("seed", "seed"),
            ("batch_size", "batch_size"),
            ("settings", "loader settings"),
        ):
            if state.get(name) != mine[name]:
                raise ValueError(
                    f"this state belongs to another {what} ({state.get(name)!r}, this loader has {mine[name]!r}); "
                    "make the loader as it was, or start without the state"
                )
        self._epoch, self._yielded = state["epoch"], state["step"]

    def _next(self, stream: Any) -> Any:
        if os.getpid() != self._process:
            # A fork copied the reader but none of the threads: this process starts its own.
            self._stream = self._batcher.start(self._epoch, self._yielded, self.threads, self.prefetch)
            self._process = os.getpid()
        return self._stream.next()

    def _close(self) -> None:
        if self._stream is not None and os.getpid() == self._process:
            self._stream.close()
        self._stream = None

    def _batch(self, raw: Any) -> Batch:
        negatives: Any = raw.negatives if self._n_negatives else None
        collision: Any = None
        users = raw.users
        if self._own:
            negatives = negatives.reshape(-1, self._n_negatives)
        elif self._n_negatives:
            collision = raw.collision.reshape(len(users), self._n_negatives)
        return Batch(
            epoch=raw.epoch,
            step=raw.step,
            users=users,
            showings=raw.showings,
            students=Sequences(*raw.students),
            teachers=Sequences(*raw.teachers) if self._with_teachers else None,
            teacher_index=raw.teacher_index if self._with_teachers else None,
            negatives=negatives,
            collision=collision,
        )


def sample_candidates(
    data: Dataset, part: Literal["validation", "test"], n: int, seed: int, users: Any = None
) -> NDArray[np.int32]:
    """Items to rank each target against: distinct, uniform, never met by the user; from a stream of its own.

    Validation leaves out the training items and the validation target, test leaves out everything (PAPER: 100 of them).

    Args:
        data: the data set.
        part: whose targets.
        n: candidates besides the target.
        seed: of the draws.
        users: user numbers, int64 [B]; default: all users with a target in `part`.

    Returns:
        int32 [B, n].

    Raises:
        ValueError: a user leaves fewer than `n` items.
    """
    _choice("part", part, ("validation", "test"))
    if users is None:
        users = np.flatnonzero(data.targets(part) > 0)
    store = _native.SequenceStore(data.folder, data.n_items)
    chosen = np.ascontiguousarray(users, dtype=np.int64)
    drawn = _native.sample_candidates(store, chosen, 1 if part == "validation" else 2, n, seed)
    return cast("NDArray[np.int32]", drawn)


def _choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")


def _refuse_worker() -> None:
    from torch.utils.data import get_worker_info  # noqa: PLC0415 (torch is slow to import)

    if get_worker_info() is not None:
        raise RuntimeError(
            "BatchLoader prepares batches in threads and does not run in DataLoader workers, which would each give "
            "every batch; iterate over it directly, or pass num_workers=0"
        )
