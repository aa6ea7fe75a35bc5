"""RecTools' SASRec with a softmax over the whole catalogue, run in an environment of its own (`make bench-peers`).

`python rectools_sasrec.py DATA --epochs 2 --lists lists.npy ...` trains on the training part of a folder of `.npy`
files, then writes the ten best items of every user with a test item, int32 [n, 10] (0: none), with the training and
validation parts as the history, whose items are in no list. It prints one JSON object: the version, the seconds of each
epoch, the items that it knows. Its learning rate is the one that it comes with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

LISTED = 10


class Clock(Callback):
    """Seconds of each epoch, from its first batch being asked for to its last step."""

    def __init__(self) -> None:
        self.began, self.seconds = 0.0, []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def make_trainer(epochs: int) -> Trainer:
    """One that writes nothing."""
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock()],
    )


def main() -> None:
    """Train, list, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    for name in ("epochs", "width", "max-len", "rows", "blocks", "heads", "threads", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--dropout", type=float, required=True)
    parser.add_argument("--lists", type=Path, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    seed_everything(given.seed)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever it logs is no answer
    splits = np.load(given.data / "splits.npy")
    model = SASRecModel(
        n_blocks=given.blocks,
        n_heads=given.heads,
        n_factors=given.width,
        dropout_rate=given.dropout,
        session_max_len=given.max_len,
        batch_size=given.rows,
        loss="softmax",
        get_trainer_func=make_trainer,
        get_trainer_func_kwargs={"epochs": given.epochs},
    )
    model.fit(interactions(given.data, splits[:, 0]))
    clock = next(c for c in model.fit_trainer.callbacks if isinstance(c, Clock))
    lengths = np.diff(np.load(given.data / "offsets.npy"))
    users = np.flatnonzero((splits[:, 1] > 0) & (splits[:, 1] < lengths))
    found = model.recommend(users, interactions(given.data, splits[:, 1]), k=LISTED, filter_viewed=True)
    lists = np.zeros((len(users), LISTED), np.int32)
    rows = np.searchsorted(users, found[Columns.User].to_numpy())
    lists[rows, found[Columns.Rank].to_numpy() - 1] = found[Columns.Item].to_numpy()
    np.save(given.lists, lists)
    known = len(model.data_preparator.get_known_item_ids())
    report = {"version": version("rectools"), "epochs": clock.seconds, "known_items": known}
    print(json.dumps(report), file=answers, flush=True)


def interactions(data: Path, lengths: np.ndarray) -> Dataset:
    """The first so many items of each user, in their order."""
    items = np.load(data / "items.npy")
    starts = np.load(data / "offsets.npy")[:-1]
    users = np.repeat(np.arange(len(starts)), lengths)
    places = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = {
        Columns.User: users,
        Columns.Item: items[np.repeat(starts, lengths) + places],
        Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(places, unit="s"),
    }
    return Dataset.construct(pd.DataFrame(table))


if __name__ == "__main__":
    main()
