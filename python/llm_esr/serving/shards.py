"""Shares of many users: each scheduler's worker writes one part, all parts together are the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 100_000  # as many as a part's name has digits for


@dataclass(frozen=True)
class Shard:
    """One share of several: `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def of(cls, given: Any) -> Shard:
        """What `3/8` means.

        Raises:
            ValueError: anything but a number and a count, 1/8 to 8/8.
        """
        if isinstance(given, Shard):
            return given
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", given) if isinstance(given, str) else None
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count < MOST:
            raise ValueError(
                f"--shard {given!s:.80}: expected a share and how many there are, such as 3/8: 1/8 to 8/8; "
                f"there are fewer than {MOST:,}"
            )
        return cls(number, count)

    def of_users(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """This shard's users, a stretch of all: shares differ by one user at most, one after another they are all."""
        first, last = ((place * len(users)) // self.count for place in (self.number - 1, self.number))
        return users[first:last]

    def part(self, folder: Path) -> Path:
        """The file that this share goes to.

        Raises:
            ValueError: `folder` is a file, or holds parts of another number of shares.
        """
        if folder.is_file():
            raise ValueError(f"--out {folder} is a file; with --shard it is the folder of the parts: name another")
        others = (
            path.name for path in folder.glob("part-*-of-*.parquet") if not path.stem.endswith(f"-{self.count:05}")
        )
        other = min(others, default=None)
        if other is not None:
            # Read together, as a folder of parts is, users would come twice.
            raise ValueError(
                f"--out {folder} holds {other}, a part of another number of shares than {self.count}; name another "
                "folder, or take those parts away"
            )
        return folder / f"part-{self.number:05}-of-{self.count:05}.parquet"


def part_of(path: Path, shard: Any) -> tuple[Path, Shard]:
    """Where a share goes and which it is; without one everything goes to `path` itself.

    Raises:
        ValueError: as of `Shard.of` and `Shard.part`.
    """
    if shard is None:
        return path, Shard(1, 1)
    share = Shard.of(shard)
    return share.part(path), share
