"""Tables for people, made from the rows of `metrics.json` and nothing else.

One table for each (split, protocol): models down, groups across, HR and NDCG in each cell; an interval where a model
has one seed, mean and standard deviation where it has several.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_esr.config.parts import NEIGHBOURS
from llm_esr.evaluation.list_metrics import LIST_METRICS
from llm_esr.evaluation.paired import is_difference
from llm_esr.files import folded
from llm_esr.files.html import html_table

Row = dict[str, Any]

MAIN_GROUPS = ("all", "tail_item", "head_item", "tail_user", "head_user")
OTHER_GROUPS = ("known_target", "cold_target", "repeat_target", "new_target")
_TITLES = {"all": "overall"}
# What a group counts: users, by themselves or by the item that they are asked for.
_FOOT = {
    "all": "{} users",
    "tail_item": "{} with a tail item as target",
    "head_item": "{} with a head item",
    "tail_user": "{} tail users",
    "head_user": "{} head users",
}
_PREFERRED_K = 10
_LEAST_NAME = 8  # cells of a model's name, on a terminal however narrow
_WIDTH = 118  # of tables that go into text files


@dataclass
class Sheet:
    """A table before it is drawn."""

    title: str
    columns: list[str]
    lines: list[list[str]]
    notes: list[str] = field(default_factory=list)


def render(
    rows: Iterable[Row],
    form: Literal["text", "markdown", "html"] = "text",
    *,
    k: int | None = None,
    metrics: tuple[str, ...] = ("hr", "ndcg"),
    details: bool = False,
    notes: Sequence[str] = (),
) -> str:
    """Tables as text, as Markdown or as HTML.

    Args:
        rows: as in `metrics.json`; any mixture of models, splits and protocols.
        form: `text`, `markdown` or `html`.
        k: the cut-off of the main table; default: 10, or the next smaller there is, or the smallest.
        metrics: the metrics of the main table.
        details: also every cut-off, what the lists hold, the groups of known, cold, repeated and new targets, and the
            ranges of sequence length and of the target's popularity.
        notes: further lines for the foot of each main table.

    Raises:
        ValueError: no rows.
    """
    made = sheets(list(rows), k, metrics, details, notes)
    if form == "markdown":
        return "\n".join(_markdown(sheet) for sheet in made)
    if form == "html":
        return "\n".join(html_table(sheet.title, sheet.columns, sheet.lines, sheet.notes) for sheet in made)
    console = Console(file=io.StringIO(), width=_WIDTH, force_terminal=False, color_system=None)
    for sheet in made:
        _draw(sheet, console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def print_tables(
    rows: Iterable[Row],
    console: Console | None = None,
    *,
    k: int | None = None,
    metrics: tuple[str, ...] = ("hr", "ndcg"),
    details: bool = False,
    notes: Sequence[str] = (),
) -> None:
    """Print what `render` gives, in colour where the terminal has it."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)  # a file or a pipe has no edge to fit into
    for sheet in sheets(list(rows), k, metrics, details, notes):
        _draw(sheet, console)


def sheets(
    rows: list[Row],
    k: int | None = None,
    metrics: tuple[str, ...] = ("hr", "ndcg"),
    details: bool = False,
    notes: Sequence[str] = (),
) -> list[Sheet]:
    """The tables of `render` before they are drawn."""
    if not rows:
        raise ValueError("no figures to show; `llm-esr evaluate` makes them")
    made = []
    for split, protocol in dict.fromkeys((row["split"], row["protocol"]) for row in rows):
        part = _Part([row for row in rows if (row["split"], row["protocol"]) == (split, protocol)], protocol)
        shown = k if k is not None else part.usual_k()
        title = f"{split}, {_in_words(protocol)}"
        made.append(part.main_sheet(title, shown, metrics))
        made[-1].notes += notes
        if details:
            made.append(part.group_sheet(f"{split}, {protocol}: by kind of target, @{shown}", shown, metrics))
            for kind, words in part.rule.ranges.items():
                if groups := part.ranges(kind):
                    made.append(part.range_sheet(f"{split}, {protocol}: {words}, @{shown}", groups, shown, metrics))
            made.append(part.cut_off_sheet(f"{split}, {protocol}: overall, at every k"))
    return made


@dataclass(frozen=True)
class _Rule:
    """How `evaluate.group_rule` is told in words."""

    tail_item: str
    tail_user: str
    ranges: dict[str, str]


_RULES = {
    "training": _Rule(
        tail_item="met fewer than {} times in training",
        tail_user="fewer than {} items in training",
        ranges={
            "length": "by the user's items in training",
            "popularity": "by how often training met the target",
        },
    ),
    "paper": _Rule(
        tail_item="met by fewer than {} users over all parts",
        tail_user="fewer than {} items in the input",
        ranges={
            "length": "by the user's items in the input",
            "popularity": "by the users who met the target, over all parts",
        },
    ),
}


