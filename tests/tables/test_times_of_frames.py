"""Times of every type that NumPy, pandas, Polars and Arrow have, at both ends of its range."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import llm_esr
from llm_esr.tables.values import timestamps

USERS, ITEMS = ["u"] * 4, ["a", "b", "c", "d"]


def order(frame: Any, tmp_path: Path, **settings: Any) -> tuple[list[str], dict[str, int]]:
    data = llm_esr.prepare(frame, out=tmp_path / "d", split="none", overwrite=True, **settings)
    return [data.item_ids[item - 1] for item in data.items], data.metadata["rows"]["interactions"]["kinds"]


@pytest.mark.parametrize("kind", [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
                                  pl.Float32, pl.Float64])  # fmt: skip
def test_numbers_of_every_width(kind: Any, tmp_path: Path) -> None:
    times = pl.Series([3, 1, 2, 4], dtype=kind)
    assert order(pl.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": times}), tmp_path)[0] == list("bcad")
    pandas = pd.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": times.to_numpy()})
    assert order(pandas, tmp_path)[0] == list("bcad")
    arrow = pl.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": times}).to_arrow()
    assert order(arrow, tmp_path)[0] == list("bcad")


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_integers_at_both_ends(kind: Any, unit: str) -> None:
    ends = np.iinfo(kind)
    factor = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[unit]
    found = timestamps(pl.Series(np.array([ends.min, ends.max], kind)), unit)
    for place, value in enumerate((int(ends.min), int(ends.max))):
        nanoseconds = value * factor
        readable = -9_214_560_000 * 10**9 <= nanoseconds < 7_258_118_400 * 10**9
        assert found.nanoseconds[place] == (nanoseconds if readable else None)
        assert found.beyond[place] == (nanoseconds >= 7_258_118_400 * 10**9)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_datetimes_that_nanoseconds_do_not_hold_are_rejected_not_wrapped(
    unit: str, zone: str | None, tmp_path: Path
) -> None:
    last = "9999-12-31" if unit != "ns" else "2262-04-01"
    first = "0001-01-03" if unit != "ns" else "1677-09-25"
    stamps = np.array(["2024-01-02", last, "2024-01-01", first], dtype=f"datetime64[{unit}]")
    column = pd.Series(stamps) if zone is None else pd.Series(stamps).dt.tz_localize(zone)
    for frame in (
        pd.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": column}),
        pa.table({"user_id": USERS, "item_id": ITEMS, "timestamp": pa.array(stamps, pa.timestamp(unit, tz=zone))}),
    ):
        assert order(frame, tmp_path) == (["c", "a"], {"bad_timestamp": 2})


def test_missing_and_extreme_datetimes(tmp_path: Path) -> None:
    for unit in ("s", "ms", "us", "ns"):
        raw = np.array([5, np.iinfo(np.int64).min, 3, 4], np.int64).view(f"datetime64[{unit}]")  # the second is NaT
        frame = pd.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": raw})
        assert order(frame, tmp_path) == (["c", "d", "a"], {"bad_timestamp": 1})
    extreme = np.array([5, np.iinfo(np.int64).max, 3, -np.iinfo(np.int64).max], np.int64).view("datetime64[s]")
    frame = pd.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": extreme})
    assert order(frame, tmp_path) == (["c", "a"], {"bad_timestamp": 2})


def test_objects_of_dates_and_times(tmp_path: Path) -> None:
    for values, expected in (
        ([dt.date(2024, 1, day) for day in (1, 3, 2, 4)], "acbd"),
        ([dt.datetime(2024, 1, day) for day in (1, 3, 2, 4)], "acbd"),
        ([dt.datetime(2024, 1, 1), dt.datetime(9999, 12, 31), dt.datetime(2024, 1, 2), dt.datetime(1, 1, 1)], "ac"),
        ([Decimal("1600000000.3"), Decimal("1600000000.1"), Decimal("1600000000.2"), Decimal("1600000000.4")], "bcad"),
    ):
        frame = pd.DataFrame({"user_id": USERS, "item_id": ITEMS, "timestamp": pd.Series(values, dtype=object)})
        assert order(frame, tmp_path)[0] == list(expected)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1600000000.123456789", 1_600_000_000_123_456_789),
        ("1600000000.1", 1_600_000_000_100_000_000),
        ("-1.5", -1_500_000_000),
        (".25", 250_000_000),
        ("7.", 7_000_000_000),
        ("1.6e9", 1_600_000_000_000_000_000),
        ("8000000000.5", None),
        ("99999999999999999999.5", None),
        ("-99999999999999999999.5", None),
        ("1.2.3", None),
    ],
)
def test_no_digit_of_a_decimal_is_rounded_away(text: str, nanoseconds: int | None) -> None:
    assert timestamps(pl.Series([text]), "s").nanoseconds[0] == nanoseconds
    if "e" not in text and text.count(".") == 1 and len(text) < 21 and not text.endswith("."):
        assert timestamps(pl.Series([Decimal(text)]), "s").nanoseconds[0] == nanoseconds


def test_what_float32_loses_of_times_is_said(tmp_path: Path) -> None:
    seconds = [1_600_000_000 + 60 * n for n in range(4)]
    for kind, said in ((np.float32, True), (np.float64, False)):
        frame = pl.DataFrame({"user_id": ["u"] * 4, "item_id": list("abcd"), "timestamp": np.array(seconds, kind)})
        data = llm_esr.prepare(frame, out=tmp_path / kind.__name__)
        notes = [note for note in data.metadata["notes"] if "float32" in note]
        assert len(notes) == said
        if said:
            assert notes[0].startswith("column 'timestamp' is float32, which tells times only in steps of 128 s: ")
        assert data.history(0, "serving").tolist() == [1, 2, 3, 4]
