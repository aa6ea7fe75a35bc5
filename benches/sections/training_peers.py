"""`make bench-peers`: an epoch of SASRec in RecTools beside ours, and how good both are after as many epochs.

`LLM_ESR_BENCH_EPOCHS` asks for another number of epochs than two.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Results, Row, cores
from numpy.typing import NDArray
from workload import SMALL, Size

from llm_esr import Dataset
from llm_esr.config import load_config
from llm_esr.evaluation import rankable_users
from llm_esr.evaluation.metrics import expected_metrics
from sections import beauty5
from sections.packages import FOLDER, NotInstalledError, Package, installed
from sections.processes import run_script

SECTION = "training-peers"
TITLE = "Training in other packages"
RECTOOLS = Package("RecTools 0.19", "rectools", ("rectools[torch]==0.19.0",))
EPOCHS = int(os.environ.get("LLM_ESR_BENCH_EPOCHS") or 2)
SEEDS = (42, 43, 44)
THREADS = 2
LISTED = 10
HOURS = 3  # a training that takes longer is given up
SETTINGS = ("model.width=64", "train.loss=softmax", "train.batch_size=128", "model.max_len=50")
THEIR_RATE = "train.learning_rate=.001"  # RecTools comes with it; our preset has .0005
EPOCH, QUALITY = "an epoch of SASRec", f"SASRec, test NDCG@{LISTED} after {EPOCHS} epochs"
SAME_RATE = f"{QUALITY}, learning rate .001 on both sides"


def about(size: Size) -> str:
    return (
        "SASRec on Amazon Beauty, 5-core (22,363 users, 12,101 items), cross-entropy over the whole catalogue, width "
        "64, at most 50 items a sequence, 128 users a step, two threads; blocks, heads and dropout of the preset "
        f"`sasrec` on both sides. Both train on the training parts alone, for {EPOCHS} epochs and without validation; "
        "seconds are an epoch's mean. Ours runs with three seeds, once before RecTools and twice after, and its median "
        "is shown; then three times more with RecTools' learning rate; RecTools takes minutes an epoch and runs once. "
        f"Then both give lists of the {LISTED} best items for every user with a test item, from the training and "
        "validation parts, whose items are left out, and the same code of ours judges them; an item of the catalogue "
        "that RecTools never saw in training is in none of its lists."
    )


def measure(size: Size) -> Results:
    if not beauty5.SOURCE.exists():
        return beauty5.not_there(SECTION, "s", THREADS)
    data = beauty5.without_texts(500 if size == SMALL else None)
    try:
        python = str(installed(RECTOOLS))
    except NotInstalledError as reason:
        return failed(f"not installed: {reason}")
    with tempfile.TemporaryDirectory() as folder, cores(THREADS):
        lists = Path(folder) / "lists.npy"
        ours = [our_run(data, SEEDS[0], lists)]
        try:
            theirs = their_run(data, python, lists)
        except (RuntimeError, subprocess.TimeoutExpired) as reason:
            return failed(str(reason))
        ours += [our_run(data, seed, lists) for seed in SEEDS[1:]]
        same_rate = [our_run(data, seed, lists, THEIR_RATE) for seed in SEEDS]
    return Results(rows_of(ours, same_rate, theirs))


def our_run(data: Path, seed: int, lists: Path, *more: str) -> dict[str, Any]:
    """Our report, with the `ndcg` of its lists."""
    settings = [f"--set={value}" for value in (*SETTINGS, f"train.seed={seed}", *more)]
    arguments = [str(data), "sasrec", "--epochs", str(EPOCHS), *settings, "--lists", str(lists)]
    return judged(run_script("beauty5_process.py", arguments, threads=THREADS), data, lists)


def their_run(data: Path, python: str, lists: Path) -> dict[str, Any]:
    """RecTools' report, with the `ndcg` of its lists."""
    config = load_config("sasrec", list(SETTINGS))
    model = config.model
    options = {
        "epochs": EPOCHS, "width": model.width, "max-len": model.max_len, "rows": config.train.batch_size,
        "blocks": model.blocks, "heads": model.heads, "dropout": model.dropout, "threads": THREADS, "seed": SEEDS[0],
    }  # fmt: skip
    arguments = [str(data), "--lists", str(lists), *(f"--{name}={value}" for name, value in options.items())]
    script = f"{FOLDER}/rectools_sasrec.py"
    return judged(run_script(script, arguments, threads=THREADS, python=python, timeout=3600 * HOURS), data, lists)


def judged(report: dict[str, Any], data: Path, lists: Path) -> dict[str, Any]:
    opened = Dataset.open(data)
    users, _ = rankable_users(opened, "test")
    ndcg = ndcg_of_lists(np.load(lists), opened.targets("test")[users])
    lists.unlink()  # the next run must not be judged by these
    return report | {"ndcg": ndcg}


def ndcg_of_lists(lists: NDArray[np.int32], targets: NDArray[np.int32]) -> float:
    """Mean NDCG of targets [n] in lists [n, K], best first; one that is not in its list is worth nothing.

    Raises:
        ValueError: another number of lists than of targets.

    """
    if len(lists) != len(targets):
        raise ValueError(f"expected a list for each of {len(targets)} targets, got {len(lists)}")
    length = lists.shape[1]
    hits = lists == targets[:, None]
    above = np.where(hits.any(axis=1), hits.argmax(axis=1), length)
    return float(expected_metrics(above, np.zeros_like(above), [length])["ndcg", length].mean())


def rows_of(
    ours: Sequence[Mapping[str, Any]], same_rate: Sequence[Mapping[str, Any]], theirs: Mapping[str, Any]
) -> list[Row]:
    """The time of an epoch, and the quality with each package's own learning rate and with RecTools'."""
    seconds = statistics.median(statistics.mean(run["epochs"]) for run in ours)
    their_seconds = statistics.mean(theirs["epochs"])
    # Nobody's test asks for equal models: these are two packages' SASRecs.
    work = (
        "RecTools scores all 50 places of a row, ours those with an item; RecTools scores the "
        f"{theirs['known_items']:,} items with training interactions, ours all, but for those that the user met; ours "
        "has feed-forward layers four times as wide, clips gradients and averages weights"
    )
    return [
        Row(SECTION, EPOCH, seconds, "s", THREADS, RECTOOLS.name, their_seconds, their_seconds / seconds, ">= 15",
            work),
        quality_row(QUALITY, ours, theirs, "learning rates are each package's own (RecTools .001, ours .0005); "),
        quality_row(SAME_RATE, same_rate, theirs),
    ]  # fmt: skip


def quality_row(name: str, ours: Sequence[Mapping[str, Any]], theirs: Mapping[str, Any], learning: str = "") -> Row:
    quality = statistics.median(run["ndcg"] for run in ours)
    by_seed = " to ".join(f"{pick(run['ndcg'] for run in ours):.4f}" for pick in (min, max))
    return Row(
        SECTION, name, quality, "NDCG", THREADS, RECTOOLS.name, theirs["ndcg"],
        quality / theirs["ndcg"] if theirs["ndcg"] else None, "", f"{learning}ours {by_seed} by seed",
    )  # fmt: skip


def failed(reason: str) -> Results:
    return Results([Row(SECTION, EPOCH, None, "s", THREADS, RECTOOLS.name, note=reason)])
