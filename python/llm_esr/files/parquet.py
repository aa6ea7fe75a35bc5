"""Parquet files by their literal path: polars alone reads `[`, `*`, `?`, `~` and `name=value` folders as patterns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl


def scan_parquet(path: Path | Sequence[Path]) -> pl.LazyFrame:
    """A Parquet file, or several with the same columns one after another, to be read in parts."""
    paths = [path] if isinstance(path, Path) else path
    return pl.scan_parquet([one.absolute() for one in paths], glob=False, hive_partitioning=False)


def collect(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Read what was scanned.

    Raises:
        ValueError: not a readable Parquet file; the message names `path`.
    """
    try:
        return frame.collect()
    # A damaged file can make polars panic, and its panics are no `Exception`.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is not a readable Parquet file ({first}); write or fetch it again") from None


def read_parquet(path: Path) -> pl.DataFrame:
    """A whole Parquet file.

    Raises:
        ValueError: not a readable Parquet file.
    """
    return collect(scan_parquet(path), path)


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame to `path` as it stands."""
    with path.open("wb") as file:
        frame.write_parquet(file)
