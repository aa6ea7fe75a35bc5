"""Throughput against batch size, sequence length, number of users and threads, as plots."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from measuring import Plot, Rate, Results, Series, alternating, rate_of
from our_loader import WAITING, endless, our_loader, take
from peers.authors_loader import AuthorsDataset, authors_batches
from peers.vectorised_loader import VectorisedLoader
from workload import SMALL, Size, make_workload, usual

from sections.loading import forever, running
from sections.negatives import our_rate

SECTION = "plots"
TITLE = "Against size"
STUDENTS = "students/s"


def about(size: Size) -> str:
    return (
        f"The loaders with {size.similar_users} similar users, one axis varied at a time, on one core; by number of "
        "threads ours alone, on as many cores."
    )


def measure(size: Size) -> Results:
    small = size == SMALL
    batches = [32, 128, 512, 2048] if not small else [8, 32]
    lengths = [25, 50, 100, 200] if not small else [10, 20]
    users = [5_000, 50_000, 500_000] if not small else [300, 60_000]
    plots = [
        _plot("batch-size", "batch size", batches, lambda n: replace(size, batch_size=n)),
        _plot("sequence-length", "longest sequence, all full", lengths, lambda n: replace(size, max_len=n), full=True),
        _plot("users", "users", users, lambda n: replace(size, users=n)),
        _threads(size),
    ]
    return Results([], plots)


def _plot(name: str, label: str, values: Sequence[int], sized: Callable[[int], Size], *, full: bool = False) -> Plot:
    series: dict[str, Series] = {}
    for value in values:
        for line, rate in _rates(sized(value), full=full).items():
            found = series.setdefault(line, Series(line, [], []))
            found.x.append(float(value))
            found.y.append(rate)
    lines = list(series.values())
    return Plot(name, f"Students a second by {label.split(',', maxsplit=1)[0]}", label, STUDENTS, lines)


def _rates(size: Size, *, full: bool) -> dict[str, float]:
    """Students a second of each loader."""
    k = size.similar_users
    users = size.users // 10 if full else size.users
    work = make_workload(users, size.items, 0.0 if full else size.mean_length, k, full=size.max_len if full else 0)
    scale = max(size.batch_size // 128, 1)  # batches a repeat: fewer where they are larger
    options = {"similar_users": k}
    runners: dict[str, Rate] = {}
    for layout in ("packed", "padded"):
        batches = endless(our_loader(work, size, layout=layout, **options))
        steps = max(size.our_steps // (4 * scale), 4)
        runners[f"ours, {layout}"] = rate_of(lambda b=batches, n=steps: take(b, n))  # type: ignore[misc]
    fast = VectorisedLoader(work.folder, work.n_items, size.max_len, k, size.batch_size)
    runners["vectorised NumPy"] = running(forever(lambda: iter(fast)), max(size.fast_steps // (4 * scale), 2))
    if users <= 50_000:  # lists of many more histories take gigabytes
        dataset = AuthorsDataset(work.folder, work.n_items, size.max_len, k)
        authors = forever(lambda: authors_batches(dataset, size.batch_size))
        runners["authors' style"] = running(authors, max(size.peer_steps // (4 * scale), 1))
    found = alternating(runners, max(size.repeats // 2, 1))
    return {name: statistics.median(rates) * size.batch_size for name, rates in found.items()}


def _threads(size: Size) -> Plot:
    """Ours by cores, each with a background thread."""
    work = usual(size)
    counts = [1, 2]
    rates: dict[str, list[float]] = {}
    for threads in counts:
        runners: dict[str, Rate] = {}
        for layout in ("packed", "padded"):
            batches = endless(our_loader(work, size, similar_users=size.similar_users, layout=layout, threads=threads))
            runners[f"{layout}, students/s"] = rate_of(
                lambda b=batches: take(b, size.our_steps) * size.batch_size,  # type: ignore[misc]
                threads,
                before=lambda b=batches: take(b, WAITING),  # type: ignore[misc]
            )
        batches = endless(our_loader(work, size, n_negatives=size.negatives, threads=threads))
        runners["uniform negatives/s"] = our_rate(batches, max(size.our_steps // 10, 1), threads)
        for name, values in alternating(runners, size.repeats).items():
            rates.setdefault(name, []).append(statistics.median(values))
    lines = [Series(name, [float(n) for n in counts], ys) for name, ys in rates.items()]
    return Plot("threads", "Throughput by background threads", "threads and cores", "a second", lines)
