"""An epoch on real data: the loader's share, and what stored teachers save."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import polars as pl
from measuring import Results, Row, median_ratio
from workload import ROOT, SMALL, Size, cache_folder

from sections.processes import run_script, run_stage

SECTION = "beauty5"
TITLE = "An epoch on real data"
SOURCE = Path(os.environ.get("LLM_ESR_BENCH_BEAUTY5") or ROOT.parent / "shared" / "data" / "beauty5")
STORED = ROOT / "benches" / "quality" / "dual-view-stored-teachers.yaml"
PRESETS = ("llm-esr", "corrected", "paper-sasrec")
THREADS = 2


def about(size: Size) -> str:
    return (
        "One epoch of training on Amazon Beauty, 5-core (22,363 users, 12,101 items, MiniLM vectors), in the package's "
        "own loop with two threads of torch and one of the loader: time inside `next(loader)` over the epoch's time, "
        "validation not counted. Teachers: `live`, encoded in each step, beside `stored`, encoded once an epoch "
        "(`distill.teachers`); their quality stands on docs/quality.md."
    )


def measure(size: Size) -> Results:
    if not SOURCE.exists():
        return not_there(SECTION, "%", THREADS)
    data = prepared()
    # A trial takes only some steps; the paper's epochs are long, and their share does not vary.
    options = ["--steps", "3"] if size == SMALL else []
    rows = []
    for preset in PRESETS:
        repeats = 1 if size == SMALL or preset != "llm-esr" else 3
        limit = ["--steps", "40"] if preset == "paper-sasrec" and not options else options
        runs = [run_script("beauty5_process.py", [str(data), preset, *limit], threads=THREADS) for _ in range(repeats)]
        share = statistics.median(100 * r["waited"] / r["seconds"] for r in runs)
        seconds = statistics.median(r["seconds"] for r in runs)
        note = f"{runs[0]['steps']:,} steps in {seconds:.1f} s"
        rows.append(Row(SECTION, f"{preset}, waiting for the loader", share, "%", THREADS, asked="< 1 %", note=note))
    rows.append(_stored_beside_live(data, options, 1 if size == SMALL else 3))
    return Results(rows)


def _stored_beside_live(data: Path, options: list[str], repeats: int) -> Row:
    """An epoch with teachers that are looked up, their refresh included, beside one that encodes them in each step."""
    seconds: dict[str, list[float]] = {"llm-esr": [], str(STORED): []}
    for _ in range(repeats):
        for config, found in seconds.items():
            found.append(run_script("beauty5_process.py", [str(data), config, *options], threads=THREADS)["seconds"])
    live, stored = seconds.values()
    name, peer = "llm-esr, an epoch with stored teachers", "with live teachers"
    ratio = median_ratio(live, stored)
    return Row(SECTION, name, statistics.median(stored), "s", THREADS, peer, statistics.median(live), ratio)


def not_there(section: str, unit: str, threads: int) -> Results:
    """What a section says where the data are not beside this checkout."""
    return Results([Row(section, "beauty5", None, unit, threads, note=f"{SOURCE.name} is not there")])


def prepared() -> Path:
    """The data folder with vectors and neighbours, made once."""
    data = cache_folder() / "beauty5"
    done = data / "similar_users.npy"
    if not done.exists():
        vectors = [f"--{kind}-embeddings={SOURCE / kind}_embeddings.npy" for kind in ("item", "user")]
        _prepare([str(SOURCE / "interactions.parquet"), "--items", str(SOURCE / "items.parquet")], data)
        run_stage("embed", str(data), *vectors)
        run_stage("index", str(data))
    return data


def without_texts(users: int | None = None) -> Path:
    """The data folder of the interactions alone, of all users or of the first ones, made once."""
    data = cache_folder() / ("beauty5-interactions" if users is None else f"beauty5-first-{users}")
    if not (data / "dataset.json").exists():
        source = SOURCE / "interactions.parquet"
        if users is not None:
            table = pl.read_parquet(source)
            first = table["user_id"].unique(maintain_order=True)[:users]
            source = data.with_suffix(".parquet")
            source.parent.mkdir(parents=True, exist_ok=True)
            table.filter(pl.col("user_id").is_in(first.to_list())).write_parquet(source)
        _prepare([str(source)], data)
    return data


def _prepare(tables: list[str], data: Path) -> None:
    run_stage("prepare", *tables, "--order-column", "order", "--out", str(data))
