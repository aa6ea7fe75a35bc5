"""External ids: what callers say, turned into the numbers of a data set, with a helping hand where one is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from llm_esr.files import read_parquet

_SHOWN = 5  # unknown ids that a message names
_COMPARED = 20_000  # ids that are compared letter by letter to find a near one


def external_id(value: Any) -> str:
    """An id as the data set writes it: text; a whole number without a fraction.

    Raises:
        ValueError: neither text nor a whole number.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    raise ValueError(f"an id is text or a whole number, got {value!r} ({type(value).__name__})")


def external_ids(values: Any) -> list[str]:
    """One id or several."""
    if isinstance(values, (str, int, float, np.number)):
        return [external_id(values)]
    return [external_id(value) for value in values]


def unknown_message(kind: str, unknown: Sequence[str], known: Mapping[str, int]) -> str:
    """Which ids are unknown, and what near ones there are; one whole sentence."""
    unknown = list(dict.fromkeys(unknown))
    shown = ", ".join(repr(name) for name in unknown[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    near = near_ids(unknown[0], known)
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else "."
    return f"no {kind} {shown}{more} in the data{hint}"


def near_ids(name: str, known: Collection[str]) -> list[str]:
    """Up to three known ids that look like `name`, best first."""
    folded = name.strip().casefold()
    for first in (folded[:1], ""):
        # Letter by letter only among ids of about the same length and, at first, beginning: there may be millions.
        alike = (o for o in known if abs(len(o) - len(folded)) <= 2 and o.casefold().startswith(first))
        compared = list(islice(alike, _COMPARED))
        same = [other for other in compared if other.casefold() == folded]
        near = same[:3] or difflib.get_close_matches(name, compared, n=3, cutoff=0.6)
        if near:
            return near
    return []


def read_user_ids(path: str | Path, column: str = "user_id") -> list[str]:
    """User ids from a file: Parquet or CSV with the column `column`, else text with one id a line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such column, or no id in it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a file of user ids, one a line")
    kind = path.suffix.lower()
    if kind in (".parquet", ".csv", ".tsv"):
        if kind == ".parquet":
            table = read_parquet(path)
        else:
            table = pl.read_csv(path.read_bytes(), separator="\t" if kind == ".tsv" else ",", infer_schema=False)
        if column not in table.columns:
            raise ValueError(f"{path} has no column '{column}' (it has: {', '.join(table.columns)})")
        ids = external_ids(table[column].drop_nulls().to_list())
    else:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ValueError(f"{path} holds no user id; expected one a line")
    return ids
