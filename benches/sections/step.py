"""One training step: ours beside the authors', as shipped and with an allocator that keeps its memory."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from measuring import Results, Row, median_ratio
from workload import Size, full_rows, usual

from sections.processes import run_script

SECTION = "step"
TITLE = "Training step"
UNIT = "s"
THREADS = 2
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 26)}
OURS = {"paper": "ours-paper", "corrected": "ours-corrected"}


def about(size: Size) -> str:
    return (
        f"SASRec with both views, width {size.width}, batch {size.batch_size}, {size.max_len} positions, "
        f"{size.text_width}-wide text embeddings, {size.similar_users} similar users, dropout 0.5, Adam; forward, "
        "backward and optimizer, on the sequences of *Loading*. Beside it `benches/peers/authors_step.py`, the "
        "authors' computation in plain torch, which reproduces their golden vectors; with dropout 0 and equal weights "
        "its losses are those of ours in `paper` mode over several steps (`tests/benches`). `corrected` is the same "
        "architecture with the defects of docs/paper-mode.md mended. Each repeat is a process of its own, alternating. "
        "As shipped: the system's allocator as it comes; our training loop tells it to keep what a step frees "
        "(`runtime.keep_memory`), and so does the measured step. Tuned: `MALLOC_MMAP_MAX_=0` and a large "
        "`MALLOC_TRIM_THRESHOLD_` on both sides. Loading is not counted. Peak memory is the process's largest resident "
        "set, text embeddings and libraries included. *Flat attention* is ours with the Rust kernel beside ours with "
        "attention in torch, over rows of sequences of about the same length."
    )


def measure(size: Size) -> Results:
    usual(size), full_rows(size)  # written before the first process asks for them
    rows = _compare("as shipped", size, {}, size.as_shipped_repeats, {"paper": ">= 150"})
    rows += _compare("tuned allocator", size, TUNED, max(size.repeats - 2, 1), {"paper": ">= 75, stretch 150"})
    rows += _alone(f"full rows of {size.max_len}", size)
    rows += _kernel(size)
    return Results(rows)


def _compare(
    variant: str, size: Size, environment: Mapping[str, str], repeats: int, asked: Mapping[str, str]
) -> list[Row]:
    found: dict[str, list[dict[str, Any]]] = {who: [] for who in ("authors", *OURS.values())}
    for _ in range(repeats):
        for who, runs in found.items():
            # The first step of a process pays for its memory; the authors' second costs as much as their first.
            steps = ["--steps", "1"] if who == "authors" else ["--steps", "12", "--warm-up", "3"]
            runs.append(run(who, environment, steps))
    seconds = {who: [statistics.median(r["seconds"]) for r in runs] for who, runs in found.items()}
    peaks = {who: [r["peak"] / 1e9 for r in runs] for who, runs in found.items()}
    rows = []
    for mode, who in OURS.items():
        rows.append(
            Row(SECTION, f"{mode}, {variant}", statistics.median(seconds[who]), UNIT, THREADS, "authors' step",
                statistics.median(seconds["authors"]), median_ratio(seconds["authors"], seconds[who]),
                asked.get(mode, ""))
        )  # fmt: skip
        rows.append(
            Row(SECTION, f"{mode}, {variant}, peak memory", statistics.median(peaks[who]), "GB", THREADS,
                "authors' step", statistics.median(peaks["authors"]), median_ratio(peaks["authors"], peaks[who]),
                "<= 1.5 GB")
        )  # fmt: skip
    return rows


def _alone(variant: str, size: Size) -> list[Row]:
    """Without padding there is nothing to pack; the authors' step does not depend on it."""
    rows = []
    for mode, who in OURS.items():
        runs = [run(who, {}, ["--steps", "2", "--full-rows"]) for _ in range(max(size.repeats // 2, 1))]
        seconds = statistics.median(statistics.median(r["seconds"]) for r in runs)
        rows.append(Row(SECTION, f"{mode}, {variant}", seconds, UNIT, THREADS))
        rows.append(Row(SECTION, f"{mode}, {variant}, peak memory", max(r["peak"] for r in runs) / 1e9, "GB", THREADS))
    return rows


def _kernel(size: Size) -> list[Row]:
    """Attention by our kernel beside the same in torch, over rows by length."""
    rows = []
    for name, full in (("", []), (f", full rows of {size.max_len}", ["--full-rows"])):
        backends: dict[str, list[dict[str, Any]]] = {"flat": [], "by-length": []}
        for _ in range(max(size.repeats - 2, 1)):
            for backend, runs in backends.items():
                steps = ["--steps", "2" if full else "12", "--warm-up", "1" if full else "3"]
                runs.append(run(OURS["paper"], {}, [*steps, *full, "--attention", backend]))
        seconds = {backend: [statistics.median(r["seconds"]) for r in runs] for backend, runs in backends.items()}
        peaks = {backend: [r["peak"] / 1e9 for r in runs] for backend, runs in backends.items()}
        for what, unit, found in (("", UNIT, seconds), (", peak memory", "GB", peaks)):
            flat, torchs = found["flat"], found["by-length"]
            rows.append(
                Row(SECTION, f"paper, flat attention{name}{what}", statistics.median(flat), unit, THREADS,
                    "attention in torch, rows by length", statistics.median(torchs), median_ratio(torchs, flat))
            )  # fmt: skip
    return rows


def run(who: str, environment: Mapping[str, str], arguments: list[str]) -> dict[str, Any]:
    """One process of `step_process.py`; its report."""
    arguments = [who, "--threads", str(THREADS), *arguments]
    return run_script("step_process.py", arguments, threads=THREADS, environment=environment)
