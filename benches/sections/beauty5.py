"""The loader's share of an epoch on real data."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from measuring import Results, Row
from workload import ROOT, SMALL, Size, cache_folder

from sections.processes import run_script

SECTION = "beauty5"
TITLE = "The loader's share of an epoch"
SOURCE = Path(os.environ.get("LLM_ESR_BENCH_BEAUTY5") or ROOT.parent / "shared" / "data" / "beauty5")
PRESETS = ("llm-esr", "corrected", "paper-sasrec")
THREADS = 2


def about(size: Size) -> str:
    return (
        "One epoch of training on Amazon Beauty, 5-core (22,363 users, 12,101 items, MiniLM vectors), in the package's "
        "own loop with two threads of torch and one of the loader: time inside `next(loader)` over the epoch's time, "
        "validation not counted."
    )


def measure(size: Size) -> Results:
    if not SOURCE.exists():
        return Results([Row(SECTION, "beauty5", None, "%", THREADS, note=f"{SOURCE.name} is not there")])
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
    return Results(rows)


def prepared() -> Path:
    """The data folder with vectors and neighbours, made once."""
    data = cache_folder() / "beauty5"
    done = data / "similar_users.npy"
    if not done.exists():
        command = str(Path(sys.executable).parent / "llm-esr")
        vectors = [f"--{kind}-embeddings={SOURCE / kind}_embeddings.npy" for kind in ("item", "user")]
        tables = [str(SOURCE / "interactions.parquet"), "--items", str(SOURCE / "items.parquet")]
        for line in (
            ["prepare", *tables, "--order-column", "order", "--out", str(data)],
            ["embed", str(data), *vectors, "--quiet"],
            ["index", str(data), "--quiet"],
        ):
            subprocess.run([command, *line], check=True, stdout=subprocess.DEVNULL)
    return data
