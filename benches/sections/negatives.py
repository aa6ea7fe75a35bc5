"""Negatives a second: ours beside loops, NumPy and torch; uniform and by popularity, on one core and on two."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from measuring import Rate, Results, Row, alternating, median_ratio, rate_of
from numpy.typing import NDArray
from our_loader import WAITING, endless, our_loader
from peers.authors_loader import unseen_item
from peers.samplers import Met, torch_by_popularity, torch_uniform
from sameness import check_distribution, check_unseen
from workload import Histories, Size, Workload, make_workload, usual

from llm_esr.loading import Batch

SECTION = "negatives"
TITLE = "Negatives"
UNIT = "million/s"

Peer = Callable[[NDArray[np.int64]], int]


def about(size: Size) -> str:
    return (
        f"{size.negatives} negatives for each target of the batches above, of {size.items:,} items. Ours and the "
        "rejection peers never give an item that the user met; torch's samplers leave nothing out and are marked. Ours "
        "is timed as the loader gives it, cutting and packing of the sequences included; peers are handed the targets' "
        "users. Validity and the distribution (chi-square) are checked before."
    )


def measure(size: Size) -> Results:
    check_ours(size)
    work = usual(size)
    histories = Histories.read(work.folder)
    met = Met.of(histories, work.n_items)
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(np.diff(met.chances, prepend=0))
    n = size.negatives
    seen = [set(history) for history in histories.as_lists()]
    uniform: dict[str, Peer] = {
        "authors' style rejection loop": lambda users: _loop(seen, work.n_items, users),
        "NumPy rejection": lambda users: met.uniform(rng, users, n).size,
        "torch.randint (seen items not left out)": lambda users: torch_uniform(work.n_items, len(users), n).numel(),
    }
    popular: dict[str, Peer] = {
        "NumPy rejection": lambda users: met.by_popularity(rng, users, n).size,
        "torch.multinomial (seen items not left out)": lambda users: torch_by_popularity(
            weights, len(users), n
        ).numel(),
    }
    rows = _compare("uniform", work, size, {}, uniform, ">= 150 million/s")
    return Results(
        rows + _compare("by popularity", work, size, {"distribution": "popularity"}, popular, ">= 50 million/s")
    )


def _compare(
    name: str, work: Workload, size: Size, options: dict[str, Any], peers: dict[str, Peer], asked: str
) -> list[Row]:
    steps = max(size.our_steps // 10, 1)
    runners: dict[str, Rate] = {}
    for threads in (0, 1, 2):
        batches = endless(our_loader(work, size, n_negatives=size.negatives, threads=threads, **options))
        runners[f"ours {threads}"] = our_rate(batches, steps, threads)
    users = targeted_users(endless(our_loader(work, size)))
    for peer, draw in peers.items():
        runners[peer] = rate_of(lambda draw=draw: sum(draw(next(users)) for _ in range(size.peer_steps)))  # type: ignore[misc]
    found = {k: [rate / 1e6 for rate in v] for k, v in alternating(runners, size.repeats).items()}
    ours = found["ours 0"]
    rows = [
        Row(SECTION, name, statistics.median(ours), UNIT, 1, peer, statistics.median(found[peer]),
            median_ratio(ours, found[peer]), asked if place == 0 else "",
            "the peer may give seen items" if "not left out" in peer else "")
        for place, peer in enumerate(peers)
    ]  # fmt: skip
    two, one = found["ours 2"], found["ours 1"]
    rows.append(
        Row(SECTION, f"{name}, 2 threads", statistics.median(two), UNIT, 2, "ours, 1 thread", statistics.median(one),
            median_ratio(two, one), ">= 1.8", "background threads, as many cores as threads")
    )  # fmt: skip
    return rows


def our_rate(batches: Iterator[Batch], steps: int, threads: int) -> Rate:
    """Negatives a second on as many cores as background threads; what they prepared ahead is not counted."""
    ahead = WAITING if threads else 0
    return rate_of(lambda: drawn(batches, steps), max(threads, 1), before=lambda: drawn(batches, ahead))


def drawn(batches: Iterator[Batch], steps: int) -> int:
    """Negatives in the next batches."""
    return sum(batch.negatives.size for batch in itertools.islice(batches, steps))


def targeted_users(batches: Iterator[Batch]) -> Iterator[NDArray[np.int64]]:
    """For each batch the user of every target, [M]; made before the clock starts, in a ring."""
    kept = [
        np.repeat(batch.users, np.diff(batch.students.offsets))[batch.students.targets > 0]
        for batch in itertools.islice(batches, 50)
    ]
    return itertools.cycle(kept)


def _loop(seen: list[set[int]], n_items: int, users: NDArray[np.int64]) -> int:
    """One a target: the loop's rate does not depend on how many."""
    return len([unseen_item(n_items, seen[user]) for user in users.tolist()])


def check_ours(size: Size) -> None:
    """Never a seen item, and the right distribution, where there are few enough items to see it."""
    work = make_workload(300, 120, 9.0, 1)
    met = Met.of(Histories.read(work.folder), work.n_items)
    for options, weights in (
        ({}, np.ones(work.n_items)),
        ({"distribution": "popularity"}, np.diff(met.chances, prepend=0)),
    ):
        users_M, negatives = [], []
        for batch in our_loader(work, size, n_negatives=size.negatives, **options):
            lengths = np.diff(batch.students.offsets)
            users_M.append(np.repeat(batch.users, lengths)[batch.students.targets > 0])
            negatives.append(batch.negatives)
        together = np.concatenate(users_M), np.concatenate(negatives)
        check_unseen(met, *together)
        check_distribution(met, *together, weights)
