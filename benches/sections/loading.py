"""Batches a second: ours beside the authors' style, a process queue and NumPy, and beside copying the same bytes."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from measuring import Rate, Results, Row, alternating, cores, median_ratio, rate_of
from our_loader import WAITING, endless, our_loader, take, tensors_of
from peers import Dense
from peers.authors_loader import AuthorsDataset, authors_batches
from peers.samplers import Met
from peers.torch_loader import TorchDataset, torch_batches
from peers.vectorised_loader import VectorisedLoader
from peers.warp_sampler import WarpSampler
from sameness import check_batch, check_rows
from workload import Histories, Size, Workload, full_rows, usual

SECTION = "loading"
TITLE = "Loading"
AUTHORS = "authors' style Dataset + DataLoader"
TORCH = "torch's own: DataLoader, pad_sequence"
VECTORISED = "vectorised NumPy"

OURS: dict[str, dict[str, Any]] = {
    "packed": {"layout": "packed"},
    "padded": {"layout": "padded"},
    "padded, padding as tokens": {"layout": "padded", "padding_tokens": True},
}
# Beside every peer; the others beside the authors' alone.
COMPARED = ("packed", "padded")


def about(size: Size) -> str:
    return (
        f"{size.users:,} users of mean length {size.mean_length}, {size.items:,} Zipf items, at most {size.max_len} "
        f"items a sequence, {size.batch_size} students a batch, one negative a target that the student never met, "
        f"with {size.similar_users} similar users each or without. The peers were written here, in the style of those "
        "they stand for (`benches/peers`): per-user Python with rejection against a set (0 and 2 workers), a queue "
        "filled by a worker process, torch's `DataLoader` with `pad_sequence`, whole batches by NumPy indexing. Before "
        "anything is timed, all are checked to give the same sequences, targets and teachers, and negatives to be "
        "valid. Peers copy a similar user into each student's rows; ours stores the distinct ones of a batch once and "
        "gives their places; *padding as tokens* gives every array as whole rows. Ours uses one core and no background "
        "thread; processes of peers may use both cores. Copying the same bytes is `numpy.copyto` of a batch's arrays "
        "into kept buffers. Full rows: "
        f"{size.users // 5:,} users with {size.max_len} items each."
    )


def measure(size: Size) -> Results:
    rows: list[Row] = []
    for kind, work in (("", usual(size)), (f", full rows of {size.max_len}", full_rows(size))):
        for k in (size.similar_users, 0):
            label = (f"{k} similar users" if k else "no similar users") + kind
            rows += _compare(work, size, k, label, peers_with_processes=not kind)
    return Results(rows)


def _compare(work: Workload, size: Size, k: int, label: str, *, peers_with_processes: bool) -> list[Row]:
    dataset = AuthorsDataset(work.folder, work.n_items, size.max_len, k)
    vectorised = VectorisedLoader(work.folder, work.n_items, size.max_len, k, size.batch_size)
    check(work, size, k, dataset)
    runners: dict[str, Rate] = {
        AUTHORS: running(forever(lambda: authors_batches(dataset, size.batch_size)), size.peer_steps)
    }
    threads = {AUTHORS: 1}
    if peers_with_processes:
        runners[f"{AUTHORS}, 2 workers"] = with_workers(dataset, size)
        runners["process queue (WarpSampler style), 1 worker"] = with_queue(dataset, size)
        threads |= dict.fromkeys(list(runners)[1:], 2)
    own = TorchDataset(work.folder, work.n_items, size.max_len, k)
    runners[TORCH] = running(forever(lambda: torch_batches(own, size.batch_size)), size.peer_steps)
    runners[VECTORISED] = running(forever(lambda: iter(vectorised)), size.fast_steps)
    peers = list(runners)
    for name, options in OURS.items():
        batches = endless(our_loader(work, size, similar_users=k, **options))
        runners[name] = rate_of(lambda batches=batches: take(batches, size.our_steps))  # type: ignore[misc]
    behind = endless(our_loader(work, size, similar_users=k, threads=1))
    runners["packed, 1 background thread"] = rate_of(
        lambda: take(behind, size.our_steps), 2, before=lambda: take(behind, WAITING)
    )
    copies = {f"copying {name}": copier(work, size, k, options) for name, options in OURS.items()}
    found = alternating({**runners, **copies}, size.repeats)

    def row(name: str, key: str, peer: str, asked: str, note: str = "") -> Row:
        return Row(
            section=SECTION,
            name=f"{name}, {label}",
            ours=statistics.median(found[name]),
            unit="batches/s",
            threads=1 if name in OURS else 2,
            peer_name=peer,
            peer=statistics.median(found[key]),
            ratio=median_ratio(found[name], found[key]),
            asked=asked,
            note=note,
        )

    rows = []
    for name in (*OURS, "packed, 1 background thread"):
        for peer in peers if name in COMPARED else [AUTHORS]:
            note = f"the peer on {threads[peer]} cores" if threads.get(peer, 1) > 1 else ""
            rows.append(row(name, peer, peer, _asked(name, peer, k, label), note))
    for name in OURS:
        asked = ">= 0.5" if name == "padded" and k and "full" not in label else ""
        rows.append(row(name, f"copying {name}", "copying the same bytes", asked))
    return rows


def _asked(name: str, peer: str, k: int, label: str) -> str:
    if peer != AUTHORS or not k or "full" in label:
        return ""
    return {"packed": ">= 250, and >= 10,000 batches/s", "padded": ">= 120"}.get(name, "")


def check(work: Workload, size: Size, k: int, dataset: AuthorsDataset, steps: int = 3) -> None:
    """The first batches of all loaders are the same; those of the queue are what NumPy gives for its users."""
    met = Met.of(Histories.read(work.folder), work.n_items)
    vectorised = VectorisedLoader(work.folder, work.n_items, size.max_len, k, size.batch_size, shuffle=False)
    for options in OURS.values():
        loader = our_loader(work, size, similar_users=k, shuffle=False, **options)
        peers = [
            authors_batches(dataset, size.batch_size, shuffle=False),
            torch_batches(TorchDataset(work.folder, work.n_items, size.max_len, k), size.batch_size, shuffle=False),
            vectorised,
        ]
        for ours, *theirs in itertools.islice(zip(loader, *peers, strict=False), steps):
            for batch in theirs:
                check_batch(ours, batch, size.max_len, met)
    sampler = WarpSampler(dataset, size.batch_size)
    try:
        for batch in itertools.islice(sampler, steps):
            check_rows(batch, vectorised.batch(batch.users.numpy()), met)
    finally:
        sampler.close()


def forever(epoch: Callable[[], Iterator[Dense]]) -> Iterator[Dense]:
    """Epoch after epoch, so that no repeat pays for the start of one."""
    while True:
        yield from epoch()


def running(batches: Iterator[Dense], steps: int, n_cores: int = 1) -> Rate:
    """The next `steps` batches."""
    return rate_of(lambda: sum(1 for _ in itertools.islice(batches, steps)), n_cores)


def with_workers(dataset: AuthorsDataset, size: Size, workers: int = 2) -> Rate:
    """A DataLoader with workers; what they prepared ahead of the clock is not counted."""

    def run() -> float:
        with cores(2):
            batches = forever(lambda: authors_batches(dataset, size.batch_size, workers=workers))
            for _ in itertools.islice(batches, 2 * workers):
                pass
            return _timed(batches, size.peer_steps)

    return run


def with_queue(dataset: AuthorsDataset, size: Size) -> Rate:
    """The process queue; what waits in it when the clock starts is not counted."""

    def run() -> float:
        with cores(2):
            sampler = WarpSampler(dataset, size.batch_size)
            try:
                batches = iter(sampler)
                for _ in itertools.islice(batches, sampler.waiting):
                    pass
                return _timed(batches, size.peer_steps)
            finally:
                sampler.close()

    return run


def _timed(batches: Iterator[Dense], steps: int) -> float:
    began = time.perf_counter()
    done = sum(1 for _ in itertools.islice(batches, steps))
    return done / (time.perf_counter() - began)


def copier(work: Workload, size: Size, k: int, options: dict[str, Any], kept: int = 32) -> Rate:
    """Copy the arrays of some batches, one batch after the other, into the same buffers."""
    loader = our_loader(work, size, similar_users=k, **options)
    # Only whole batches: the last of an epoch may be smaller.
    whole = [
        [t.numpy() for t in tensors_of(b)] for b in itertools.islice(loader, kept) if len(b.users) == size.batch_size
    ]
    buffers = [np.empty(max(arrays[i].size for arrays in whole), a.dtype) for i, a in enumerate(whole[0])]

    def copy() -> int:
        for step in range(size.our_steps):
            for array, buffer in zip(whole[step % len(whole)], buffers, strict=True):
                np.copyto(buffer[: array.size], array.reshape(-1))
        return size.our_steps

    return rate_of(copy)
