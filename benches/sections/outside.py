"""`make bench-peers`: public loaders in environments of their own, alternating with ours.

One that cannot be installed becomes a row that says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from measuring import Rate, Results, Row, alternating, median_ratio, rate_of
from our_loader import endless, our_loader, take
from workload import Size, Workload, usual

from sections.packages import Coprocess, NotInstalledError, Package

SECTION = "peers"
TITLE = "Loaders of other packages"
UNIT = "rows/s"


@dataclass(frozen=True)
class Outside(Package):
    """A loader of a package: the script that times it, and its arguments."""

    script: str
    arguments: Callable[[Size], list[str]]
    note: str
    asked: str = ""


PEERS = (
    Outside(
        name="RecBole 1.2.1",
        environment="recbole",
        # The last versions that it runs with.
        requirements=("recbole==1.2.1", "numpy<2", "torch<2.6", "pandas<2.2", "scipy<1.13", "setuptools"),
        script="recbole_loader.py",
        arguments=lambda size: ["--rows", str(16 * size.batch_size), "--steps", str(size.peer_steps)],
        note="a row of RecBole is one prefix with one negative; its batches are 16 times as large",
        asked=">= 15",
    ),
    Outside(
        name="RePlay 0.22, Parquet",
        environment="replay",
        requirements=("replay-rec[torch]==0.22.0",),
        script="replay_loader.py",
        arguments=lambda size: ["--rows", str(size.batch_size)],
        note="one vector of negatives a batch, seen items not left out",
    ),
)


def about(size: Size) -> str:
    return (
        "Rows a second without similar users, one core each, on the data of *Loading*. A row is one sequence that a "
        "model reads. These do not do the same work: what differs stands in the last column. Each package runs in an "
        "environment of its own (`runs/bench/envs`), with versions that it runs with."
    )


def measure(size: Size) -> Results:
    work = usual(size)
    rows = []
    for peer in PEERS:
        try:
            arguments = [str(work.folder), "--max-len", str(size.max_len), *peer.arguments(size)]
            with_peer = Coprocess(peer, peer.script, arguments)
        except NotInstalledError as reason:
            rows.append(
                Row(SECTION, "packed, no similar users", None, UNIT, 1, peer.name, note=f"not installed: {reason}")
            )
            continue
        with with_peer:
            rows += _compare(peer, with_peer, work, size)
    return Results(rows)


def _compare(peer: Outside, process: Coprocess, work: Workload, size: Size) -> list[Row]:
    runners: dict[str, Rate] = {peer.name: process.rate}
    for layout in ("packed", "padded"):
        batches = endless(our_loader(work, size, layout=layout))
        runners[layout] = rate_of(lambda b=batches: size.batch_size * take(b, size.our_steps))  # type: ignore[misc]
    found = alternating(runners, size.repeats)
    theirs = found[peer.name]
    return [
        Row(SECTION, f"{layout}, no similar users", statistics.median(found[layout]), UNIT, 1, peer.name,
            statistics.median(theirs), median_ratio(found[layout], theirs), peer.asked if layout == "packed" else "",
            peer.note)
        for layout in ("packed", "padded")
    ]  # fmt: skip
