"""The batches of a training, epoch after epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from llm_esr import _native
from llm_esr._native import Batch, Batches
from llm_esr.config import Layout
from llm_esr.files import checksum, key_of, read_json
from llm_esr.loading.sequences import at_least

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_FORMAT = 1


@dataclass(frozen=True)
class Augmentation:
    """How students' sequences are changed on their way; a ratio of 0 is off (CL4SRec's operators, arXiv 2010.14395).

    In each epoch a student is changed with `probability`, in one of the ways that are on, all alike. What is changed is
    the window of the newest items, with `without-last` the last target too. Teachers stay as they are.

    Args:
        probability: how likely a student is changed.
        crop: keep a contiguous part, this share of the window but two items at least, as if nothing else had been met.
        mask: show the mask token `n_items + 1` in place of this share of the shown items; targets stay.
        reorder: shuffle a contiguous part, this share of the window; each item's target is the one that follows then.

    """

    probability: float = 0.5
    crop: float = 0.0
    mask: float = 0.0
    reorder: float = 0.0

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return self.probability > 0 and max(self.crop, self.mask, self.reorder) > 0


class BatchLoader(IterableDataset[Batch]):
    """Batches of one data folder, prepared by background threads in Rust.

    Each epoch is one permutation of the students, cut into steps of `batch_size`. What a batch holds depends on the
    seed, the epoch and the step alone: not on threads, ranks, or on where a run resumed. A kept batch never changes.

    Students are the users with two training items or more (with `similar_users`, `sequence="without-last"` or masked
    items, one is enough). A student's sequence is the training sequence, its last `max_len` items; each token's target
    is the next item, the last token has none.

    With `mask_probability` targets are masked items, of the whole training sequence, and an epoch is one permutation of
    (user, showing): in showing 0 each item is masked with that probability (80 % of those show the mask token
    `n_items + 1`, 10 % a uniform item, 10 % themselves), in showing 1 the last item alone, as the mask token. A step
    may hold a user twice, and a random showing may have no target.

    Args:
        data: the prepared data.
        seed: names all random streams.
        batch_size: students (showings) of a step, over all ranks; the last step of an epoch may have fewer.
        max_len: the newest items of a sequence that are shown.
        layout: `packed` or `padded`; the tokens are the same.
        sequence: `whole`, or `without-last`: students and teachers read the training sequence without its last item,
            which is the last token's target; a user with one training item is an empty sequence. Masked students read
            the whole sequence either way.
        targets: `every` token that has a next item in training predicts it, or the `last` of them alone.
        padding_tokens: fill every sequence on the left up to `max_len` tokens with item 0, position 0 (layout `padded`
            alone). With `without-last` and targets `last` an empty sequence's last token predicts the one item.
        mask_probability: mask items with this probability; None: no items are masked.
        append_mask: end the sequences of showing 0 and of teachers in a mask token without target. In a window of
            `max_len` items the oldest makes room for it, and positions stay: 2 to `max_len + 1`.
        augmentation: crop, mask or reorder students' sequences (not with `mask_probability`); None: as they are.
        similar_users: teachers a student, from `similar_users.npy`; 0: none.
        negatives: `shared` (N for the whole step, with a mask of what each user met), `own` (N for each target,
            never an item of the user's training sequence nor the target), `in-batch` (the targets of the step, or of
            a rank's share of it, in token order, each as often as it is one; with the mask of `shared`), or None.
        n_negatives: N; `in-batch` has as many as there are targets.
        distribution: how negatives are drawn, `uniform` or by `popularity` in training.
        exponent: popularity's power of the training count.
        catalogue: draw from the items that `training` met, or from `all`.
        smoothing: probability that a target is replaced by one of its nearest items, from `similar_items.npy`.
        smoothing_temperature: neighbours are drawn by softmax(score / temperature).
        threads: background threads; 0 prepares batches where they are asked for.
        rank: this process, of `world_size`; ranks take disjoint shares of each step.
        world_size: all processes.
        shuffle: False: by rising user number in every epoch.

    Raises:
        FileNotFoundError: a file that the settings need.
        ValueError: settings out of range, a damaged file, or a user who met every item that own negatives are
            drawn from.

    """

    def __init__(
        self,
        data: Dataset,
        *,
        seed: int = 42,
        batch_size: int = 80,
        max_len: int = 50,
        layout: Layout = "packed",
        sequence: Literal["whole", "without-last"] = "whole",
        targets: Literal["every", "last"] = "every",
        padding_tokens: bool = False,
        mask_probability: float | None = None,
        append_mask: bool = False,
        augmentation: Augmentation | None = None,
        similar_users: int = 0,
        negatives: Literal["shared", "own", "in-batch"] | None = "shared",
        n_negatives: int = 512,
        distribution: Literal["uniform", "popularity"] = "uniform",
        exponent: float = 1.0,
        catalogue: Literal["training", "all"] = "all",
        smoothing: float = 0.0,
        smoothing_temperature: float = 0.1,
        threads: int = 1,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        _one_of("distribution", distribution, ("uniform", "popularity"))
        _one_of("catalogue", catalogue, ("training", "all"))
        self.seed = at_least("seed", seed, 0)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self._native = _native.Loader(
            _native.Store(data.folder, data.n_items),
            data.folder,
            seed=self.seed,
            batch_size=self.batch_size,
            max_len=at_least("max_len", max_len, 1),
            layout=layout,
            sequence=sequence,
            targets=targets,
            padding_tokens=bool(padding_tokens),
            mask_probability=None if mask_probability is None else float(mask_probability),
            append_mask=bool(append_mask),
            augmentation=astuple(augmentation or Augmentation()),
            similar_users=at_least("similar_users", similar_users, 0),
            negatives=negatives,
            n_negatives=at_least("n_negatives", n_negatives, 0),
            exponent=float(exponent) if distribution == "popularity" else None,
            only_met=catalogue == "training",
            smoothing=float(smoothing),
            smoothing_temperature=float(smoothing_temperature),
            threads=at_least("threads", threads, 0),
            rank=at_least("rank", rank, 0),
            world_size=at_least("world_size", world_size, 1),
            shuffle=bool(shuffle),
        )
        self.n_students = self._native.n_students
        # What batches are made from, so that a state is not resumed with something else.
        settings: dict[str, Any] = {"max_len": max_len, "layout": layout, "shuffle": shuffle}
        # What came later counts only where it is used, so that the states of before can be resumed.
        if sequence != "whole":
            settings["sequence"] = sequence
        if targets != "every":
            settings["targets"] = targets
        if padding_tokens:
            settings["padding_tokens"] = True
        if mask_probability is not None:
            settings |= {"mask_probability": float(mask_probability), "append_mask": bool(append_mask)}
        if augmentation is not None and augmentation.on:
            settings["augmentation"] = list(astuple(augmentation))
        if similar_users:
            settings |= {"similar_users": similar_users, "similar_users.npy": _checksum(data.folder, "similar_users")}
        if negatives == "in-batch":
            settings["negatives"] = negatives
        elif negatives is not None:
            settings |= {"negatives": negatives, "n_negatives": n_negatives, "catalogue": catalogue}
            settings |= {"exponent": float(exponent) if distribution == "popularity" else None}
        if smoothing:
            settings |= {"smoothing": float(smoothing), "smoothing_temperature": float(smoothing_temperature)}
            settings |= {"similar_items.npy": _checksum(data.folder, "similar_items")}
        self._fingerprints = {"data": data.fingerprint, "config": key_of(settings)}
        self._epoch = 0
        self._yielded = 0
        self._resume_at = 0

    def __len__(self) -> int:
        """Steps an epoch, the same on all ranks."""
        return self._native.steps

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
        worker = get_worker_info()
        if worker is not None:
            raise ValueError(
                f"BatchLoader runs in worker {worker.id} of a DataLoader, where every worker would give every batch; "
                "it prepares batches in threads of its own: use DataLoader(loader, batch_size=None, num_workers=0), "
                "or iterate over the BatchLoader itself"
            )
        self._yielded, self._resume_at = self._resume_at, 0
        return self._count(self._native.batches(self._epoch, self._yielded))

    def _count(self, batches: Batches) -> Iterator[Batch]:
        for batch in batches:
            self._yielded = batch.step + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands, as JSON values; batches that wait in threads are not counted."""
        return {
            "format": _FORMAT,
            "seed": self.seed,
            "epoch": self._epoch,
            "steps": self._yielded,
            "batch_size": self.batch_size,
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


def _one_of(name: str, value: str, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise ValueError(f"{name} is {value!r}; expected {' or '.join(map(repr, expected))}")


def _checksum(folder: Path, name: str) -> str:
    sidecar = Path(folder) / f"{name}.json"
    if sidecar.exists():
        return str(read_json(sidecar)["checksum"])
    return checksum(Path(folder) / f"{name}.npy")
