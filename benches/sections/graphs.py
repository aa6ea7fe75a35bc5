"""The K nearest of every row: the exact graph beside faiss, and approximate ones by time and recall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from measuring import Plot, Row, Series
from numpy.typing import NDArray

from llm_esr.retrieval import ENGINES
from sections.recall import kth_best, recall, scores_of
from sections.sides import FAISS, HNSWLIB, OURS, PYNNDESCENT, USEARCH, Answers, Searcher, Sides, speed_ratio
from sections.vectors import Table

SECTION = "retrieval-peers"
K = 100
JUDGED = 2_000  # rows whose lists are held against the oracle where none are at hand
GOOD = 0.99  # the recall from which a graph of a package is one to beat
SEEN_MISSES = 0.01  # in a thousand: the left end of the plot's axis, for 0 too
MILLION = 1_000_000

LABELS = {"ours": "exact", "screened": "screened"}

Found = Mapping[str, Answers]


@dataclass(frozen=True)
class Engine:
    """One of our engines, by its name in `ENGINES`, and the keyword arguments that it is made with."""

    engine: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        given = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return self.engine + (f", {given}" if given else "")

    @property
    def build(self) -> dict[str, Any]:
        return {"engine": self.engine, **self.settings}

    @property
    def missing(self) -> str:
        """Why it is not measured, or nothing."""
        return "" if self.engine in ENGINES else f"llm_esr.retrieval.ENGINES has no '{self.engine}'"


@dataclass(frozen=True)
class Point:
    """An approximate graph of another package: one point of the plot."""

    searcher: Searcher
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: str = ""


EXACT, SCREENED = Engine("exact"), Engine("screened")
# Each is a point of ours.
APPROXIMATE = tuple(Engine("lists", {"recall": recall}) for recall in (0.99, 0.9, 0.95, 0.98, 0.998))
POINTS = (
    *(Point(HNSWLIB, f"M 16, efC 200, ef {ef}", {"ef": ef}, ">= 1.5") for ef in (101, 150, 200, 400, 800)),
    *(Point(USEARCH, f"bf16, M 16, efC 200, ef {ef}", {"ef": ef}) for ef in (101, 200, 400)),
    Point(PYNNDESCENT, f"k {K + 1}", {}, ">= 1"),
)


def exact_graph(table: Table, repeats: int, asked: str, asked_screened: str = "") -> list[Row]:
    """Time, memory, what was missed, and two threads; and of the screened search, which is not certified."""
    graph = {"k": K}
    with Sides(table.path) as sides:
        sides.start("ours", OURS)
        sides.start("two", OURS, threads=2)
        sides.start("faiss", FAISS)
        tasks = {name: (name, graph) for name in ("ours", "faiss", "two")}
        found = sides.ask(tasks | {"screened": ("ours", graph | {"build": SCREENED.build})}, repeats)
        rows = [_beside_faiss(table, sides, found, "ours", asked)]
        if "ours" in found and "faiss" in found:
            rows += [_memory(table, found), _missed(table, found, "ours")]
        if "screened" in found and "faiss" in found:
            rows += [_beside_faiss(table, sides, found, "screened", asked_screened), _missed(table, found, "screened")]
        if "ours" in found and "two" in found:
            one, two = found["ours"], found["two"]
            rows.append(Row(SECTION, f"exact, {table.name}, two threads", two.middle, "s", 2, "ours, one thread",
                            one.middle, speed_ratio(two, one)))  # fmt: skip
    return rows


def _beside_faiss(table: Table, sides: Sides, found: Found, side: str, asked: str) -> Row:
    ours, theirs = found.get(side), found.get("faiss")
    return Row(
        SECTION, f"{LABELS[side]}, {table.name}", ours.middle if ours else None, "s", 1, FAISS.name,
        theirs.middle if theirs else None,
        speed_ratio(ours, theirs) if ours and theirs else None, asked if ours and theirs else "",
        "; ".join(f"{name} {why}" for name, why in sides.reasons.items()),
    )  # fmt: skip


def _memory(table: Table, found: Found) -> Row:
    ours, theirs = found["ours"], found["faiss"]
    more = ", ".join(
        f"{name} {(side.peak - side.before) / 1e9:.2f}" for name, side in (("ours", ours), ("faiss", theirs))
    )
    return Row(
        SECTION, f"exact, {table.name}, peak memory", ours.peak / 1e9, "GB", 1, FAISS.name, theirs.peak / 1e9,
        theirs.peak / ours.peak, note=f"with interpreter, imports and the vectors; beyond these: {more} GB",
    )  # fmt: skip


def _missed(table: Table, found: Found, side: str) -> Row:
    """Of all lists, against those of faiss."""
    vectors, every = table.open(), np.arange(len(table.open()))
    worst = scores_of(vectors, vectors, found["faiss"].lists()).min(axis=1)
    share = recall(vectors, vectors, found[side].lists(), worst, every)
    name = f"{LABELS[side]}, {table.name}, missed of faiss' neighbours"
    return Row(SECTION, name, MILLION * (1 - share), "in a million", 1, asked="<= 10")


@dataclass(frozen=True)
class Measured:
    """A point: seconds and recall."""

    label: str
    answers: Answers
    recall: float

    @property
    def note(self) -> str:
        return f"recall {self.recall:.5f}, {self.answers.peak / 1e9:.2f} GB"


def approximate_graphs(table: Table, repeats: int) -> tuple[list[Row], list[Plot]]:
    """Ours at each setting; each peer beside the fastest of ours that finds as much; the plot of all."""
    rows = [missing_row(f"by {engine.label}, {table.name}", engine) for engine in APPROXIMATE if engine.missing]
    engines = [EXACT, *(engine for engine in APPROXIMATE if not engine.missing)]
    tasks: dict[str, tuple[str, dict[str, Any]]] = {
        f"ours, {engine.label}": ("ours", {"k": K, "build": engine.build}) for engine in engines
    }
    for point in POINTS:
        tasks[f"{point.searcher.name}, {point.label}"] = (point.searcher.name, {"k": K, "options": point.options})
    judged = judged_rows(table, JUDGED)
    worst = kth_best(table.open(), table.open()[judged], K, judged)
    with Sides(table.path) as sides:
        sides.start("ours", OURS)
        for searcher in dict.fromkeys(point.searcher for point in POINTS):
            sides.start(searcher.name, searcher)
        found = sides.ask(tasks, repeats)
        measured = {label: Measured(label, answers, judge(table, answers, judged, worst))
                    for label, answers in found.items()}  # fmt: skip
        ours = [one for label, one in measured.items() if tasks[label][0] == "ours"]
        reasons = dict(sides.reasons)
    for engine in engines:
        name, label = f"by {engine.label}, {table.name}", f"ours, {engine.label}"
        if label in measured:
            rows.append(Row(SECTION, name, measured[label].answers.middle, "s", 1, note=measured[label].note))
        else:
            rows.append(Row(SECTION, name, None, "s", 1, note=reasons[label]))
    for point in POINTS:
        label = f"{point.searcher.name}, {point.label}"
        peer = measured.get(label)
        rows.append(beside_peer(table, point, peer, ours, reasons.get(label, "")))
    return rows, plots_of(measured.values(), table)


def beside_peer(table: Table, point: Point, peer: Measured | None, ours: Sequence[Measured], reason: str) -> Row:
    """A peer's graph beside the fastest of ours with at least its recall."""
    name, theirs = f"as good, {table.name}", f"{point.searcher.name}, {point.label}"
    if peer is None:
        return Row(SECTION, name, None, "s", 1, theirs, note=reason)
    good = [one for one in ours if one.recall >= peer.recall]
    if not good:
        return Row(SECTION, name, None, "s", 1, theirs, peer.answers.middle, note=f"{peer.note}; none of ours is")
    best = min(good, key=lambda one: one.answers.middle)
    asked = point.asked if peer.recall >= GOOD else ""
    return Row(
        SECTION, name, best.answers.middle, "s", 1, theirs, peer.answers.middle,
        speed_ratio(best.answers, peer.answers), asked, f"{best.label}, {best.note}; theirs {peer.note}",
    )  # fmt: skip


