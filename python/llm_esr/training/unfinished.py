"""An unfinished training is work like a finished one: what may change while it goes on, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from llm_esr.files.checkpoint import newest_state

# Settings of `train` that say when a training ends, and change no step of it.
LIMITS = ("epochs", "patience")


def has_unfinished(folder: Path) -> bool:
    """Whether a folder holds checkpoints."""
    return newest_state(folder / "checkpoint") is not None


def trained_so_far(folder: Path) -> str:
    """How far an unfinished training has come, in words."""
    state = newest_state(folder / "checkpoint")
    assert state is not None
    epochs = int(state["epoch"])
    return f"{epochs} epoch{'' if epochs == 1 else 's'}, {int(state['step']):,} steps"


def without_limits(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """What each step of a training is made from: everything but when it ends.

    A curriculum of the section `transfer` goes by the share of all epochs, so that these are no mere limit then.
    """
    made = deepcopy(dict(made_from))
    transfer = made.get("transfer") or {}
    by_share = (made.get("model") or {}).get("transfer") and transfer.get("curriculum", "none") != "none"
    for name in LIMITS:
        if not (name == "epochs" and by_share):
            made["train"].pop(name, None)
    return made


def ends_earlier(folder: Path, train: Mapping[str, Any]) -> str | None:
    """Why an unfinished training cannot go on with these limits: they would have ended it before where it stands.

    Args:
        folder: of the unfinished model.
        train: the section `train` as it is asked for now.

    Returns:
        The limit, where it ends, and how far the training has come, as an error says it; None: it can go on.
    """
    state = newest_state(folder / "checkpoint")
    if state is None:
        return None
    setting, end = _end(folder / "metrics.jsonl", int(state["epoch"]), train)
    if state["epoch"] < end or (state["epoch"] == end and not state["steps_summed"]):
        return None
    return (
        f"{folder} holds an unfinished training ({trained_so_far(folder)}), and train.{setting} {train[setting]} ends "
        f"it after epoch {end}. Give --overwrite to train anew, or a larger train.{setting} to go on"
    )


def _validated(line: bytes, where: str) -> tuple[float | None, int]:
    """The figure of a line of the log, and its epoch."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    value, epoch = (record.get("validation_ndcg_10"), record.get("epoch")) if isinstance(record, dict) else (None, None)
    if not isinstance(epoch, int) or not isinstance(value, int | float | None):
        raise ValueError(
            f"{where} tells of no epoch, so it cannot be said where another limit ends this training; give the limits "
            "as they were to go on, or --overwrite to train anew"
        )
    return value, epoch


def _end(log: Path, epochs: int, train: Mapping[str, Any]) -> tuple[str, int]:
    """The limit that ends a training of so many epochs whose log this is, and after how many."""
    best, best_epoch = -math.inf, -1
    lines = log.read_bytes().splitlines() if log.exists() else []
    for number, line in enumerate(lines[:epochs], 1):
        value, epoch = _validated(line, f"{log} is damaged: line {number}")
        if value is None or epoch >= train["epochs"]:
            continue
        if value > best:
            best, best_epoch = value, epoch
        elif epoch - best_epoch >= train["patience"]:
            return "patience", int(epoch) + 1
    return "epochs", int(train["epochs"])
