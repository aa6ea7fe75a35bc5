"""`make bench-peers`: implicit's cosine recommender beside our co-occurrence scorer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Results, Row, alternating, cores, median_ratio, rate_of
from workload import SMALL, Size

from llm_esr import Dataset
from llm_esr.scoring.neighbours import TABLE_WIDTH, CoOccurrence, DecayedSum
from sections import beauty5
from sections.packages import Coprocess, NotInstalledError, Package

SECTION = "item-knn-peers"
TITLE = "Item kNN in other packages"
IMPLICIT = Package("implicit 0.7.3", "implicit", ("implicit==0.7.3",))
THREADS = 2
LISTED = 20
CHECKED_USERS = 60
TABLES, LISTS = "tables of cosines", f"lists of {LISTED}"
EVEN_LISTS = f"{LISTS}, every item of a history weighs 1"


class EvenCoOccurrence(CoOccurrence):
    """Every item of a history weighs 1: the sums that implicit comes with."""

    sum = DecayedSum(decay=1.0, newest=1 << 30)


def about(size: Size) -> str:
    decay, newest = CoOccurrence.sum.decay, CoOccurrence.sum.newest
    return (
        f"Cosines between items by their users on Amazon Beauty, 5-core (22,363 users, 12,101 items), {TABLE_WIDTH} "
        "others kept for each item: counted from the training parts with two threads; then, with one thread, lists of "
        f"the {LISTED} best items of every user from the training and validation parts, whose items are left out. Both "
        f"sides weigh the {newest} newest items by powers of {decay:g}: implicit is handed these weights, and 0 for "
        "older items, in place of its usual 1 for each, which is as much work. The last row has its usual weights on "
        "both sides: ours then reads whole histories, as implicit always does. Before, the cosines and the scores of "
        f"the lists of {CHECKED_USERS} users are checked to be equal, with either weights."
    )


def measure(size: Size) -> Results:
    if not beauty5.SOURCE.exists():
        return beauty5.not_there(SECTION, "s", THREADS)
    try:
        check(beauty5.without_texts(CHECKED_USERS))
        folder = beauty5.without_texts(500 if size == SMALL else None)
        data = Dataset.open(folder)
        with started(folder, CoOccurrence) as peer:
            rows = compare(peer, data, size)
        with started(folder, EvenCoOccurrence) as peer:
            return Results([*rows, compare_lists(peer, EvenCoOccurrence, data, size)])
    except NotInstalledError as reason:
        return Results([Row(SECTION, TABLES, None, "s", THREADS, IMPLICIT.name, note=f"not installed: {reason}")])


def started(folder: Path, scorer: type[CoOccurrence]) -> Coprocess:
    """implicit on a data folder, with the sums of a scorer of ours."""
    options = {
        "width": TABLE_WIDTH, "listed": LISTED, "decay": scorer.sum.decay, "newest": scorer.sum.newest,
        "threads": THREADS,
    }  # fmt: skip
    arguments = [str(folder), *(f"--{name}={value}" for name, value in options.items())]
    return Coprocess(IMPLICIT, "implicit_cosine.py", arguments, threads=THREADS)


def check(folder: Path) -> None:
    """That both give the same cosines and the same scores, on few users."""
    for ours in (CoOccurrence, EvenCoOccurrence):
        with started(folder, ours) as peer:
            must_equal(peer.ask("values", "values"), Dataset.open(folder), ours)


def must_equal(theirs: Mapping[str, Any], data: Dataset, ours: type[CoOccurrence] = CoOccurrence) -> None:
    """Hold implicit's `table`, `ids` and `scores` against our scorer's.

    Raises:
        AssertionError: a cosine or a score differs by more than rounding.

    """
    scorer = ours(data)
    cosines = np.zeros((data.n_items + 1, data.n_items + 1))
    ids_IW, values_IW = scorer.table
    assert (values_IW[:, -1] == 0).all() or ids_IW.shape[1] == data.n_items, "rows are cut: ties may differ"
    cosines[np.arange(1, data.n_items + 1)[:, None], ids_IW] = values_IW
    cosines[:, 0] = 0.0  # fills
    expected = np.zeros_like(cosines)
    items, others, values = theirs["table"]
    expected[items, others] = values
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
    histories = data.histories(np.arange(data.n_users), "test")
    ids_SK, scores_SK = (np.array(theirs[key]) for key in ("ids", "scores"))
    # Where fewer items have any score, implicit leaves the rest of a list open and ours fills it up with zeros.
    scored_SK = scores_SK > 0
    np.testing.assert_allclose(scorer.lists(*histories, LISTED)[1], np.where(scored_SK, scores_SK, 0.0), atol=1e-6)
    rows, places = np.nonzero(scored_SK)
    ours_n = scorer.scores(*histories).numpy()[rows, ids_SK[rows, places] - 1]
    np.testing.assert_allclose(ours_n, scores_SK[rows, places], atol=1e-6)


def compare(peer: Coprocess, data: Dataset, size: Size) -> list[Row]:
    """The time of the tables, and lists a second."""
    tables = alternating(
        {"ours": rate_of(lambda: len([CoOccurrence(data)]), THREADS), "theirs": partial(peer.rate, "build")},
        size.repeats,
    )
    seconds = {name: 1 / statistics.median(rates) for name, rates in tables.items()}
    return [
        Row(SECTION, TABLES, seconds["ours"], "s", THREADS, IMPLICIT.name, seconds["theirs"],
            median_ratio(tables["ours"], tables["theirs"]), "",
            f"implicit keeps {TABLE_WIDTH + 1}, the item itself among them, in double precision, and starts from a "
            "matrix; ours from the sequences"),
        compare_lists(peer, CoOccurrence, data, size),
    ]  # fmt: skip


def compare_lists(peer: Coprocess, ours: type[CoOccurrence], data: Dataset, size: Size) -> Row:
    """Lists a second, with the sums of a scorer of ours."""
    with cores(THREADS):
        scorer = ours(data)
    histories = data.histories(np.arange(data.n_users), "test")
    lists = alternating(
        {"ours": rate_of(lambda: len(scorer.lists(*histories, LISTED)[0])), "theirs": partial(peer.rate, "lists")},
        size.repeats,
    )
    middle = {name: statistics.median(rates) for name, rates in lists.items()}
    return Row(
        SECTION, LISTS if ours is CoOccurrence else EVEN_LISTS, middle["ours"], "lists/s", 1, IMPLICIT.name,
        middle["theirs"], median_ratio(lists["ours"], lists["theirs"]), "",
        "implicit's lists of many users are a loop in Python around its kernel, and its scores are in double precision",
    )  # fmt: skip