def plots_of(measured: Iterable[Measured], table: Table) -> list[Plot]:
    """Seconds over what was missed, a line for each package or engine."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for one in measured:
        package, _, setting = one.label.partition(", ")
        line = f"ours, {setting.split(', ')[0]}" if package == "ours" else package
        missed = max(1000 * (1 - one.recall), SEEN_MISSES)
        lines.setdefault(line, []).append((missed, one.answers.middle))
    series = [Series(name, *map(list, zip(*sorted(points), strict=True))) for name, points in lines.items()]
    title = f"Time and misses, {table.name}, {K} neighbours"
    label = f"neighbours missed of a thousand ({SEEN_MISSES:g}: or fewer)"
    return [Plot("retrieval", title, label, "seconds", series)] if series else []


def judged_rows(table: Table, count: int) -> NDArray[np.int64]:
    """Rows of a fixed sample, ascending."""
    rows = len(table.open())
    return np.sort(np.random.default_rng(0).permutation(rows)[:count])


def judge(table: Table, answers: Answers, judged: NDArray[np.int64], worst: NDArray[np.float32]) -> float:
    """The recall of the lists of some rows."""
    vectors = table.open()
    return recall(vectors, vectors[judged], answers.lists()[judged], worst, judged)


def missing_row(name: str, engine: Engine) -> Row:
    return Row(SECTION, name, None, "s", 1, note=engine.missing)