class _Part:
    """The rows of one split and protocol, found by what they measure."""

    def __init__(self, rows: list[Row], protocol: str) -> None:
        self.rule = _RULES["paper" if protocol.startswith("paper-") else "training"]
        self._found: dict[tuple[str, str, str, int | None], list[Row]] = {}
        for row in rows:
            key = (row["model"], row["group"], row["metric"], row["k"])
            self._found.setdefault(key, []).append(row)
        names = dict.fromkeys(row["model"] for row in rows)
        self.models = sorted(names, key=lambda name: name != "popularity")  # the baseline first, else as they came
        self.ks: list[int] = sorted({row["k"] for row in rows if row["k"] is not None})

    def usual_k(self) -> int:
        fitting = [k for k in self.ks if k <= _PREFERRED_K]
        return fitting[-1] if fitting else self.ks[0]

    def main_sheet(self, title: str, k: int, metrics: tuple[str, ...]) -> Sheet:
        sheet = self._by_group(title, MAIN_GROUPS, k, metrics)
        sheet.notes = self._notes()
        return sheet

    def group_sheet(self, title: str, k: int, metrics: tuple[str, ...]) -> Sheet:
        return self._by_group(title, OTHER_GROUPS, k, metrics)

    def ranges(self, kind: str) -> tuple[str, ...]:
        """The groups that are ranges of `kind`, the lowest first."""
        groups = {group for _, group, _, _ in self._found if group.startswith(f"{kind}_")}
        return tuple(sorted(groups, key=lambda group: int(group.split("_")[1])))

    def range_sheet(self, title: str, groups: tuple[str, ...], k: int, metrics: tuple[str, ...]) -> Sheet:
        sheet = self._by_group(title, groups, k, metrics)
        sheet.notes = ["users, from left to right: " + "; ".join(self._users(group) for group in groups)]
        return sheet

    def cut_off_sheet(self, title: str) -> Sheet:
        lines = []
        for model in self.models:
            for metric in ("hr", "ndcg", "mrr", *LIST_METRICS):
                cells = [_cell(self._found.get((model, "all", metric, k), []), span=False) for k in self.ks]
                if any(cell != "-" for cell in cells):
                    lines.append([model, _metric_title(metric), *cells])
        return Sheet(title, ["model", "metric", *(f"@{k}" for k in self.ks)], lines)

    def _by_group(self, title: str, groups: tuple[str, ...], k: int, metrics: tuple[str, ...]) -> Sheet:
        lines = []
        for model in self.models:
            seeds = len({row["seed"] for row in self._found.get((model, "all", metrics[0], k), [])})
            name = f"{model} ({seeds} seeds)" if seeds > 1 else model
            for metric in metrics:
                signed = is_difference(model)
                cells = [_cell(self._found.get((model, group, metric, k), []), signed=signed) for group in groups]
                lines.append([name, f"{_metric_title(metric)}@{k}", *cells])
        heads = [group_title(group) for group in groups]
        return Sheet(title, ["model", "metric", *heads], lines)

    def _notes(self) -> list[str]:
        notes = [self._users_note()]
        limits = [self._span("tail_item", "below"), self._span("tail_user", "below")]
        if all(limits):
            item, user = self.rule.tail_item.format(limits[0]), self.rule.tail_user.format(limits[1])
            notes.append(f"tail item: {item}; tail user: {user}")
        notes += self._setting_notes()
        several = any(len(rows) > 1 for rows in self._found.values())
        single = any(row["low"] is not None for rows in self._found.values() if len(rows) == 1 for row in rows)
        kinds = ["95 % bootstrap interval over users"] if single else []
        if any(is_difference(model) for model in self.models):
            kinds.append("A - B: the difference user by user, its interval paired")
        kinds += ["± standard deviation over seeds"] if several else []
        if kinds:
            notes.append("; ".join(kinds))
        if "popularity" not in self.models:
            notes.append("the popularity baseline has not been evaluated under this protocol")
        return notes

    def _users_note(self) -> str:
        counts = []
        for group in MAIN_GROUPS:
            if text := self._users(group):
                counts.append(_FOOT[group].format(text))
        note = "; ".join(counts)
        left_out = self._span("all", "not_ranked")
        return note + (
            f"; {left_out} not ranked, having no items before the target" if left_out not in ("", "0") else ""
        )

    def _users(self, group: str) -> str:
        users = sorted({r["users"] for (_, g, _, k), rows in self._found.items() for r in rows if g == group and k})
        if not users:
            return ""
        return f"{users[0]:,}" if len(users) == 1 else f"{users[0]:,} to {users[-1]:,}"

    def _setting_notes(self) -> list[str]:
        notes = []
        for group, setting, words in (
            ("all", "strict_ties", "only higher scores count against a target, ties do not"),
            ("all", "tuned_on", "the weights of the blend were chosen on these very users"),
            ("tail_item", "skips_first", "tail and head item: the first user counts, but never as a hit"),
        ):
            having = [
                model
                for model in self.models
                if any(row["value"] for row in self._found.get((model, group, setting, None), []))
            ]
            if having:
                notes.append(words if having == self.models else f"{words} ({', '.join(having)})")
        return notes + [note for model in self.models if (note := self._blend_note(model))]

    def _blend_note(self, model: str) -> str:
        """What a blend adds to its network's log-probabilities, over the seeds that there are."""
        parts = []
        for name, group, metric, _ in self._found:
            if name == model and group == "all" and metric.startswith("weight "):
                values = sorted({f"{row['value']:g}" for row in self._found[(name, group, metric, None)]})
                parts.append(f"{' or '.join(values)} {metric.removeprefix('weight ')}")
        if not parts:
            return ""
        network = [] if model == NEIGHBOURS else ["the network's log-probabilities"]
        return f"{model}: " + " + ".join([*network, *parts])

    def _span(self, group: str, metric: str) -> str:
        values = {
            row["value"] for (_, g, m, _), rows in self._found.items() for row in rows if (g, m) == (group, metric)
        }
        return " or ".join(f"{value:,}" for value in sorted(values))


