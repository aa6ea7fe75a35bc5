"""10 million users, 100 million interactions: the start, the memory, and the speed beside 50,000 users."""

from __future__ import annotations

import statistics

from measuring import Rate, Results, Row, alternating, median_ratio, rate_of
from our_loader import endless, our_loader, take
from workload import Size, Workload, large, usual

from sections.processes import run_script

SECTION = "large"
TITLE = "Ten million users"
LAYOUTS = {"packed": ">= 0.5", "padded": ">= 0.8"}


def about(size: Size) -> str:
    return (
        f"{size.large_users:,} simulated users, {size.large_users * size.large_mean_length:,.0f} interactions, "
        f"{size.items:,} items, {size.similar_users} similar users each from `similar_users.npy`, shuffled, one "
        "thread, page cache warm. Beside it the same loader on the data of *Loading*. The first batch is timed in a "
        "fresh process from the loader's construction; memory is all that no file backs, interpreter and torch "
        "included."
    )


def measure(size: Size) -> Results:
    work = large(size)
    warm(work)
    rows = []
    for layout in LAYOUTS:
        steps = ["--steps", str(size.our_steps)]
        runs = [run_script("large_process.py", [layout, *steps], threads=1) for _ in range(max(size.repeats - 2, 1))]
        first = statistics.median(r["first"] for r in runs)
        rows.append(Row(SECTION, f"{layout}, first batch", first, "s", 1, asked="< 2 s"))
        memory, grown = (max(r[key] for r in runs) / 1e9 for key in ("anonymous", "grown"))
        note = f"{grown:.2f} GB of it by the loader"
        rows.append(Row(SECTION, f"{layout}, memory beside the maps", memory, "GB", 1, asked="< 1 GB", note=note))
    runners: dict[str, Rate] = {}
    for layout in LAYOUTS:
        for name, data in (("many", work), ("few", usual(size))):
            batches = endless(our_loader(data, size, similar_users=size.similar_users, layout=layout))
            runners[f"{layout} {name}"] = rate_of(lambda b=batches: take(b, size.our_steps))  # type: ignore[misc]
    found = alternating(runners, size.repeats)
    for layout, asked in LAYOUTS.items():
        many, few = found[f"{layout} many"], found[f"{layout} few"]
        rows.append(
            Row(SECTION, f"{layout}, {size.similar_users} similar users", statistics.median(many), "batches/s", 1,
                f"ours, {size.users:,} users", statistics.median(few), median_ratio(many, few), asked)
        )  # fmt: skip
    return Results(rows)


def warm(work: Workload) -> None:
    """Read the files once."""
    for path in sorted(work.folder.glob("*.npy")):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
