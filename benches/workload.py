"""What everything is measured on: seeded users and Zipf items, written straight into a data folder.

The size of PEERS, section 1: 50,000 users of mean length 10.55, 30,000 items, 200 items a sequence at most, 128
students a batch, 10 similar users each. `SMALL` is for trials, `--small` or `LLM_ESR_BENCH_SMALL=1`; its figures mean
nothing. A folder is written in chunks, so that 100 million interactions need little memory, and kept in
`runs/bench/data` (or `LLM_ESR_BENCH_CACHE`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from llm_esr.files import checksum

ROOT = Path(__file__).resolve().parent.parent
_FORMAT = 2
_CHUNK = 500_000  # users that are drawn at once
_LONGEST = 400


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    users: int = 50_000
    items: int = 30_000
    mean_length: float = 10.55
    max_len: int = 200
    batch_size: int = 128
    similar_users: int = 10
    text_width: int = 1536
    width: int = 64
    large_users: int = 10_000_000
    large_mean_length: float = 10.0
    repeats: int = 7
    our_steps: int = 2000  # batches of ours a repeat
    peer_steps: int = 25  # batches of a peer in Python a repeat
    fast_steps: int = 200  # batches of a peer in NumPy a repeat
    negatives: int = 64
    as_shipped_repeats: int = 5  # a step of the authors takes a minute

    @staticmethod
    def from_environment() -> Size:
        """`SMALL` where `LLM_ESR_BENCH_SMALL` is set."""
        return SMALL if os.environ.get("LLM_ESR_BENCH_SMALL") else Size()


SMALL = replace(
    Size(), users=900, items=400, max_len=30, batch_size=32, similar_users=4, text_width=48, width=16,
    large_users=20_000, repeats=2, our_steps=40, peer_steps=4, fast_steps=10, negatives=8, as_shipped_repeats=1,
)  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """A data folder and what `BatchLoader` asks of a `Dataset`."""

    folder: Path
    n_users: int
    n_items: int
    fingerprint: str = "benchmark"


def cache_folder() -> Path:
    """Where data are kept between runs."""
    return Path(os.environ.get("LLM_ESR_BENCH_CACHE") or ROOT / "runs" / "bench" / "data")


def make_workload(
    n_users: int, n_items: int, mean_length: float, similar_users: int, *, full: int = 0, folder: Path | None = None
) -> Workload:
    """The data folder of so many users; the same numbers at every call, written once.

    Args:
        n_users: U.
        n_items: I; popularity falls as 1 / rank.
        mean_length: lengths are 1 + geometric, at most 400.
        similar_users: K, drawn uniformly.
        full: every user has so many items instead.
        folder: where to write; default: a folder of the cache named after the numbers.

    """
    what = {"format": _FORMAT, "users": n_users, "items": n_items, "mean_length": mean_length,
            "similar_users": similar_users, "full": full}  # fmt: skip
    name = f"{n_users}-users-{n_items}-items-" + (f"full-{full}" if full else f"mean-{mean_length:g}")
    folder = folder or cache_folder() / f"{name}-k-{similar_users}"
    done = folder / "workload.json"
    if not done.exists() or json.loads(done.read_text()) != what:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(folder, n_users, n_items, mean_length, similar_users, full)
        done.write_text(json.dumps(what))
    return Workload(folder, n_users, n_items)


def _write(folder: Path, n_users: int, n_items: int, mean_length: float, similar_users: int, full: int) -> None:
    rng = np.random.default_rng(0)
    chances = np.cumsum(1 / np.arange(1, n_items + 1))
    chances /= chances[-1]
    ids = (rng.permutation(n_items) + 1).astype(np.int32)
    lengths = np.empty(n_users, np.int64)
    for users in _chunks(n_users):
        n = users.stop - users.start
        lengths[users] = full or np.minimum(1 + rng.geometric(1 / (mean_length - 1), n), _LONGEST)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "splits.npy", np.stack([lengths, lengths], axis=1))
    # Written from front to back, as `prepare` and `index` write: through a map the system keeps them in small pieces.
    with _array_file(folder / "items.npy", (int(offsets[-1]),)) as items, \
            _array_file(folder / "similar_users.npy", (n_users, similar_users)) as similar:  # fmt: skip
        for users in _chunks(n_users):
            n = users.stop - users.start
            count = int(offsets[users.stop] - offsets[users.start])
            items.write(ids[np.searchsorted(chances, rng.random(count))])
            # Nobody is similar to oneself.
            other = rng.integers(0, n_users - 1, (n, similar_users))
            other += other >= np.arange(users.start, users.stop)[:, None]
            similar.write(other.astype(np.int32))
    # As `index` leaves it: a loader reads the checksum instead of the file.
    sidecar = {"checksum": checksum(folder / "similar_users.npy"), "shape": [n_users, similar_users]}
    (folder / "similar_users.json").write_text(json.dumps(sidecar))


@contextmanager
def _array_file(path: Path, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """A `.npy` file of int32 numbers, open behind its header."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": shape})
        yield file
        file.flush()
        os.fsync(file.fileno())


def _chunks(n_users: int) -> Iterator[slice]:
    for first in range(0, n_users, _CHUNK):
        yield slice(first, min(first + _CHUNK, n_users))


def usual(size: Size) -> Workload:
    """The users of PEERS, section 1."""
    return make_workload(size.users, size.items, size.mean_length, size.similar_users)


def full_rows(size: Size) -> Workload:
    """A fifth as many users, each with `max_len` items."""
    return make_workload(size.users // 5, size.items, 0.0, size.similar_users, full=size.max_len)


def large(size: Size) -> Workload:
    """10 million users, 100 million interactions."""
    return make_workload(size.large_users, size.items, size.large_mean_length, size.similar_users)


@dataclass(frozen=True)
class Histories:
    """A data folder's training sequences, in memory."""

    flat: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    similar: NDArray[np.int64]

    @staticmethod
    def read(folder: Path) -> Histories:
        return Histories(
            flat=np.load(folder / "items.npy").astype(np.int64),
            starts=np.load(folder / "offsets.npy")[:-1],
            lengths=np.load(folder / "splits.npy")[:, 0],
            similar=np.load(folder / "similar_users.npy").astype(np.int64),
        )

    def as_lists(self) -> list[list[int]]:
        """Each user's items, oldest first."""
        flat = self.flat.tolist()
        bounds = zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        return [flat[start : start + length] for start, length in bounds]
