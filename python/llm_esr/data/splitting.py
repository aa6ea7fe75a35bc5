"""Where each user's training part and validation part end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import DataConfig
from llm_esr.tables.values import one_timestamp


@dataclass(frozen=True)
class Splits:
    """`ends` int64 [U, 2]: end of train and end of validation, counted from the user's start; times where temporal."""

    ends: NDArray[np.int64]
    validation_from: int | None = None  # nanoseconds
    test_from: int | None = None


def split(offsets: NDArray[np.int64], timestamps: NDArray[np.int64] | None, config: DataConfig) -> Splits:
    """Split every user's interactions (CSR, in order of time).

    Raises:
        ValueError: a temporal split without timestamps, or with times that leave a part empty; times without a
            temporal split.
    """
    lengths = np.diff(offsets)
    if config.split != "temporal":
        for name in ("validation_from", "test_from"):
            if getattr(config, name) is not None:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} is for --split temporal; the split is {config.split}")
    if config.split == "none":
        return Splits(np.stack([lengths, lengths], axis=1))
    if config.split == "leave-one-out":
        held_out = (lengths >= 3).astype(np.int64)
        return Splits(np.stack([lengths - 2 * held_out, lengths - held_out], axis=1))
    return _temporal(offsets, timestamps, config)


def _temporal(offsets: NDArray[np.int64], timestamps: NDArray[np.int64] | None, config: DataConfig) -> Splits:
    if timestamps is None:
        raise ValueError(
            "--split temporal needs timestamps, and the interactions have none; name their column with "
            "--timestamp-column, or use --split leave-one-out"
        )
    ordered = np.sort(timestamps)
    unit = config.timestamp_unit
    from_validation = (
        one_timestamp(config.validation_from, unit, "--validation-from")
        if config.validation_from is not None
        else int(ordered[len(ordered) * 8 // 10])
    )
    from_test = (
        one_timestamp(config.test_from, unit, "--test-from")
        if config.test_from is not None
        else int(ordered[len(ordered) * 9 // 10])
    )
    span = f"the interactions lie from {iso(int(ordered[0]))} to {iso(int(ordered[-1]))}"
    if from_validation >= from_test:
        raise ValueError(
            f"validation begins at {iso(from_validation)} and test at {iso(from_test)}; expected validation first "
            f"({span}): set --validation-from and --test-from"
        )
    if from_validation <= ordered[0]:
        raise ValueError(
            f"nothing is left to train on: validation begins at {iso(from_validation)}, and {span}; "
            "set a later --validation-from"
        )
    if from_test > ordered[-1]:
        raise ValueError(
            f"nothing is left to test on: test begins at {iso(from_test)}, and {span}; set an earlier --test-from"
        )
    ends = np.stack([_counts_before(offsets, timestamps, moment) for moment in (from_validation, from_test)], axis=1)
    return Splits(ends, from_validation, from_test)


def _counts_before(offsets: NDArray[np.int64], timestamps: NDArray[np.int64], moment: int) -> NDArray[np.int64]:
    # Every user has an interaction, so no stretch is empty.
    counts: NDArray[np.int64] = np.add.reduceat(timestamps < moment, offsets[:-1], dtype=np.int64)
    return counts


def training_counts(
    offsets: NDArray[np.int64], items: NDArray[np.int32], splits: NDArray[np.int64], n_items: int
) -> NDArray[np.int64]:
    """Interactions of each item before the users' ends of train, int64 [I + 1]."""
    counts = np.zeros(n_items + 1, dtype=np.int64)
    step = 1 << 16
    for first in range(0, len(offsets) - 1, step):
        ends = splits[first : first + step, 0]
        starts = offsets[first : first + len(ends)]
        shift = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(ends)])
        positions = np.arange(shift[-1]) + np.repeat(starts - shift[:-1], ends)
        counts += np.bincount(items[positions], minlength=n_items + 1)
    return counts


def iso(nanoseconds: int) -> str:
    """A time for people, in UTC, to the second."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
