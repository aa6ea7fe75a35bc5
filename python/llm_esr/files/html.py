"""Tables as HTML, for notebooks: texts of others are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from llm_esr.files.text import printable


def html_table(
    title: str, columns: Sequence[str], lines: Sequence[Sequence[str]], notes: Sequence[str] = (), *, texts: int = 2
) -> str:
    """A table with a title above and notes below; the first `texts` columns are texts, the others figures."""
    aligned = ["left" if place < texts else "right" for place in range(len(columns))]
    body = "".join(f"<tr>{_cells('td', line, aligned)}</tr>" for line in lines)
    below = "".join(f"<div><small>{_escaped(note)}</small></div>" for note in notes)
    head = f"<thead><tr>{_cells('th', columns, aligned)}</tr></thead>" if any(columns) else ""
    caption = f'<caption style="caption-side: top; text-align: left"><b>{_escaped(title)}</b></caption>'
    return f"<div><table>{caption}{head}<tbody>{body}</tbody></table>{below}</div>"


def html_facts(title: str, facts: Mapping[str, object]) -> str:
    """A table of names and values."""
    return html_table(title, ("", ""), [(name, str(value)) for name, value in facts.items()])


def _cells(kind: str, cells: Sequence[str], aligned: Sequence[str]) -> str:
    pairs = zip(cells, aligned, strict=True)
    return "".join(f'<{kind} style="text-align: {side}">{_escaped(cell)}</{kind}>' for cell, side in pairs)


def _escaped(text: str) -> str:
    return escape(printable(text))
