"""An item's attributes, and views of it that lack some of them.

Attributes are (column, value) pairs, read once; prompts and views are made from them, and no text is taken apart again.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_esr.data import Dataset
from llm_esr.semantics.prompts import MISSING

Attribute = tuple[str, str]

# What may stand between the values of a column, in the order in which it is looked for.
_SEPARATORS = (" > ", "|", ", ")
_LEAST_SHARE = 0.1  # of a column's texts that must hold a separator


@dataclass(frozen=True)
class ItemAttributes:
    """The attributes of all items.

    Attributes:
        rows: each item's attributes, in the order of the columns; the item of row r has the id r + 1.
        separators: the columns, each with what stands between its values; None: a text is one value.
        title: the column whose text stands without its name.
        header: a first line, and with it the paper's form `title is ...; brand is ...`.
    """

    rows: list[list[Attribute]]
    separators: dict[str, str | None]
    title: str | None
    header: str | None = None

    def text(self, kept: Sequence[Attribute]) -> str:
        """A prompt of some attributes: columns by their first value, the values of one column side by side."""
        columns: dict[str, list[str]] = {}
        for column, value in kept:
            columns.setdefault(column, []).append(value)
        joined = {name: (self.separators.get(name) or ", ").join(values) for name, values in columns.items()}
        if self.header is not None:
            listed = "; ".join(f"{name} is {text}" for name, text in joined.items())
            return f"{self.header}\n {listed}" if listed else self.header
        return " ".join(
            f"{text}." if name == self.title else f"{name.replace('_', ' ')}: {text}." for name, text in joined.items()
        )

    @property
    def trained(self) -> NDArray[np.int64]:
        """Rows of the items that have two attributes and more: what one lacks the other may have."""
        return np.flatnonzero([len(row) > 1 for row in self.rows])

    def view(self, row: int, draw: tuple[int, int, int], ratio: float, *, keep_title: bool = False) -> list[Attribute]:
        """A view of an item with two attributes or more: some of them, in an order of their own.

        Args:
            row: the item.
            draw: (seed, epoch, view): with `row` it decides the draw, whatever was drawn before.
            ratio: the share that is dropped; at least one is, and at least one stays.
            keep_title: whether the title always stays, in front.
        """
        attributes = self.rows[row]
        seed, epoch, view = draw
        order = np.random.default_rng([seed, epoch, row, view]).permutation(len(attributes))
        if keep_title:
            order = np.array(sorted(order, key=lambda at: attributes[at][0] != self.title))
        return [attributes[at] for at in kept(order, ratio)]


def kept(order: NDArray[np.int64], ratio: float, *, guarded: bool = True) -> NDArray[np.int64]:
    """What stays of a permutation of A attributes: all but the last `floor(ratio A)`.

    `guarded`: of two and more at least one is dropped and at least one stays; LLMEmb's own code does not see to that.
    """
    count = len(order)
    dropped = int(ratio * count)
    if guarded and count > 1:
        dropped = min(max(dropped, 1), count - 1)
    return order[: count - dropped]


def item_attributes(data: Dataset, columns: Sequence[str] | None = None, header: str | None = None) -> ItemAttributes:
    """Read the attributes of all items.

    The title is one attribute. Another column gives several where its texts are lists or paths: where a separator
    (` > `, `|` or `, `) stands in a tenth of them and what it parts recurs, each part twice on average. Values that are
    empty or `unknown` are none.

    Args:
        data: a data set with text columns.
        columns: text columns; None: all.
        header: see `ItemAttributes`.

    Raises:
        ValueError: no text columns, a column that is not there, or fewer than two items with two attributes.
    """
    known = list(dict.fromkeys([*([data.title_column] if data.title_column else []), *data.text_columns]))
    columns = list(dict.fromkeys(columns if columns is not None else known))
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"embed.tune_attributes (--attributes) names '{name}', which is no text column{hint} "
                f"(there are: {', '.join(known) or 'none'})"
            )
    table = data.item_table()
    separators: dict[str, str | None] = {}
    rows: list[list[Attribute]] = [[] for _ in range(data.n_items)]
    for name in columns:
        texts = [text or "" for text in table[name].to_list()]
        separator = separators[name] = None if name == data.title_column else _separator(texts)
        for row, text in zip(rows, texts, strict=True):
            values = (part.strip() for part in (text.split(separator) if separator else [text]))
            row += [(name, value) for value in dict.fromkeys(values) if value and value.lower() != MISSING]
    found = ItemAttributes(rows, separators, data.title_column, header)
    if len(found.trained) < 2:
        raise ValueError(
            f"{data.folder} has {len(found.trained)} items with two attributes or more in {', '.join(columns) or '-'}; "
            "tuning on attributes needs two such items at least: name more columns with embed.tune_attributes "
            "(--attributes), or leave embed.tune out"
        )
    return found


def _separator(texts: Sequence[str]) -> str | None:
    """What parts the texts of a column into values that recur."""
    texts = [text for text in texts if text]
    for separator in _SEPARATORS:
        holding = sum(separator in text for text in texts)
        parts = [part.strip() for text in texts for part in text.split(separator)]
        if holding and holding >= _LEAST_SHARE * len(texts) and 2 * len(set(parts)) <= len(parts):
            return separator
    return None
