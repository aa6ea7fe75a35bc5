"""What a training will need at least, before anything is made: a plan that cannot fit is refused with its size.

An estimate from below: parameters with gradients, moments and averaged weights, and the largest arrays of a step. What
is between it and the machine's memory is left to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_esr.config import Config
from llm_esr.files.memory import machine_memory, size_text
from llm_esr.training.loss_choice import settle_loss

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_FLOAT = 4  # bytes


def check_plan(data: Dataset, config: Config, memory: int | None = None) -> None:
    """Refuse what cannot fit.

    Args:
        data: its users, items and longest sequence bound a step.
        config: the training.
        memory: bytes there are; None: this machine's.

    Raises:
        ValueError: the largest part, its size, and the settings that make it.
    """
    room = machine_memory() if memory is None else memory
    if room is None:
        return
    parts = _parts(data, settle_loss(config, data.n_items))
    total = sum(parts.values())
    if total <= room:
        return
    name = max(parts, key=lambda part: parts[part])
    raise ValueError(
        f"this training needs at least {size_text(total)} of memory and the machine has {size_text(room)}: "
        f"{size_text(parts[name])} for {name}; lower these settings"
    )


def _parts(data: Dataset, config: Config) -> dict[str, int]:
    """Bytes by what they are for, named by the settings that make them."""
    model, train, negatives = config.model, config.train, config.negatives
    students = min(train.batch_size, data.n_users)
    longest = min(model.max_len, int((data.offsets[1:] - data.offsets[:-1]).max(initial=1)))
    tokens = students * min(longest, -(-data.n_interactions // max(data.n_users, 1)))
    views = len(model.views)
    width = model.width
    # Weights, gradient and two moments, and averaged weights where there are any.
    copies = 4 + (1 if train.averaging else 0)
    block = (4 + 2 * model.feed_forward) * width * width
    positions = max(model.max_len, model.position_rows or 0)
    parts = {
        "the item table (model.width)": data.n_items * width * copies * _FLOAT,
        "the blocks (model.width, model.blocks, model.feed_forward)": model.blocks * block * copies * _FLOAT,
        "positions (model.max_len, model.width)": positions * width * copies * _FLOAT,
        "a step's activations (train.batch_size, model.width)": tokens * width * views * model.blocks * 4 * _FLOAT,
    }
    if train.loss != "softmax" and negatives.kind != "in-batch":
        sets = tokens if negatives.kind == "own" else 1
        parts[f"negatives (negatives.count, kind {negatives.kind})"] = (
            sets * negatives.count * (1 + width * views) * _FLOAT + tokens * negatives.count * _FLOAT
        )
    if config.align.anchor is not None and config.align.weight:
        rows = students if train.targets == "last" else tokens
        rows = min(rows, data.n_items) if config.align.over == "distinct" else rows
        parts["the alignment's pairs (train.batch_size, align.over)"] = 4 * rows * rows * _FLOAT
    if train.validation_candidates:
        ranked = min(train.validation_users, data.n_users)
        parts["candidates (train.validation_candidates)"] = ranked * train.validation_candidates * _FLOAT
    return parts
