"""External ids: what callers say, turned into the numbers of a data set, with a helping hand where one is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from llm_esr.doors import warn
from llm_esr.files import given_path, read_text_file
from llm_esr.tables.formats import format_of, open_sources
from llm_esr.tables.source import chunks_of
from llm_esr.tables.values import id_text, without_fraction

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_SHOWN = 5  # unknown ids that a message names
_COMPARED = 20_000  # ids that are compared letter by letter to find a near one


def external_id(value: Any) -> str:
    """An id as `prepare` writes it: text without outer blanks; a whole number, float or decimal without a fraction.

    Raises:
        ValueError: what is neither text nor a number, NaN and infinity, or nothing but blanks.
    """
    if isinstance(value, str):
        text: str | None = value.strip()
    elif isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        text = str(int(value))
    elif isinstance(value, Decimal) and not value.is_finite():
        text = None
    elif isinstance(value, (float, np.floating, Decimal)):
        # By the function that writes the ids of a data set.
        text = id_text(pl.Series(np.array([value]) if isinstance(value, np.floating) else [value]), typed=True)[0]
    else:
        raise ValueError(f"an id is text or a number, got {value!r} ({type(value).__name__})")
    if not text:
        raise ValueError(f"an id is text or a number, got {value!r}, which says nothing")
    return text


def external_ids(values: Any) -> list[str]:
    """One id or several, from anything that can be gone through once.

    Raises:
        ValueError: not that, or an id that is none.
    """
    if isinstance(values, (str, int, float, np.number, Decimal)):
        return [external_id(values)]
    try:
        found = iter(values)
    except TypeError:
        raise ValueError(f"expected an id or several, got {values!r:.80} ({type(values).__name__})") from None
    return [external_id(value) for value in found]


def ids_in(data: Dataset, kind: Literal["user", "item"], names: Sequence[str]) -> list[str]:
    """The ids as the data set knows them: where its ids are numbers, `17850.0` is 17850."""
    if kind not in data.numeric_ids:
        return list(names)
    index = data.user_index if kind == "user" else data.item_index
    return [name if name in index else without_fraction(pl.Series([name]))[0] for name in names]


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
    same_number = [other for other in (f"{name}.0", name.removesuffix(".0")) if other != name and other in known]
    if same_number:
        return same_number
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


def read_user_ids(path: str | Path, column: str | Sequence[str] = "user_id") -> list[str]:
    """User ids from a file: a table (Parquet, CSV, TSV, JSON lines, also gzip), else text with one id a line.

    Args:
        path: the file; what it is goes by its name.
        column: the table's column of ids, or several names of which the first that is there is taken.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such column, rows that cannot be read, or no id at all.
    """
    path = given_path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a file of user ids, one a line")
    if format_of(path) not in (None, "inter"):
        ids = _ids_of_table(path, [column] if isinstance(column, str) else list(column))
    else:
        ids = [line.strip() for line in read_text_file(path).splitlines() if line.strip()]
    if not ids:
        raise ValueError(f"{path} holds no user id; expected one a line")
    return ids


def _ids_of_table(path: Path, columns: list[str]) -> list[str]:
    (source,) = open_sources(path, "auto", "users", (columns[0], columns[0]))
    name = next((name for name in columns if name in source.columns), None)
    if name is None:
        wanted = " or ".join(repr(column) for column in dict.fromkeys(columns))
        raise ValueError(f"{path} has no column {wanted} (it has: {', '.join(source.columns)})")
    found: list[str] = []
    without = 0
    for chunk in chunks_of(source, [name]):
        if chunk.malformed:
            first = chunk.malformed[0]
            raise ValueError(
                f"{path}: {source.line_kind} {first.line} is no row of the table ({first.reason}): {first.text!r}; "
                "correct it, since a user would be lost"
            )
        try:
            ids = id_text(chunk.frame[name], typed=source.typed)
        except TypeError as error:
            raise ValueError(f"{path}: column '{name}' holds {error}; expected texts or numbers as ids") from None
        without += ids.null_count()
        found += ids.drop_nulls().to_list()
    if without:
        warn(f"{path}: {without:,} rows without an id in '{name}' are passed over")
    return found
