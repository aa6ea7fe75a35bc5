"""The batches of a training, epoch after epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from llm_esr import _native
from llm_esr._native import Batch, Batches
from llm_esr.doors import door
from llm_esr.files import FORMAT, checksum, key_of, read_record, verify_beside
from llm_esr.loading.options import LoaderOptions, LoaderSettings
from llm_esr.loading.sequences import at_least

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_T = TypeVar("_T")
_AHEAD = 2  # steps that wait prepared


class BatchLoader(IterableDataset[Batch]):
    """Batches of one data folder, prepared by background threads in Rust.

    Each epoch is one permutation of the students, cut into steps of `batch_size`. What a batch holds depends on the
    seed, the epoch and the step alone: not on threads, ranks, or on where a run resumed. A kept batch never changes.

    Students are the users with two training items or more (with `similar_users`, `sequence="without-last"` or masked
    items, one is enough). A student's sequence is the training sequence, its last `max_len` items; each token's target
    is the next item, the last token has none.

    Args:
        data: the prepared data.
        options: what batches depend on; default: `LoaderOptions()`.
        threads: background threads; 0 prepares batches where they are asked for.
        rank: this process, of `world_size`; ranks take disjoint shares of each step.
        world_size: all processes.
        settings: single fields of `LoaderOptions`, in place of those of `options`: `BatchLoader(data, seed=7)`.

    Raises:
        FileNotFoundError: a file that the options need.
        ValueError: options out of range, a damaged file, or a user who met every item that own negatives are
            drawn from.

    """

    @door
    def __init__(
        self,
        data: Dataset,
        options: LoaderOptions | None = None,
        *,
        threads: int = 1,
        rank: int = 0,
        world_size: int = 1,
        **settings: Unpack[LoaderSettings],
    ) -> None:
        unknown = settings.keys() - LoaderSettings.__annotations__.keys()
        if unknown:
            raise TypeError(f"BatchLoader has no option {', '.join(sorted(unknown))}; see LoaderOptions")
        self.options = replace(options or LoaderOptions(), **settings)
        read = ["similar_users"] if self.options.similar_users else []
        read += ["similar_items", "similar_items_scores"] if self.options.smoothing else []
        for name in read:
            verify_beside(data.folder / f"{name}.npy", "run `llm-esr index` again")
        self._native = _native.Loader(
            _native.Store(data.folder, data.n_items),
            data.folder,
            self.options,
            threads=at_least("threads", threads, 0),
            rank=at_least("rank", rank, 0),
            world_size=at_least("world_size", world_size, 1),
        )
        self.n_students = self._native.n_students
        # What batches are made from, so that a state is not resumed with something else.
        made_from = asdict(self.options)
        if self.options.similar_users:
            made_from["similar_users.npy"] = _checksum(data.folder, "similar_users")
        if self.options.smoothing:
            made_from["similar_items.npy"] = _checksum(data.folder, "similar_items")
        self._fingerprints = {"data": data.fingerprint, "config": key_of(made_from)}
        self._epoch = 0
        self._yielded = 0
        self._resume_at = 0

    def __len__(self) -> int:
        """Steps an epoch, the same on all ranks."""
        return self._native.steps

    @property
    def seed(self) -> int:
        """The seed of all random streams."""
        return self.options.seed

    @property
    def batch_size(self) -> int:
        """Students of a step, over all ranks."""
        return self.options.batch_size

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration gives."""
        return self._epoch

    @cached_property
    def log_q(self) -> NDArray[np.float32] | None:
        """The logarithm of each item's chance in one draw of a negative, [I + 1], index = id (0 at padding's 0).

        Uniform: a constant. By popularity: of the training count's power. `in-batch`: of the item's share of an
        epoch's targets, smoothing included. What a user met is not taken out, and an item that is never drawn has
        the least chance of the others. None without negatives, or where nobody trains.
        """
        return self._native.log_q()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives, from its first step."""
        self._epoch = at_least("epoch", epoch, 0)
        self._yielded = self._resume_at = 0

    def __iter__(self) -> Iterator[Batch]:
        """The epoch's batches: from its first step or, right after `load_state_dict`, from where that state stood."""
        return self._count(self._batches())

    def _batches(self) -> Batches:
        worker = get_worker_info()
        if worker is not None:
            raise ValueError(
                f"BatchLoader runs in worker {worker.id} of a DataLoader, where every worker would give every batch; "
                "it prepares batches in threads of its own: use DataLoader(loader, batch_size=None, num_workers=0), "
                "or iterate over the BatchLoader itself"
            )
        self._yielded, self._resume_at = self._resume_at, 0
        return self._native.batches(self._epoch, self._yielded)

    def prepared(self, prepare: Callable[[Batch], _T]) -> Generator[tuple[Batch, _T]]:
        """As iterating, each batch with what `prepare` makes of it: in a thread of its own, a few steps ahead.

        Args:
            prepare: a function of the batch alone; what it raises is raised here, at its batch.

        """
        batches = self._batches()

        def next_one() -> tuple[Batch, _T] | None:
            batch = next(batches, None)
            return None if batch is None else (batch, prepare(batch))

        with ThreadPoolExecutor(1, "llm-esr-prepare") as thread:
            waiting: deque[Future[tuple[Batch, _T] | None]] = deque()
            try:
                while True:
                    while len(waiting) < _AHEAD:
                        waiting.append(thread.submit(next_one))
                    found = waiting.popleft().result()
                    if found is None:
                        return
                    self._yielded = found[0].step + 1
                    yield found
            finally:
                for future in waiting:
                    future.cancel()

    def _count(self, batches: Batches) -> Iterator[Batch]:
        for batch in batches:
            self._yielded = batch.step + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands, as JSON values; batches that wait in threads are not counted."""
        return {
            "format": FORMAT,
            "seed": self.options.seed,
            "epoch": self._epoch,
            "steps": self._yielded,
            "batch_size": self.options.batch_size,
            **self._fingerprints,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` stood; the number of ranks and threads may differ.

        Raises:
            ValueError: a state of another format, seed, batch size, data set or other settings.

        """
        now = self.state_dict()
        missing = sorted(now.keys() - state.keys())
        if missing:
            raise ValueError(f"the loader's state has no {', '.join(missing)}; it has {', '.join(sorted(state))}")
        for key, what, remedy in _MUST_AGREE:
            if state[key] != now[key]:
                raise ValueError(
                    f"the loader's state was made with {what} {state[key]}, this loader has {now[key]}; {remedy}"
                )
        self._epoch = at_least("epoch", state["epoch"], 0)
        self._yielded = self._resume_at = at_least("steps", state["steps"], 0)

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be sent to another process."""
        raise TypeError(
            "a BatchLoader cannot be pickled or sent to DataLoader workers; it prepares batches in threads of its own: "
            "use num_workers=0"
        )


_MUST_AGREE = [
    ("format", "format", "it comes from another version of llm-esr: start again"),
    ("batch_size", "batch size", "resume with the same batch_size (over all ranks), or start again"),
    ("seed", "seed", "resume with the same seed, or start again"),
    ("data", "the data set of fingerprint", "resume with the same data, or start again"),
    ("config", "settings or neighbours of fingerprint", "resume with the same ones, or start again"),
]


def _checksum(folder: Path, name: str) -> str:
    sidecar = Path(folder) / f"{name}.json"
    if sidecar.exists():
        return str(read_record(sidecar, "checksum")["checksum"])
    return checksum(Path(folder) / f"{name}.npy")
