"""The kept interactions of an input, numbered as they come, each with its source line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.data.items import ItemRows, TextVotes
from llm_esr.data.numbering import Numbering
from llm_esr.tables.cleaning import Cleaner
from llm_esr.tables.row_report import RowReport, lines_of
from llm_esr.tables.source_lines import SourceLines


@dataclass
class Interactions:
    """Interactions of all chunks, in the order of the input, with numbers that are not final yet."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None
    order: NDArray[np.int64] | NDArray[np.float64] | None
    user_numbers: Numbering
    item_numbers: Numbering
    source_lines: SourceLines
    canonical: bool = False  # numbered by id, and ties in time are ordered by item: see `make_canonical`


def make_canonical(interactions: Interactions, votes: TextVotes | None) -> None:
    """Number users and items by their ids, in place, so that the data set does not depend on how parts are cut.

    The parts of a folder have no order of their own. Where there is a time or an order column, interactions that agree
    in both are ordered by item, too; else a user's interactions stay in the order of the parts.
    """
    moved = interactions.user_numbers.sort_by_id()
    interactions.users = moved[interactions.users]
    moved = interactions.item_numbers.sort_by_id()
    interactions.items = moved[interactions.items]
    if votes is not None:
        votes.move(moved)
        votes.ties_by_text = True
    interactions.canonical = interactions.timestamps is not None or interactions.order is not None


def collect(cleaner: Cleaner, votes: TextVotes | None) -> Interactions:
    """Read every chunk; texts of items go to `votes`.

    Raises:
        ValueError: no row is left.
    """
    user_numbers, item_numbers, source_lines = Numbering(), Numbering(), SourceLines()
    users: list[NDArray[np.int32]] = []
    items: list[NDArray[np.int32]] = []
    times: list[NDArray[np.int64]] = []
    order: list[Any] = []
    for clean in cleaner.chunks():
        kept, typed = clean.kept, clean.source.typed
        # Rows that are dropped for another reason than their ids number too: the numbers follow the raw table.
        all_users, all_items = (
            user_numbers.number(clean.users, typed=typed),
            item_numbers.number(clean.items, typed=typed),
        )
        users.append(all_users[kept])
        items.append(all_items[kept])
        if clean.timestamps is not None:
            times.append(clean.timestamps[kept])
        if clean.order is not None:
            order.append(clean.order[kept])
        source_lines.add(clean.source, clean.lines[kept])
        if votes is not None and votes.columns:
            votes.add(items[-1], clean.texts.filter(pl.Series(kept)))
    if not any(len(part) for part in users):
        _nothing_left(cleaner.report)
    return Interactions(
        _joined(users), _joined(items), _joined(times) if times else None, _joined(order) if order else None,
        user_numbers, item_numbers, source_lines,
    )  # fmt: skip


def settle_ids(interactions: Interactions, texts: ItemRows | None, votes: TextVotes | None) -> list[str]:
    """Write whole numbers without the `.0` of text files where a kind's ids are numbers throughout; notes say so.

    Items of the interactions and of the items table are one kind.
    """
    items = interactions.item_numbers.forms
    if texts is not None:
        items = items.with_those_of(texts.forms)
        interactions.item_numbers.forms = texts.forms = items
    if interactions.user_numbers.forms.drops_fractions:
        moved = interactions.user_numbers.drop_fractions()
        if moved is not None:
            interactions.users = moved[interactions.users]
    if items.drops_fractions:
        moved = interactions.item_numbers.drop_fractions()
        if moved is not None:
            interactions.items = moved[interactions.items]
            if votes is not None:
                votes.move(moved)
    forms = {"user": interactions.user_numbers.forms, "item": items}
    return [note for kind, form in forms.items() if (note := form.note(kind)) is not None]


def _joined(parts: list[Any]) -> Any:
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _nothing_left(report: RowReport) -> None:
    report.kept = report.read - sum(report.counts.values())
    raise ValueError(
        "no interaction is left; expected rows with a user, an item and, where there is such a column, a timestamp "
        "(an integer in --timestamp-unit or ISO 8601)\n" + "\n".join(lines_of(report.as_dict(), "interactions"))
    )
