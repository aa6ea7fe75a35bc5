"""The training step on a GPU: ours beside the authors', and the share of its time that waits for input."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from measuring import Results, Row, median_ratio
from workload import Size, full_rows, usual

from sections.processes import run_script

SECTION = "gpu"
TITLE = "On a GPU"
OURS = {"paper": "ours-paper", "corrected": "ours-corrected"}
BACKENDS = {"torch's kernels for any length": "jagged", "rows with a mask": "rows"}


def about(size: Size) -> str:
    return (
        "The step of *Training step* on one GPU, in float32: forward, backward and optimizer, the device waited for at "
        "the end of each. `paper` has a key that stands for padding, which no fused kernel knows, so its attention "
        "goes over rows. Waiting: time inside `next(loader)` over the time of the steps, with one background thread."
    )


def measure(size: Size) -> Results:
    if not torch.cuda.is_available():
        return Results([Row(SECTION, "the step on a GPU", None, "s", 1, note="not measured: torch finds no GPU here")])
    usual(size), full_rows(size)  # written before the first process asks for them
    rows: list[Row] = []
    for label, full in (("", []), (f", full rows of {size.max_len}", ["--full-rows"])):
        rows += _compare(size, label, full)
    for mode, who in OURS.items():
        found = run(who, ["--steps", "300", "--warm-up", "20", "--waiting"])
        share = 100 * found["waited"] / found["seconds"]
        rows.append(Row(SECTION, f"{mode}, waiting for input", share, "%", 1, asked="< 2 %"))
    return Results(rows)


def _compare(size: Size, label: str, full: list[str]) -> list[Row]:
    found: dict[str, list[dict[str, Any]]] = {who: [] for who in ("authors", *OURS.values(), *BACKENDS)}
    for _ in range(max(size.repeats - 2, 1)):
        for who in ("authors", *OURS.values()):
            found[who].append(run(who, ["--steps", "5" if who == "authors" else "30", "--warm-up", "5", *full]))
        for name, backend in BACKENDS.items():
            steps = ["--steps", "30", "--warm-up", "5", "--attention", backend]
            found[name].append(run(OURS["corrected"], [*steps, *full]))
    seconds = {who: [statistics.median(r["seconds"]) for r in runs] for who, runs in found.items()}
    peaks = {who: [r["peak_device"] / 1e9 for r in runs] for who, runs in found.items()}
    rows = []
    for mode, who in OURS.items():
        for what, unit, by in (("", "s", seconds), (", peak memory of the device", "GB", peaks)):
            rows.append(
                Row(SECTION, f"{mode}{label}{what}", statistics.median(by[who]), unit, 1, "authors' step",
                    statistics.median(by["authors"]), median_ratio(by["authors"], by[who]))
            )  # fmt: skip
    kernel, masked = (seconds[name] for name in BACKENDS)
    device = torch.cuda.get_device_name()
    rows.append(
        Row(SECTION, f"corrected{label}, {next(iter(BACKENDS))}", statistics.median(kernel), "s", 1, list(BACKENDS)[1],
            statistics.median(masked), median_ratio(masked, kernel), note=device)
    )  # fmt: skip
    return rows


def run(who: str, arguments: list[str]) -> dict[str, Any]:
    """One process of `step_process.py` on the GPU; its report."""
    return run_script("step_process.py", [who, "--device", "cuda", *arguments], threads=2)
