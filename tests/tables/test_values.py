"""Ids, times and numbers as they come in columns."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_esr.tables.values import id_text, one_timestamp, timestamps

SECOND = 1_000_000_000


def nanoseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize(
    ("column", "typed", "expected"),
    [
        (pl.Series([17850.0, 1.5, None, float("nan"), float("inf")]), True, ["17850", "1.5", None, None, None]),
        (pl.Series([17850, None]), True, ["17850", None]),
        (pl.Series(["17850.0", " a ", "", "  ", None]), False, ["17850.0", "a", None, None, None]),
        (pl.Series(["1.0", "v1.0"]), True, ["1.0", "v1.0"]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), True, ["a", "b"]),
        (pl.Series([None, None], dtype=pl.Null), True, [None, None]),
        (pl.Series([2**62], dtype=pl.UInt64), True, [str(2**62)]),
    ],
)
def test_ids_are_texts_without_blanks_and_integral_floats_lose_their_point(
    column: pl.Series, typed: bool, expected: list[str | None]
) -> None:
    assert id_text(column, typed=typed).to_list() == expected


def test_a_list_is_no_id() -> None:
    with pytest.raises(TypeError, match="List"):
        id_text(pl.Series([[1], [2]]), typed=True)


@given(
    st.datetimes(datetime(1700, 1, 1), datetime(2199, 12, 30), timezones=st.just(UTC)),
    st.sampled_from([0, 60, -330, 765]),
    st.sampled_from(["T", " "]),
)
def test_iso_texts_are_read_as_python_reads_them(moment: datetime, minutes: int, between: str) -> None:
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    naive = moment.replace(tzinfo=None)
    texts = [local.isoformat(between), naive.isoformat(between), naive.isoformat(between) + "Z", f" {naive.date()} "]
    expected = [nanoseconds(moment)] * 3 + [nanoseconds(datetime.combine(naive.date(), datetime.min.time(), UTC))]
    assert timestamps(pl.Series(texts), "s").nanoseconds.to_list() == expected


@given(st.integers(-(10**9), 7 * 10**9), st.sampled_from(["s", "ms", "us", "ns"]))
def test_integers_are_read_in_their_unit_whatever_their_type(value: int, unit: str) -> None:
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    for column in (pl.Series([value]), pl.Series([str(value)]), pl.Series([float(value)]), pl.Series([f"{value}.0"])):
        times = timestamps(column, unit)
        assert times.nanoseconds.to_list() == [value * factor]
        assert not times.beyond.any()


def test_the_fraction_of_a_float_of_seconds_survives() -> None:
    assert timestamps(pl.Series([1_600_000_000.25]), "s").nanoseconds[0] == 1_600_000_000 * SECOND + SECOND // 4


@pytest.mark.parametrize(
    "text", ["yesterday", "31/12/2024", "2024-13-01", "2024-02-30", "2024-01-01T25:00", "", "nan", "9999-12-31"]
)
def test_what_is_no_time_is_null(text: str) -> None:
    times = timestamps(pl.Series([text]), "s")
    assert times.nanoseconds.to_list() == [None]
    assert not times.beyond.any()


def test_datetimes_are_utc_where_they_have_no_zone() -> None:
    moment = datetime(2024, 5, 31, 12, 0, 0, 123456)
    naive = pl.Series([moment])
    zoned = pl.Series([moment]).dt.replace_time_zone("Europe/Berlin")
    assert timestamps(naive, "s").nanoseconds[0] == nanoseconds(moment.replace(tzinfo=UTC))
    assert timestamps(zoned, "s").nanoseconds[0] == nanoseconds(moment.replace(tzinfo=UTC)) - 7200 * SECOND
    assert timestamps(pl.Series([date(1970, 1, 2)]), "s").nanoseconds[0] == 86_400 * SECOND
    assert timestamps(pl.Series([datetime(9999, 1, 1)]), "s").nanoseconds[0] is None


def test_an_integer_beyond_the_year_2200_is_told_apart_from_no_time() -> None:
    for column in (pl.Series([1_600_000_000_000]), pl.Series(["1600000000000"]), pl.Series([1.6e12])):
        times = timestamps(column, "s")
        assert times.beyond.to_list() == [True]
        assert not timestamps(column, "ms").beyond.any()


def test_a_time_option_says_what_it_expects() -> None:
    assert one_timestamp("2024-01-01", "s", "--test-from") == one_timestamp(1_704_067_200, "s", "--test-from")
    with pytest.raises(ValueError, match=r"--test-from 'soon' is no time; .*ISO 8601"):
        one_timestamp("soon", "s", "--test-from")
    with pytest.raises(ValueError, match=r"--test-from 1704067200000 .* --timestamp-unit ms"):
        one_timestamp(1_704_067_200_000, "s", "--test-from")
