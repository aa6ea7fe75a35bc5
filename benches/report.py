"""`make bench`: measure everything beside its peers; write docs/benchmarks.md, docs/benchmarks.json and docs/plots.

`--only SECTION,SECTION` measures some sections, `--render` none; the others stay on the page as its benchmarks.json has
them, with their date and machine. `--small` tries everything in seconds and writes to runs/bench-small; its figures
mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from measuring import Results, Row, missed
from sections import SECTIONS, USUAL
from store import load, output_folder, save
from svg import draw
from workload import ROOT, Size

from llm_esr.files import atomic_file


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help=f"sections, comma-separated: {', '.join(SECTIONS)}")
    parser.add_argument("--render", action="store_true", help="measure nothing; write the page from what is there")
    parser.add_argument("--small", action="store_true", help="a trial in seconds, into runs/bench-small")
    given = parser.parse_args(arguments)
    if given.small:
        os.environ["LLM_ESR_BENCH_SMALL"] = "1"  # for processes that are started from here
    size = Size.from_environment()
    asked = [name for names in given.only or [] for name in names.split(",")]
    if unknown := [name for name in asked if name not in SECTIONS]:
        parser.error(f"--only {unknown[0]}: expected {', '.join(SECTIONS)}")
    for name in () if given.render else asked or USUAL:
        print(f"== {name}", file=sys.stderr)
        write(size, {name: SECTIONS[name].measure(size)})  # at once: a later section may fail
    if given.render:
        write(size, {})


def write(size: Size, measured: Mapping[str, Results]) -> None:
    """The page, its figures as data, and the plots: what was measured now, all else as it was."""
    folder = output_folder(size)
    known = load(folder) | {name: results.to_json() for name, results in measured.items()}
    found = {name: known[name] for name in SECTIONS if name in known}
    if not found:
        raise SystemExit("nothing was measured yet; run `make bench`")
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    page = [
        "# Benchmarks",
        "",
        "Made by `make bench` (and `make bench-peers`, for those that need an environment of their own); do not edit. "
        "Figures are medians of alternating repeats in one run; a ratio is the median over repeats of ours against "
        "the peer's in the same repeat, and above 1 where ours is better. Compare ratios: absolute figures drift with "
        "the machine. *asked* is what the project set out to reach; **a target that was missed** is bold.",
    ]
    page += summary_lines({SECTIONS[name].TITLE: Results.from_json(values) for name, values in found.items()})
    for name, values in found.items():
        results = Results.from_json(values)
        page += ["", *section_lines(SECTIONS[name], size, results, values)]
        for plot in results.plots:
            if plot.series:
                with atomic_file(folder / "plots" / f"{plot.name}.svg", "w") as file:
                    file.write(draw(plot))
    with atomic_file(folder / "benchmarks.md", "w") as file:
        file.write("\n".join(page) + "\n")
    save(folder, found)
    print(f"wrote {(folder / 'benchmarks.md').relative_to(ROOT)}")


TABLE_HEAD = (
    "| | ours | beside | theirs | ratio | asked | threads | |",
    "|---|---:|---|---:|---:|---:|---:|---|",
)


def summary_lines(sections: dict[str, Results]) -> list[str]:
    """The first row with a target of each section, ten at most, and how many targets were missed, with links."""
    firsts = [(title, next((row for row in results.rows if row.asked), None)) for title, results in sections.items()]
    lines = ["", "| section " + TABLE_HEAD[0], "|---" + TABLE_HEAD[1]]
    lines += [f"| {_link(title)} {table_line(row)}" for title, row in firsts if row is not None][:10]
    rows = [(title, row) for title, results in sections.items() for row in results.rows if row.asked]
    short = [(title, row) for title, row in rows if missed(row)]
    named = "; ".join(f"{row.name} ({_link(title)})" for title, row in short)
    return [*lines, "", f"{len(short)} of {len(rows)} targets were missed{': ' + named if named else ''}."]


def _link(title: str) -> str:
    anchor = "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")
    return f"[{title}](#{anchor})"


def section_lines(section: Any, size: Size, results: Results, values: dict[str, Any]) -> list[str]:
    """A section's text, table and plots."""
    versions = ", ".join(f"{name} {version}" for name, version in values["versions"].items())
    lines = [f"## {section.TITLE}", "", section.about(size), "", f"{values['date']}, {values['machine']}; {versions}."]
    if results.rows:
        lines += [
            "",
            *TABLE_HEAD,
        ]
        lines += [table_line(row) for row in results.rows]
    for plot in results.plots:
        lines += ["", f"![{plot.title}](plots/{plot.name}.svg)"]
    return lines


def table_line(row: Row) -> str:
    """One row of a section's table."""
    ours = "" if row.ours is None else f"{shown(row.ours)} {row.unit}"
    peer = "" if row.peer is None else f"{shown(row.peer)} {row.unit}"
    ratio = "" if row.ratio is None else shown(row.ratio)
    asked = f"**{row.asked}**" if missed(row) else row.asked
    cells = [row.name, ours, row.peer_name, peer, ratio, asked, str(row.threads), row.note]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def shown(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


if __name__ == "__main__":
    main()
