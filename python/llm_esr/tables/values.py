"""Ids, times, order values and numbers from a raw column; a value that cannot be read becomes a null, never a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

Unit = Literal["s", "ms", "us", "ns"]

NANOSECONDS: dict[str, int] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
YEAR_2200 = 7_258_118_400 * NANOSECONDS["s"]  # 2200-01-01 UTC
EARLIEST = -9_214_560_000 * NANOSECONDS["s"]  # 1678-01-01 UTC: nanoseconds in 64 bits begin in 1677

_ISO = (
    r"^\s*(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"\s*(?P<zone>Z|z|UTC|[+-]\d{2}:?\d{2}|[+-]\d{2})?)?\s*$"
)


def number_text(value: float) -> str:
    """A number as an external id: an integral float loses its `.0`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_WHOLE_FLOAT = r"^([+-]?\d+)\.0+$"
# Numbers as `id_text` writes them. Python reads more as one: '007', '1_0', ' 7' and digits of every script.
_WRITTEN = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]*[1-9])?(?P<power>e[+-]?[0-9]+)?")


_LONGEST = 20  # digits and sign of 64 bits
# Types in which external ids are given back where a table has them; all others are texts.
ID_TYPES: Mapping[str, pl.DataType] = {
    str(kind): kind()
    for kind in (
        pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64
    )
}  # fmt: skip


def given_ids(ids: Sequence[str], type_name: object) -> tuple[NDArray[Any], pl.DataType]:
    """External ids as their table had them, and their type: numbers where it has one of `ID_TYPES`, else texts.

    Made by Python: what serves in a forked child must not ask the threads of polars.

    Args:
        ids: as `id_text` made them; those that came later, and are not written as their numbers are, make all of
            them texts: as a number '007' would be another item's 7.
        type_name: what a data set has noted, perhaps nothing.

    """
    type_ = ID_TYPES.get(type_name) if isinstance(type_name, str) else None
    values: list[Any] = list(ids)
    if type_ is not None and all(_is_written(one, whole=type_.is_integer()) for one in ids):
        values = [float(one) for one in ids] if type_.is_float() else [int(one) for one in ids]
    else:
        type_ = None
    if type_ is not None and type_.is_integer():
        limits = np.iinfo(str(type_).lower())
        if values and not limits.min <= min(values) <= max(values) <= limits.max:
            type_ = None
    if type_ is None:
        return np.array(ids, dtype=object), pl.String()
    return np.array(values, dtype=object), type_


def _is_written(text: str, *, whole: bool) -> bool:
    """Whether a text is what `id_text` makes of a number, a whole one perhaps."""
    found = _WRITTEN.fullmatch(text)
    if found is None or text == "-0":
        return False
    if whole:
        return len(text) <= _LONGEST and found["fraction"] is None and found["power"] is None
    # A whole float has neither a fraction nor, below 2^63, a power; two texts of one float would be one item.
    value = float(text)
    return math.isfinite(value) and (abs(value) >= 2.0**63 or not value.is_integer() or text == str(int(value)))


def id_text(column: pl.Series, *, typed: bool) -> pl.Series:
    """External ids as text, without outer blanks; empty and NaN become null.

    `typed`: the column has a type of its own. An integral float or decimal loses its `.0`; a text stays what it is. In
    a text file `17850.0` may be a float, too, as pandas writes an integer column with gaps: whether it is one is seen
    from the whole column (`IdForms`).

    Raises:
        TypeError: a type that holds no ids (lists, structs, binary).
    """
    kind = column.dtype
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        raise TypeError(f"{kind}")
    if kind.is_float():
        column = column.fill_nan(None)
        values = column.cast(pl.Float64)
        whole = (values == values.round(0)) & (values.abs() < 2.0**63)
        integral = values.zip_with(whole.fill_null(False), pl.Series([None], dtype=pl.Float64)).cast(pl.Int64)
        text = integral.cast(pl.String).zip_with(integral.is_not_null(), column.cast(pl.String))
        return text.zip_with(values.is_finite().fill_null(False), pl.Series([None], dtype=pl.String)).alias(column.name)
    text = column.cast(pl.String).str.strip_chars()
    if kind.is_decimal():
        text = without_fraction(text)
    return text.replace("", None)


def without_fraction(text: pl.Series) -> pl.Series:
    """Texts of whole numbers without their `.0`."""
    return text.str.replace(_WHOLE_FLOAT, "$1")


