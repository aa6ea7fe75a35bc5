"""The files that Yelp and Amazon publish: their columns, and one flat row of texts from each record of the items.

Amazon's metadata of 2014 has Python literals where JSON is expected (single quotes). They are read by
`ast.literal_eval`, which builds constants and runs nothing.
"""

from __future__ import annotations

import ast
import html
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llm_esr.config import DataConfig
from llm_esr.tables.values import number_text

# A syntax tree takes some hundred times the text's memory; the longest line of Amazon's metadata has 60 KB.
LITERAL_BYTES = 1 << 20

_QUOTED = re.compile(r"(?:\bu)?'([^']*)'")


@dataclass(frozen=True)
class PublishedFormat:
    """What the files of one publisher look like."""

    settings: dict[str, Any]  # of `DataConfig`, where nothing else was said
    texts: dict[str, Callable[[dict[str, Any]], str | None]]  # text column -> its text, from an item's record
    literals: bool = False  # whether an item's line may be a Python literal


def resolved(config: DataConfig) -> DataConfig:
    """`config` with the columns of its `source` wherever none was named."""
    if config.source == "table":
        return config
    own = PUBLISHED_FORMATS[config.source].settings
    return DataConfig.model_validate({**own, **config.model_dump(exclude_unset=True)})


def item_reader(publisher: str, id_column: str) -> Callable[[bytes], Any]:
    """A function from an item's line to a flat record: the id, then every text column of the publisher (None: absent).

    It raises a `ValueError` for a line that is no record, and returns what is no object as it is.
    """
    published = PUBLISHED_FORMATS[publisher]
    parse = _json_or_literal if published.literals else parse_json

    def read(line: bytes) -> Any:
        record = parse(line)
        if not isinstance(record, dict):
            return record
        try:
            flat: dict[str, Any] = {name: text(record) for name, text in published.texts.items()}
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return {id_column: _id(record.get(id_column)), **flat} if id_column in record else flat

    return read


def parse_json(line: bytes) -> Any:
    """One JSON value.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def _json_or_literal(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        pass  # 2014
    if len(line) > LITERAL_BYTES:
        raise ValueError(f"not JSON, and with {len(line):,} bytes too long for a Python literal")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" says nothing of the data
            return ast.literal_eval(line.decode("utf-8"))
    except SyntaxError as error:
        raise ValueError(f"neither JSON nor a Python literal: {error.msg}") from None
    except (ValueError, TypeError, RecursionError, MemoryError) as error:  # MemoryError: the parser's word for nesting
        first = re.sub(r" on line \d+| <ast\..*|: <.*", "", str(error).splitlines()[0]) if str(error) else "too deep"
        raise ValueError(f"neither JSON nor a Python literal: {first}") from None


def _id(value: Any) -> Any:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _plain(value: Any) -> str | None:
    """Any value as text: parts of a list or object joined by `; `, what is empty left out."""
    text: str | None
    match value:
        case None:
            text = None
        case str():
            text = " ".join(html.unescape(value).split())
        case int() | float() if not isinstance(value, bool):
            text = number_text(value) if math.isfinite(value) else None
        case dict():
            text = _join((f"{key}: {part}" for key, inner in value.items() if (part := _plain(inner))), "; ")
        case list() | tuple() | set():
            text = _join(map(_plain, value), "; ")
        case _:
            text = str(value)
    return text or None


def _join(parts: Iterable[str | None], mark: str) -> str | None:
    return mark.join(part for part in parts if part) or None


def _paths(value: Any) -> str | None:
    """`[['Beauty', 'Skin'], ['Beauty', 'Hair']]` as `Beauty > Skin; Beauty > Hair`, `['Beauty', 'Skin']` likewise."""
    if not isinstance(value, list | tuple):
        return _plain(value)
    if any(isinstance(part, list | tuple) for part in value):
        return _join(map(_paths, value), "; ")
    return _join(map(_plain, value), " > ")


def _paragraphs(value: Any) -> str | None:
    return _join(map(_plain, value), " ") if isinstance(value, list | tuple) else _plain(value)


def _attributes(value: Any) -> str | None:
    """Yelp's attributes: their values are texts of Python values, such as `u'free'` or `{'garage': False}`."""
    if not isinstance(value, dict):
        return _plain(value)
    unquoted = {
        key: _QUOTED.sub(r"\1", part).strip("{} ") if isinstance(part, str) else part for key, part in value.items()
    }
    return _plain({key: part for key, part in unquoted.items() if part != "None"})


PUBLISHED_FORMATS: dict[str, PublishedFormat] = {
    "yelp": PublishedFormat(
        {"user_column": "user_id", "item_column": "business_id", "timestamp_column": "date"},
        {
            "name": lambda record: _plain(record.get("name")),
            "city": lambda record: _plain(record.get("city")),
            "state": lambda record: _plain(record.get("state")),
            "categories": lambda record: _plain(record.get("categories")),
            "stars": lambda record: _plain(record.get("stars")),
            "attributes": lambda record: _attributes(record.get("attributes")),
        },
    ),
    "amazon": PublishedFormat(
        {
            "user_column": "reviewerID",
            "item_column": "asin",
            "timestamp_column": "unixReviewTime",
            "timestamp_unit": "s",
        },
        {
            "title": lambda record: _plain(record.get("title")),
            "brand": lambda record: _plain(record.get("brand")),
            "price": lambda record: _plain(record.get("price")),
            # 2014 says `categories` (several paths), 2018 `category` (one) and `feature`.
            "categories": lambda record: _paths(record.get("categories", record.get("category"))),
            "features": lambda record: _plain(record.get("feature")),
            "description": lambda record: _paragraphs(record.get("description")),
        },
        literals=True,
    ),
}
