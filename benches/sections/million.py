"""A million simulated rows: their graph, and the best of them by inner product with a query."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from measuring import Row

from sections.graphs import APPROXIMATE, EXACT, SECTION, K, judge, judged_rows, missing_row
from sections.recall import kth_best, recall
from sections.sides import FAISS, OURS, Answers, Sides, speed_ratio
from sections.vectors import Table, first

BEST = 20
JUDGED = 1_000
PART = 8  # the exact graph is that of the first n / PART rows
WHOLE = bool(os.environ.get("LLM_ESR_BENCH_WHOLE"))  # the exact graph of all rows, which takes most of an hour
ONE_BY_ONE = 100  # queries that are asked alone


def large_graph(table: Table) -> list[Row]:
    """The exact graph, or what its part says of it, and each approximate one beside it."""
    name = f"graph of {table.name}"
    seconds, note = _exact_seconds(table)
    rows = [Row(SECTION, f"exact {name}", seconds, "s", 1, note=note)]
    engines = [engine for engine in APPROXIMATE[:1] if not engine.missing]
    rows += [missing_row(f"{engine.label}, {name}", engine) for engine in APPROXIMATE[:1] if engine.missing]
    if not engines:
        return rows
    judged = judged_rows(table, JUDGED)
    worst = kth_best(table.open(), table.open()[judged], K, judged)
    with Sides(table.path) as sides:
        sides.start("ours", OURS)
        found = sides.ask({engine.label: ("ours", {"k": K, "build": engine.build}) for engine in engines}, 1)
        for engine in engines:
            label, answers = f"{engine.label}, {name}", found.get(engine.label)
            if answers is None:
                rows.append(Row(SECTION, label, None, "s", 1, note=sides.reasons[engine.label]))
                continue
            share = judge(table, answers, judged, worst)
            said = f"recall {share:.5f} on {len(judged):,} rows, {answers.peak / 1e9:.2f} GB"
            ratio = None if seconds is None else seconds / answers.middle
            rows.append(Row(SECTION, label, answers.middle, "s", 1, "ours, exact", seconds, ratio, note=said))
    return rows


def _exact_seconds(table: Table) -> tuple[float | None, str]:
    """Seconds of the whole graph, and how they are known."""
    rows = len(table.open())
    part = table if WHOLE else first(table, rows // PART)
    with Sides(part.path) as sides:
        sides.start("ours", OURS)
        found = sides.ask({"exact": ("ours", {"k": K, "build": EXACT.build})}, 1)
        if "exact" not in found:
            return None, sides.reasons["exact"]
        seconds = found["exact"].middle
    if WHOLE:
        return seconds, ""
    scale = (rows / len(part.open())) ** 2
    return seconds * scale, f"reckoned: {scale:.0f} times the {seconds:.3g} s of the first {len(part.open()):,} rows"


def best_of_catalogue(table: Table, queries: Table, repeats: int) -> list[Row]:
    """The BEST items of each query, all queries at once and one by one, beside a scan of the catalogue by faiss."""
    engines = [engine for engine in (EXACT, *APPROXIMATE[:1]) if not engine.missing]
    asked: dict[str, Any] = {"task": "search", "k": BEST}
    alone = first(queries, min(ONE_BY_ONE, len(queries.open())))
    rows: list[Row] = []
    with Sides(table.path) as sides:
        for engine in engines:  # each keeps its index
            sides.start(engine.label, OURS)
        sides.start("faiss", FAISS)
        for given, at_once, how in ((queries, len(queries.open()), "at once"), (alone, 1, "one by one")):
            task = asked | {"queries": str(given.path), "at_once": at_once}
            tasks = {engine.label: (engine.label, task | {"build": engine.build}) for engine in engines}
            tasks["faiss"] = ("faiss", task)
            found = sides.ask(tasks, repeats + 1)  # once more: the first warms what is asked for milliseconds
            for answers in found.values():
                answers.seconds[:-repeats] = []
            worst = kth_best(table.open(), given.open(), BEST)
            count = len(given.open())
            for engine in engines:
                name = f"{BEST} best of {table.name}, {count:,} queries {how}, {engine.label}"
                rows.append(_lists_row(name, found.get(engine.label), found.get("faiss"), table, given, worst, sides))
    name = f"{BEST} best of {table.name}"
    return [*rows, *(missing_row(f"{name}, {engine.label}", engine) for engine in APPROXIMATE[:1] if engine.missing)]


def _lists_row(
    name: str, ours: Answers | None, theirs: Answers | None, table: Table, queries: Table, worst: Any, sides: Sides
) -> Row:
    count, notes = len(queries.open()), [f"{who} {why}" for who, why in sides.reasons.items()]
    if ours is not None:
        share = recall(table.open(), np.asarray(queries.open()), ours.lists(), worst)
        notes.insert(0, f"recall {share:.5f}")
    return Row(
        SECTION, name, count / ours.middle if ours else None, "queries/s", 1, FAISS.name,
        count / theirs.middle if theirs else None,
        speed_ratio(ours, theirs) if ours and theirs else None, note="; ".join(notes),
    )  # fmt: skip