class IdForms:
    """What a column of ids looks like as a whole: numbers throughout, and whether text files write some with `.0`."""

    def __init__(self) -> None:
        self.any = False
        self.word: str | None = None  # an id that is no number
        self.float_text: str | None = None  # a whole number of a text file with a fraction of zeros

    def see(self, ids: pl.Series, *, typed: bool) -> pl.Series:
        """Look at ids of `id_text`; returns which of them are whole numbers with `.0` of a text file."""
        present = ids.drop_nulls()
        self.any = self.any or len(present) > 0
        if self.word is None:
            words = present.filter(~present.str.contains(NUMBER))
            self.word = words[0] if len(words) else None
        floats = pl.repeat(False, len(ids), eager=True) if typed else ids.str.contains(_WHOLE_FLOAT).fill_null(False)
        if self.float_text is None and floats.any():
            self.float_text = ids.filter(floats)[0]
        return floats

    @property
    def numeric(self) -> bool:
        """Whether every id is a number."""
        return self.any and self.word is None

    @property
    def drops_fractions(self) -> bool:
        """Whether the `.0` of text files goes."""
        return self.numeric and self.float_text is not None

    def with_those_of(self, other: IdForms) -> IdForms:
        """Both columns as one."""
        both = IdForms()
        both.any = self.any or other.any
        both.word = self.word if self.word is not None else other.word
        both.float_text = self.float_text or other.float_text
        return both

    def note(self, kind: str) -> str | None:
        """What was made of `.0`, in a line; None where there is none."""
        if self.float_text is None:
            return None
        whole = self.float_text.split(".")[0]
        if self.numeric:
            return f"{kind} ids are numbers throughout: {self.float_text} is written {whole}"
        return f"{kind} ids such as {self.float_text} stay as they are written: others are no numbers ({self.word})"


@dataclass(frozen=True)
class Times:
    """Timestamps read from a column."""

    nanoseconds: pl.Series  # Int64 since 1970 UTC; null: not readable
    beyond: pl.Series  # Boolean: an integer that lies beyond the year 2200 in the unit given


