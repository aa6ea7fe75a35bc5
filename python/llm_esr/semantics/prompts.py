"""What the language model reads: one prompt an item from its texts, one prompt a user from its training items."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from llm_esr.data import Dataset
from llm_esr.semantics.templates import ITEM_TEMPLATES, USER_TEMPLATES

MISSING = "unknown"
DEFAULT_USER_TEMPLATE = "The user has chosen these items, oldest first: {history}. Conclude the user's preference."


def default_item_template(text_columns: Sequence[str], title_column: str | None = None) -> str:
    """The title first, then every other text column after its name, as in `{title}. brand: {brand}.`."""
    parts = [f"{{{title_column}}}."] if title_column is not None else []
    parts += [f"{name.replace('_', ' ')}: {{{name}}}." for name in text_columns if name != title_column]
    return " ".join(parts)


def parse_template(template: str, known: Sequence[str], setting: str) -> list[tuple[str, str | None]]:
    """Cut a template into (literal text, column) pieces; only plain `{column}` fields are allowed.

    `str.format` itself is not used: it would let a template reach into objects.

    Raises:
        ValueError: unbalanced braces, a field that is not in `known`, or no field at all.
    """
    try:
        pieces = [
            (text, field, spec, conversion) for text, field, spec, conversion in string.Formatter().parse(template)
        ]
    except ValueError as error:
        raise ValueError(f"{setting} {template!r}: {error}; a literal brace is written twice") from None
    for _, field, spec, conversion in pieces:
        if field is None:
            continue
        if spec or conversion:
            raise ValueError(f"{setting} {template!r}: '{{{field}}}' takes no format; write plain {{{field}}}")
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"; did you mean '{{{near[0]}}}'?" if near else ""
            raise ValueError(
                f"{setting} {template!r} names '{{{field}}}', which is not a text column{hint} "
                f"(there are: {', '.join(known) or 'none'})"
            )
    if not any(field for _, field, _, _ in pieces):
        ready = ", ".join(ITEM_TEMPLATES)
        raise ValueError(
            f"{setting} {template!r} names no column; expected one of {{{'}, {'.join(known)}}}, "
            f"or the name of a ready template: {ready}"
        )
    return [(text, field) for text, field, _, _ in pieces]


def item_prompts(data: Dataset, template: str | None = None, max_characters: int = 2000) -> list[str]:
    """One prompt an item, in the order of the ids 1..I.

    Args:
        data: a data set with text columns.
        template: text with `{column}` fields, or the name of a ready one (`ITEM_TEMPLATES`), whose columns may be
            missing from the data set; default: `default_item_template`.
        max_characters: a longer prompt is cut.

    Raises:
        ValueError: no text columns, or a template that does not fit them.
    """
    columns = data.text_columns
    if not columns:
        raise ValueError(
            f"{data.folder} has no item texts to make vectors from; prepare it with an items table that has text "
            "columns (items=..., --items), or give vectors: encoder='file:VECTORS.npy'"
        )
    if template in ITEM_TEMPLATES:
        pieces = _ready_pieces(template, columns)
    else:
        template = template or default_item_template(columns, data.title_column)
        pieces = parse_template(template, columns, "embed.item_template")
    table = data.item_table().select([_clean(name) for name in columns])
    absent = [MISSING] * data.n_items
    fields = {field for _, field in pieces if field}
    texts = {name: table[name].to_list() if name in columns else absent for name in fields}
    return [
        "".join(text + (texts[field][row] if field else "") for text, field in pieces)[:max_characters]
        for row in range(data.n_items)
    ]


def _ready_pieces(name: str, columns: Sequence[str]) -> list[tuple[str, str | None]]:
    pieces = [(text, field) for text, field, _, _ in string.Formatter().parse(ITEM_TEMPLATES[name])]
    wanted = [field for _, field in pieces if field]
    if not set(wanted) & set(columns):
        # All prompts would be the same, and so would all vectors.
        raise ValueError(
            f"embed.item_template {name!r} reads the columns {', '.join(wanted)}, and the data set has none of them "
            f"(there are: {', '.join(columns)}); write a template of your own"
        )
    return pieces


def user_prompts(
    data: Dataset,
    users: Sequence[int],
    template: str | None = None,
    *,
    newest: int = 12,
    max_characters: int = 2000,
) -> Iterator[str]:
    """The prompts of `users`: the titles of their `newest` last *training* items, oldest first.

    What lies behind the end of train (validation and test items) is never read. A prompt longer than
    `max_characters` loses its oldest titles. A user without training items gets a prompt with `unknown`. `template`:
    text with `{history}`, or the name of a ready one (`USER_TEMPLATES`).

    Raises:
        ValueError: the data set has no titles, or the template lacks `{history}`.
    """
    titles = data.titles()
    if titles is None:
        raise ValueError(
            f"{data.folder} has no item titles to write user prompts from; name a column with title_column "
            "(--title-column), or set embed.user_vectors=mean"
        )
    template = USER_TEMPLATES.get(template or "", template) or DEFAULT_USER_TEMPLATE
    pieces = parse_template(template, ["history"], "embed.user_template")
    room = max_characters - sum(len(text) for text, _ in pieces)
    for user in users:
        items = np.asarray(data.history(int(user), "validation"))[-newest:]
        history = _join([(titles[item - 1] or "").strip() or MISSING for item in items], room)
        yield "".join(text + (history if field else "") for text, field in pieces)[:max_characters]


def _join(titles: list[str], room: int) -> str:
    """The titles, newest kept, within `room` characters."""
    kept: list[str] = []
    for title in reversed(titles):
        room -= len(title) + 2
        if kept and room < 0:
            break
        kept.append(title)
    return "; ".join(reversed(kept)) or MISSING


def _clean(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text.is_null() | (text == "")).then(pl.lit(MISSING)).otherwise(text).alias(name)
