"""`make bench`: measure everything beside its peers and write docs/benchmarks.md.

A figure is the median of alternating repeats in one run, on one thread; ratios are what counts, since absolute figures
drift with the machine and with what else it does.
"""

from __future__ import annotations

import datetime
import platform
import tempfile
from pathlib import Path

import bench_loading
import bench_negatives
import torch
from workload import BATCH_SIZE, MAX_LEN, SIMILAR_USERS

from llm_esr import __version__
from llm_esr.files import atomic_file

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def loading_section(folder: Path) -> list[str]:
    """Batches a second."""
    lines = [
        "## Loading",
        "",
        f"50,000 users of mean length 10.55, 30,000 Zipf items, at most {MAX_LEN} items a user, {BATCH_SIZE} students "
        f"a batch, {SIMILAR_USERS} similar users each, one negative a target that the user never met. The peer is a "
        "straightforward `Dataset` with `DataLoader` and rejection sampling (`benches/peers.py`); before it is "
        "measured, both are checked to give the same students, targets and similar users. A row is a sequence that a "
        "student is given, its own or a similar user's; the peer copies a similar user into each student's row, ours "
        "stores the distinct ones of a batch once and gives their places.",
        "",
        "| loader | batches/s | rows/s | times the peer |",
        "|---|---:|---:|---:|",
    ]
    for loader, row in bench_loading.measure(folder).items():
        ratio = "" if loader.startswith("pure") else f"{row['ratio']:.0f}"
        lines.append(f"| {loader} | {row['batches']:,.0f} | {row['rows']:,.0f} | {ratio} |")
    return lines


def negatives_section(folder: Path) -> list[str]:
    """Negatives a second."""
    lines = [
        "## Negatives",
        "",
        f"{bench_negatives.N} negatives a target; ours are never an item that the user met, and their time includes "
        "the sequences.",
        "",
        "| sampler | million/s |",
        "|---|---:|",
    ]
    rates = bench_negatives.measure(folder).items()
    return lines + [f"| {sampler} | {rate / 1e6:,.1f} |" for sampler, rate in rates]


def processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        sections = [loading_section(Path(folder)), negatives_section(Path(folder))]
    today = datetime.datetime.now(datetime.UTC).date()
    page = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {today}: llm-esr {__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {processor()}, one thread. Medians of {bench_loading.REPEATS} alternating "
        "repeats in one run; compare ratios, not absolute figures.",
    ]
    for section in sections:
        page += ["", *section]
    with atomic_file(PAGE, "w") as file:
        file.write("\n".join(page) + "\n")
    print("\n".join(page))


if __name__ == "__main__":
    main()
