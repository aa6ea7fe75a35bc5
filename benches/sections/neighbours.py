"""Neighbour tables and lists from them, beside the scores of the whole catalogue."""

from __future__ import annotations

import statistics

import numpy as np
import torch
from measuring import Results, Row, alternating, median_ratio, rate_of
from workload import SMALL, Size

from llm_esr import _native
from llm_esr.scoring.lists import top_k
from llm_esr.scoring.neighbours import CoOccurrence, Transitions

SECTION = "neighbours"
TITLE = "Neighbour scorers"
LISTED = 20
ITEMS, USERS, WIDTH = 30_000, 60_000, 200


def about(size: Size) -> str:
    return (
        f"Lists of the {LISTED} best items of {USERS:,} histories of 5 to 39 items over {ITEMS:,} items (drawn by a "
        f"power law), from tables of {WIDTH} entries a row: from the entries that a history names, beside scoring the "
        "whole catalogue and sorting out its best in the same reading (4,000 histories). The lists are checked equal "
        "before."
    )


def measure(size: Size) -> Results:
    users, items_of, width = (USERS, ITEMS, WIDTH) if size is not SMALL else (50, 100, 20)
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, items_of + 1) ** 0.8
    lengths = rng.integers(5, 40, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = (rng.choice(items_of, offsets[-1], p=chances / chances.sum()) + 1).astype(np.int32)
    few = min(4_000, users)
    some = items[: offsets[few]], offsets[: few + 1]
    rows = []
    for scorer in (Transitions, CoOccurrence):
        table = _native.neighbour_table(
            scorer.kind, items, offsets, lengths.astype(np.int64), items_of, width, torch.get_num_threads()
        )
        decay, newest = scorer.sum.decay, scorer.sum.newest

        def lists(given=(items, offsets), table=table, decay=decay, newest=newest):  # type: ignore[no-untyped-def]
            return _native.neighbour_lists(table, given, decay, newest, True, LISTED, 1)[0]

        def dense(table=table, decay=decay, newest=newest):  # type: ignore[no-untyped-def]
            scores = torch.from_numpy(_native.add_neighbour_rows(table, some, decay, newest, 1))
            return top_k(scores, LISTED, some)[0]

        np.testing.assert_array_equal(lists(some), dense())
        found = alternating(
            {"lists": rate_of(lambda: len(lists())), "dense": rate_of(lambda: len(dense()))}, size.repeats
        )
        middle = {key: statistics.median(rates) for key, rates in found.items()}
        rows.append(
            Row(SECTION, f"lists by {scorer.name}", middle["lists"], "lists/s", 1, "the whole catalogue's scores",
                middle["dense"], median_ratio(found["lists"], found["dense"]), ">= 15,000 a second")
        )  # fmt: skip
    return Results(rows)
