"""Supervised contrastive fine-tuning (SCFT) of a sentence encoder: it learns which views are of one item.

After LLMEmb (Liu et al., AAAI 2025, arXiv 2409.19925). The training goes on after a kill to the same bits: every draw
is made from (seed, epoch, item, view), and checkpoints hold the rest.

Shapes: B pairs of a batch, n views, E width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn

from llm_esr.config import EmbedConfig
from llm_esr.files.checkpoint import load_newest, load_optimizer, optimizer_tensors, save_checkpoint, with_prefix
from llm_esr.semantics.attribute_views import Attribute, ItemAttributes
from llm_esr.semantics.soft_targets import masked_infonce, soft_target_loss
from llm_esr.semantics.tuning_levels import TunedEncoder

_EPOCHS = {"head": 3, "layers": 1, "lora": 1}
_RATES = {"head": 3e-4, "layers": 5e-5, "lora": 2e-4}
_TEMPERATURES = {"infonce": 0.2, "soft-targets": 3.0}
_CLIP = 1.0
CHECKPOINT_STEPS = 50
_BATCHES_OF_LIKE_LENGTH = 16

Pair = tuple[list[Attribute], list[Attribute]]


@dataclass(frozen=True)
class Schedule:
    """The steps of a tuning.

    Attributes:
        config: the section `embed`.
        attributes: those of all items.
    """

    config: EmbedConfig
    attributes: ItemAttributes

    @property
    def epochs(self) -> int:
        """Passes over the items."""
        return self.config.tune_epochs or _EPOCHS[self.config.tune_level]

    @property
    def steps_in_epoch(self) -> int:
        """Batches of an epoch; none is smaller than `tune_batch` where there are so many items."""
        return max(1, len(self.attributes.trained) // self.config.tune_batch)

    def batches(self, epoch: int) -> list[list[Pair]]:
        """The pairs of views of an epoch, texts of like length together."""
        config = self.config
        drawn = epoch if config.tune_fresh_pairs else 0
        rows = self.attributes.trained
        pairs: dict[int, Pair] = {int(row): (self._view(row, drawn, 0), self._view(row, drawn, 1)) for row in rows}
        length = {row: sum(len(value) for view in pair for _, value in view) for row, pair in pairs.items()}
        rng = np.random.default_rng([config.tune_seed, epoch])
        order = rng.permutation(rows)
        block = config.tune_batch * _BATCHES_OF_LIKE_LENGTH
        sorted_rows = [
            row
            for start in range(0, len(order), block)
            for row in sorted(order[start : start + block].tolist(), key=length.__getitem__)
        ]
        batches = np.array_split(np.array(sorted_rows), self.steps_in_epoch)
        return [[pairs[int(row)] for row in batches[at]] for at in rng.permutation(len(batches))]

    def _view(self, row: int, epoch: int, view: int) -> list[Attribute]:
        config = self.config
        draw = (config.tune_seed, epoch, view)
        return self.attributes.view(int(row), draw, config.tune_drop_ratio, keep_title=config.tune_keep_title)


def train(level: TunedEncoder, attributes: ItemAttributes, config: EmbedConfig, work: Path, bars: Progress) -> None:
    """Train a level on pairs of views, from the newest checkpoint of `work` on where there is one."""
    schedule = Schedule(config, attributes)
    steps = schedule.epochs * schedule.steps_in_epoch
    loss = PairLoss(config, attributes)
    trained = {**level.trained(), **loss.trained()}
    rate = config.tune_learning_rate or _RATES[config.tune_level]
    optimizer = torch.optim.AdamW(trained.values(), lr=rate, weight_decay=0.0)
    done = _resume(work, trained, optimizer)
    bar = bars.add_task("tuning", total=steps, completed=done)
    batches: list[list[Pair]] = []
    for step in range(done, steps):
        epoch, at = divmod(step, schedule.steps_in_epoch)
        if not batches or at == 0:
            batches = schedule.batches(epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        with torch.random.fork_rng(devices=_cuda(trained)):
            torch.manual_seed(int(np.random.SeedSequence([config.tune_seed, step]).generate_state(1)[0]))
            value = loss(level, batches[at])
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(value.item()):
            raise ValueError(
                f"embed.tune: the loss is {value.item()} at step {step + 1}; set a smaller embed.tune_learning_rate"
            )
        nn.utils.clip_grad_norm_(list(trained.values()), _CLIP)
        optimizer.step()
        bars.update(bar, completed=step + 1)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == steps:
            tensors = {f"weight/{name}": one for name, one in trained.items()} | optimizer_tensors(optimizer)
            save_checkpoint(work, step + 1, tensors, {"step": step + 1})


class PairLoss:
    """The loss of a batch of pairs; its temperature is trained with soft targets."""

    def __init__(self, config: EmbedConfig, attributes: ItemAttributes) -> None:
        self._soft = config.tune_loss == "soft-targets"
        self._attributes = attributes
        start = config.tune_temperature or _TEMPERATURES[config.tune_loss]
        self._temperature = nn.Parameter(torch.tensor(start), requires_grad=self._soft)

    def trained(self) -> dict[str, nn.Parameter]:
        """The temperature, where it is trained."""
        return {"temperature": self._temperature} if self._soft else {}

    def __call__(self, level: TunedEncoder, pairs: Sequence[Pair]) -> Tensor:
        """The loss of pairs of views, a scalar."""
        both_nE = level.vectors([*(first for first, _ in pairs), *(second for _, second in pairs)])
        x_BE, y_BE = both_nE.chunk(2)
        temperature = self._temperature.to(both_nE.device)
        if self._soft:
            return soft_target_loss(x_BE, y_BE, temperature)
        text = self._attributes.text
        false_BB = same_texts([text(first) for first, _ in pairs], [text(second) for _, second in pairs])
        return masked_infonce(x_BE, y_BE, temperature, torch.from_numpy(false_BB).to(both_nE.device))


def same_texts(first: Sequence[str], second: Sequence[str]) -> NDArray[np.bool_]:
    """Which views are no negatives of each other, `[B, B]`: one text equals the other, or its partner's."""
    number = {text: at for at, text in enumerate(dict.fromkeys([*first, *second]))}
    x_B, y_B = (np.array([number[text] for text in texts]) for texts in (first, second))
    same: NDArray[np.bool_] = (x_B[:, None] == y_B) | (x_B[:, None] == x_B) | (y_B[:, None] == y_B)
    return same


def _resume(work: Path, trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Put back the newest checkpoint; the steps that were done."""
    found = load_newest(work)
    if found is None:
        return 0
    tensors, state = found
    with torch.no_grad():
        for name, value in with_prefix("weight", tensors).items():
            trained[name].copy_(value)
    load_optimizer(optimizer, tensors)
    return int(state["step"])


def _cuda(trained: dict[str, nn.Parameter]) -> list[torch.device]:
    return list({one.device for one in trained.values() if one.device.type == "cuda"})