def timestamps(column: pl.Series, unit: str) -> Times:
    """Read datetimes (UTC where they have no zone), numbers in `unit`, or their texts, or ISO 8601 texts.

    Raises:
        TypeError: a type that holds no times.
    """
    kind = column.dtype
    if kind == pl.Date:
        column, kind = column.cast(pl.Datetime("ms")), pl.Datetime("ms")
    if isinstance(kind, pl.Datetime):
        # Compare before the conversion: the year 9999 overflows 64 bits of nanoseconds. With a zone, too, the number
        # beneath is UTC.
        factor = NANOSECONDS[kind.time_unit or "us"]
        raw = column.to_physical()
        fits = (raw >= EARLIEST // factor) & (raw < YEAR_2200 // factor)
        return Times(_where(raw, fits) * factor, pl.repeat(False, len(column), eager=True))
    if kind.is_decimal():
        return _from_text(column.cast(pl.String), unit)  # a float would round the last digits away
    if kind.is_numeric():
        return _from_numbers(column, unit)
    if kind in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return _from_text(column.cast(pl.String), unit)
    raise TypeError(f"{kind}")


def coarseness(column: pl.Series, unit: str) -> str | None:
    """What float32 loses of the times in a column, in words; None: nothing that a second would show."""
    if column.dtype != pl.Float32:
        return None
    largest = column.abs().fill_nan(None).max()
    if not isinstance(largest, int | float) or not math.isfinite(largest):
        return None
    step = float(np.spacing(np.float32(largest))) * NANOSECONDS[unit] / NANOSECONDS["s"]
    return f"tells times only in steps of {step:,.0f} s" if step > 1 else None


def shown_time(column: pl.Series, row: int) -> object:
    """A value of a column of times as a message shows it: Python and polars have no text for the year 292,277."""
    kind = column.dtype
    if not isinstance(kind, pl.Datetime):
        return column[row]
    raw = column.to_physical()[row]
    seconds = None if raw is None else raw * NANOSECONDS[kind.time_unit or "us"] // NANOSECONDS["s"]
    if seconds is None or -62_000_000_000 < seconds < 253_000_000_000:  # the years 5 to 9987
        return column[row]
    return f"{raw} {kind.time_unit} from 1970"


def _where(values: pl.Series, keep: pl.Series) -> pl.Series:
    return values.zip_with(keep.fill_null(False), pl.Series([None], dtype=values.dtype))


def _from_numbers(column: pl.Series, unit: str) -> Times:
    factor = NANOSECONDS[unit]
    if column.dtype.is_integer():
        # In 64 bits, whatever width the column has: the limits do not fit the smaller ones.
        raw = column.cast(pl.Int64, strict=False)
        beyond = (raw >= YEAR_2200 // factor).fill_null(False) | (
            raw.is_null() & (column.cast(pl.Float64) > 0).fill_null(False)
        )
        return Times(_where(raw, (raw >= EARLIEST // factor) & ~beyond) * factor, beyond)
    values = column.cast(pl.Float64)
    finite = values.is_finite().fill_null(False)
    beyond = (values >= YEAR_2200 // factor).fill_null(False) & finite
    good = _where(values, finite & (values >= EARLIEST / factor) & ~beyond)
    whole = good.floor()
    # Whole units and the rest apart: a float of 1.6e9 seconds times 1e9 would round away microseconds.
    rest = ((good - whole) * factor).round(0).cast(pl.Int64)
    return Times(whole.cast(pl.Int64) * factor + rest, beyond)


def _from_text(column: pl.Series, unit: str) -> Times:
    text = column.str.strip_chars()
    whole = text.cast(pl.Int64, strict=False)
    numbers = _from_numbers(whole, unit)
    times, beyond = numbers.nanoseconds, numbers.beyond
    rest = whole.is_null() & text.is_not_null()
    if rest.any():
        decimal = _where(
            text, rest & text.str.contains(r"^[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?$|^[+-]?\d+\.$").fill_null(False)
        )
        numbers = _from_decimals(decimal, unit)
        times = times.zip_with(times.is_not_null(), numbers.nanoseconds)
        beyond = beyond | numbers.beyond
        times = times.zip_with(times.is_not_null(), _from_iso(_where(text, rest)))
    return Times(times, beyond)


def _from_decimals(text: pl.Series, unit: str) -> Times:
    """Texts of numbers with a fraction: the whole units and the fraction apart, so that no digit is rounded away."""
    factor = NANOSECONDS[unit]
    parts = text.str.extract_groups(r"^([+-]?)(\d*)(?:\.(\d*))?$").struct.unnest()
    sign, whole, fraction = (parts.to_series(number) for number in range(3))
    units = whole.replace("", "0").cast(pl.Int64, strict=False)
    rest = ("0." + fraction.fill_null("0") + "0").cast(pl.Float64, strict=False)
    plain = units.is_not_null() & rest.is_not_null()
    fits = units < YEAR_2200 // factor
    exact = _where(units, fits) * factor + (rest * factor).round(0).cast(pl.Int64, strict=False)
    exact = exact.zip_with(sign != "-", -exact) if len(exact) else exact
    others = _from_numbers(_where(text, ~plain.fill_null(False)).cast(pl.Float64, strict=False), unit)
    beyond = others.beyond | (plain & ~fits & (sign != "-")).fill_null(False)
    good = _where(exact, (exact >= EARLIEST) & (exact < YEAR_2200))
    return Times(good.zip_with(good.is_not_null(), others.nanoseconds), beyond)


def _from_iso(text: pl.Series) -> pl.Series:
    """ISO 8601 texts as nanoseconds since 1970 UTC; null where a text is none."""
    parts = pl.DataFrame({"text": text}).select(pl.col("text").str.extract_groups(_ISO)).unnest("text")
    zone = pl.col("zone").str.replace(":", "")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    hours, minutes = (
        zone.str.slice(1, 2).cast(pl.Int64, strict=False),
        zone.str.slice(3, 2).cast(pl.Int64, strict=False),
    )
    number = {name: pl.col(name).cast(pl.Int64, strict=False).fill_null(0) for name in ("hour", "minute", "second")}
    seconds = (
        pl.col("date").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64) * 86_400
        + number["hour"] * 3600
        + number["minute"] * 60
        + number["second"]
        - sign * (hours.fill_null(0) * 3600 + minutes.fill_null(0) * 60)
    )
    valid = (number["hour"] < 24) & (number["minute"] < 60) & (number["second"] <= 60)
    low, high = EARLIEST // NANOSECONDS["s"], YEAR_2200 // NANOSECONDS["s"]
    part = pl.col("part").fill_null("0").str.pad_end(9, "0").cast(pl.Int64)
    made = parts.select(
        pl.when(valid & (seconds >= low) & (seconds < high)).then(seconds * NANOSECONDS["s"] + part).alias("time")
    )
    return made.to_series()


def one_timestamp(value: str | int, unit: str, option: str) -> int:
    """A single time given as an option, in nanoseconds.

    Raises:
        ValueError: not a time; the message names `option` and what it expects.
    """
    text = str(value).strip()
    times = _from_text(pl.Series([text], dtype=pl.String), unit)
    if times.beyond[0]:
        raise ValueError(
            f"{option} {value} lies beyond the year 2200 as {unit}; {_unit_hint(float(text))} or give an ISO date"
        )
    if times.nanoseconds[0] is None:
        raise ValueError(
            f"{option} {value!r} is no time; expected an integer in --timestamp-unit ({unit}) "
            "or ISO 8601 such as 2024-05-31 or 2024-05-31T12:00:00"
        )
    return int(times.nanoseconds[0])


def beyond_message(value: object, unit: str, source_line: str) -> str:
    """What to say of an integer timestamp beyond the year 2200."""
    number = float(str(value))
    return (
        f"{source_line}: timestamp {value} lies beyond the year 2200 when read as {unit} (--timestamp-unit {unit}); "
        f"{_unit_hint(number)}"
    )


def _unit_hint(number: float) -> str:
    fitting = [unit for unit, factor in NANOSECONDS.items() if number < YEAR_2200 // factor]
    if not fitting:
        return "no unit fits; correct the value or leave the column out with --timestamp-column ''"
    return f"give --timestamp-unit {fitting[0]}"


def numbers(column: pl.Series) -> pl.Series | None:
    """A column as Int64 or Float64 where every non-empty value is a number, else None (for the first chunk)."""
    if column.dtype.is_numeric():
        return column
    if column.dtype != pl.String:
        return None
    text = column.str.strip_chars().replace("", None)
    for kind in (pl.Int64, pl.Float64):
        read = text.cast(kind, strict=False)
        if read.null_count() == text.null_count():
            return read if text.null_count() < len(text) else None
    return None
