"""How things are timed: alternating repeats, a fixed number of cores, the median of ratios."""

from __future__ import annotations

import datetime
import operator
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm_esr import __version__

Rate = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """A figure of ours beside a peer's; a `ratio` above 1 means that ours is better.

    Without `peer` the figure stands alone; without both, `note` says why.
    """

    section: str
    name: str
    ours: float | None
    unit: str
    threads: int
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    asked: str = ""
    note: str = ""


def missed(row: Row) -> bool:
    """Whether a row falls short of what is asked: of its ratio, or, where a unit stands behind the number, of `ours`.

    `asked` is `>= 250, and >= 10,000 batches/s`: comparisons, of which those behind `stretch` do not count.
    """
    clauses = re.findall(r"(>=|<=|<|>) ([\d.,]*\d) ?([^,<>]*)", row.asked.partition(", stretch")[0])
    assert bool(clauses) == bool(row.asked), f"{row.name}: '{row.asked}' is no comparison"
    for sign, number, unit in clauses:
        value = row.ours if unit.strip() or row.ratio is None else row.ratio
        if value is not None and not _COMPARED[sign](value, float(number.replace(",", ""))):
            return True
    return False


_COMPARED = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    name: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Plot:
    """Lines over one axis."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: list[Series]


@dataclass(frozen=True)
class Results:
    """What a section found, and on what."""

    rows: list[Row]
    plots: list[Plot] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), **environment()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Results:
        plots = [Plot(**{**p, "series": [Series(**s) for s in p["series"]]}) for p in values["plots"]]
        return Results([Row(**row) for row in values["rows"]], plots)


@contextmanager
def cores(n: int) -> Iterator[None]:
    """This thread, and what it starts, on n cores; torch with n threads."""
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(before)[:n])
    torch.set_num_threads(n)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)


def rate_of(work: Callable[[], int], n_cores: int = 1, before: Callable[[], object] | None = None) -> Rate:
    """Units a second of a call that returns how many it did; `before` is called ahead of the clock."""

    def run() -> float:
        with cores(n_cores):
            if before is not None:
                before()
            began = time.perf_counter()
            done = work()
            return done / (time.perf_counter() - began)

    return run


def alternating(runners: Mapping[str, Rate], repeats: int) -> dict[str, list[float]]:
    """One call of each in turn, `repeats` times; an earlier round warms caches and pools and does not count."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats + 1):
        for name, runner in runners.items():
            rates[name].append(runner())
    return {name: values[1:] for name, values in rates.items()}


def median_ratio(better: list[float], worse: list[float]) -> float:
    """Median over repeats of the ratio within the repeat."""
    return statistics.median(one / other for one, other in zip(better, worse, strict=True))


def environment() -> dict[str, Any]:
    """Machine, versions and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": {
            "llm-esr": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