def _cell(rows: list[Row], span: bool = True, signed: bool = False) -> str:
    rows = [row for row in rows if row["value"] is not None]
    if not rows:
        return "-"
    if len(rows) > 1:
        values = [row["value"] for row in rows]
        return f"{_figure(statistics.fmean(values))} ± {_figure(statistics.stdev(values))}"
    row = rows[0]
    sign = "+" if signed and row["value"] > 0 else ""
    if not span or row["low"] is None:
        return sign + _figure(row["value"])
    return f"{sign}{_figure(row['value'])} [{_figure(row['low'])}, {_figure(row['high'])}]"


def _figure(value: float) -> str:
    text = f"{value:.4f}"
    if text == "-0.0000":
        return ".0000"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _metric_title(metric: str) -> str:
    return LIST_METRICS.get(metric) or metric.upper()


def group_title(group: str) -> str:
    """A group as it stands in a table's head."""
    kind, _, span = group.partition("_")
    if kind not in ("length", "popularity"):
        return _TITLES.get(group, group.replace("_", " "))
    low, _, high = span.partition("_")
    if high == "up":
        return f"{low} and more"
    if low == "0":
        return f"under {int(high) + 1}"
    return low if low == high else f"{low} to {high}"


def _in_words(protocol: str) -> str:
    kind, _, rest = protocol.partition("-")
    competing = kind if kind == "full" else rest.partition("-")[0]
    if competing == "full":
        seen = "earlier items kept" if "keep-seen" in rest else "the user's earlier items left out"
        words = f"full catalogue, {seen}"
    else:
        words = f"target against {competing} sampled items that the user never met"
    known = ", targets known from training only" if rest.endswith("known") else ""
    groups = ", groups as in the paper" if kind == "paper" else ""
    return f"{words}{known}{groups} ({protocol})"


def _draw(sheet: Sheet, console: Console) -> None:
    # What follows a figure goes under it, and breaks at its comma if it must: five groups fit 80 columns.
    lines = [[line[0], *(c.replace(" [", "\n[").replace(" ± ", "\n± ") for c in line[1:])] for line in sheet.lines]
    widths, padding = _column_widths([sheet.columns, *lines], console.width)
    table = Table(
        title=escape(sheet.title),
        title_justify="left",
        title_style="bold",
        padding=(0, padding),
    )
    for number, (column, width) in enumerate(zip(sheet.columns, widths, strict=True)):
        justify: Literal["left", "right"] = "left" if number < 2 else "right"
        table.add_column(escape(column), justify=justify, overflow="fold", width=width)
    previous = ""
    for first, *rest in lines:
        new = first != previous
        if new and previous:
            table.add_section()
        table.add_row(escape(first) if new else "", *(escape(cell) for cell in rest))
        previous = first
    console.print(table)
    for note in sheet.notes:
        console.print(folded(note, console.width, indent=2), style="dim", markup=False, highlight=False, soft_wrap=True)


def _column_widths(lines: list[list[str]], width: int) -> tuple[list[int], int]:
    """Widths of a table's columns within a terminal's, and the blanks beside a cell.

    Lines of words are broken between them; where not even their words fit, the names in the first column are folded.
    """
    columns = list(zip(*lines, strict=True))
    widths = [max(cell_len(part) for cell in column for part in cell.split("\n")) for column in columns]
    least = [max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in columns]
    borders = len(columns) + 1
    padding = 1 if sum(least) + borders + 2 * len(columns) <= width else 0
    room = width - borders - 2 * padding * len(columns)
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda place: widths[place] - least[place])
        if widths[widest] == least[widest]:
            break
        widths[widest] -= 1
    widths[0] = max(min(widths[0], room - sum(widths[1:])), min(widths[0], _LEAST_NAME))
    return widths, padding


def _markdown(sheet: Sheet) -> str:
    aligned = ["---" if number < 2 else "---:" for number in range(len(sheet.columns))]
    body = [sheet.columns, aligned, *sheet.lines]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in body]
    return "\n".join([f"**{sheet.title}**", "", *lines, "", *(f"{note}  " for note in sheet.notes), ""])
