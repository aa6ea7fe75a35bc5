"""Averaged weights: an exponential moving average of a model's parameters, used for evaluation."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from llm_esr.files.checkpoint import with_prefix
from llm_esr.training.optimizer import touched_rows


class AveragedModel:
    """A copy of a model whose weights follow the original's.

    After update t the copy keeps `keep_t = min(decay, (1 + t) / (10 + t))` of itself, so that it forgets where it
    started.

    The rows of a lazily updated table are averaged lazily as well. While a row c stands still its average a has a
    closed form, `a_t = c + keep_s+1 ... keep_t (a_s - c)`: it is brought up to date before the row changes
    (`before_step`) and before the averaged model is read. Equal to the average of every step up to rounding.

    Args:
        model: the original.
        decay: of a step, in (0, 1).
        table: [R, D], the parameter of `model` whose gradients are sparse; None: none.

    """

    def __init__(self, model: nn.Module, decay: float, table: nn.Parameter | None = None) -> None:
        self.decay = decay
        self.updates = 0
        # Frozen tables (the text embeddings) are shared, not copied.
        shared = {id(buffer): buffer for buffer in model.buffers()}
        self._model = copy.deepcopy(model, shared).eval().requires_grad_(False)
        pairs = list(zip(self._model.parameters(), model.parameters(), strict=True))
        self._pairs = [pair for pair in pairs if pair[1] is not table]
        self._lazy = next((_LazyRows(mean, now) for mean, now in pairs if now is table), None)

    @property
    def model(self) -> nn.Module:
        """The averaged model, up to date; not to be changed."""
        if self._lazy is not None:
            self._lazy.settle()
        return self._model

    @torch.no_grad()
    def before_step(self) -> None:
        """Bring up to date the rows that the optimizer is about to change; to be called after each backward pass."""
        if self._lazy is not None:
            self._lazy.catch_up()

    @torch.no_grad()
    def update(self) -> None:
        """Move every averaged weight towards the current one."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged: list[Tensor] = [pair[0] for pair in self._pairs]
        current: list[Tensor] = [pair[1].detach() for pair in self._pairs]
        if averaged:
            torch._foreach_lerp_(averaged, current, 1 - keep)
        if self._lazy is not None:
            self._lazy.log_kept += math.log(keep)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside `updates`: as it is, since bringing rows up to date would round anew."""
        # Buffers are the original's own, which the checkpoint has already.
        tensors = {f"averaged/{name}": mean.detach() for name, mean in self._model.named_parameters()}
        if self._lazy is not None:
            tensors["averaging/seen"] = self._lazy.seen_R
            tensors["averaging/log_kept"] = torch.tensor(self._lazy.log_kept, dtype=torch.float64)
        return tensors

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Put back what `tensors` took."""
        means = with_prefix("averaged", tensors)
        for name, mean in self._model.named_parameters():
            mean.copy_(means[name])
        self.updates = updates
        if self._lazy is not None:
            self._lazy.seen_R.copy_(tensors["averaging/seen"])
            self._lazy.log_kept = float(tensors["averaging/log_kept"])


class _LazyRows:
    """The average of a table whose rows seldom change.

    `log_kept` is the logarithm of the product of all keeps since the last `settle`, `seen_R` what it was when a row
    was last brought up to date.
    """

    def __init__(self, mean_RD: Tensor, now_RD: nn.Parameter) -> None:
        self.mean_RD, self.now_RD = mean_RD, now_RD
        # One device has no double precision.
        precise = torch.float32 if now_RD.device.type == "mps" else torch.float64
        self.seen_R = torch.zeros(len(now_RD), dtype=precise, device=now_RD.device)
        self.log_kept = 0.0

    def catch_up(self) -> None:
        """Bring up to date the rows that have a gradient."""
        rows_r = touched_rows(self.now_RD)
        if rows_r is None:
            return
        mean_rD = self.mean_RD.index_select(0, rows_r)
        move_r = self._move(self.seen_R.index_select(0, rows_r))
        mean_rD.lerp_(self.now_RD.detach().index_select(0, rows_r), move_r[:, None])
        self.mean_RD.index_copy_(0, rows_r, mean_rD)
        self.seen_R.index_fill_(0, rows_r, self.log_kept)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all rows up to date."""
        if self.log_kept == 0:
            return
        self.mean_RD.lerp_(self.now_RD.detach(), self._move(self.seen_R)[:, None])
        self.seen_R.zero_()
        self.log_kept = 0.0

    def _move(self, seen_n: Tensor) -> Tensor:
        """How far the averages move to the present values, 1 - the product of the keeps they missed, [n]."""
        return -torch.expm1(self.log_kept - seen_n).to(self.mean_RD.dtype)
