"""Adam over all weights; of a large item table only over the rows that a step touches.

Shapes: R rows of the table (I items, padding, mask token), r rows with a gradient in this step, D width.

A step meets a few thousand items. Dense Adam nevertheless passes over the whole table several times: the gradient of
all R rows is cleared, measured and clipped, and both moments of all R rows decay. With `train.table_updates: lazy` the
gradient has r rows, and only these change:

    table [R, D] --gather--> rows [r, D] --Adam's own kernel--> rows [r, D] --scatter--> table [R, D]

This is another algorithm than dense Adam: the moments of a row stand still, and its weights too, until it is met again
(as in `torch.optim.SparseAdam`), while dense Adam moves rows on by their momentum. Where all rows are met in every step
the two are the same. Weight decay, too, reaches a row only when it is met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from llm_esr.config import Config
from llm_esr.doors import warn
from llm_esr.models import SequentialEncoder

# Numbers in a table from which passes over all of it are most of a step's time.
LARGE = 16_000_000


class LazyAdamW(torch.optim.AdamW):
    """AdamW, with a table whose gradient is sparse and whose untouched rows are left alone.

    State, per parameter, is named as AdamW names it; the table's moments have the table's shape.

    Args:
        parameters: all trainable weights, the table among them.
        table: [R, D], from an embedding with `sparse=True`.
        lr: learning rate.
        weight_decay: decoupled; of the table only the touched rows decay.
        fused: whether to use AdamW's fused kernel.

    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], table: nn.Parameter, *, lr: float, weight_decay: float, fused: bool
    ) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
        self.table = table
        # The scaler then unscales the gradients and leaves out steps that overflow by itself, the same way for the
        # table as for the rest; the fused kernel would do both for the rest alone.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the dense weights and the touched rows of the table."""
        rows_r = touched_rows(self.table)
        gradient, self.table.grad = self.table.grad, None
        loss: float | None = super().step(closure)
        self.table.grad = gradient
        if gradient is not None and rows_r is not None:
            self._update(rows_r, gradient.values())
        return loss

    def _update(self, rows_r: Tensor, gradient_rD: Tensor) -> None:
        group = next(g for g in self.param_groups if any(p is self.table for p in g["params"]))
        state = self.state[self.table]
        if not state:
            on_device = self.table.device if group["fused"] else torch.device("cpu")
            state["step"] = torch.zeros((), device=on_device)
            state["exp_avg"] = torch.zeros_like(self.table)
            state["exp_avg_sq"] = torch.zeros_like(self.table)
        whole = [self.table.detach(), state["exp_avg"], state["exp_avg_sq"]]
        parts = [tensor.index_select(0, rows_r) for tensor in whole]
        weights, first, second = ([part] for part in parts)
        beta1, beta2 = group["betas"]
        settings: dict[str, Any] = {key: group[key] for key in ("lr", "weight_decay", "eps", "fused")}
        adamw(
            weights, [gradient_rD], first, second, [], [state["step"]],
            amsgrad=False, maximize=False, beta1=beta1, beta2=beta2, **settings,
        )  # fmt: skip
        for tensor, part in zip(whole, parts, strict=True):
            tensor.index_copy_(0, rows_r, part)


def touched_rows(table: Tensor) -> Tensor | None:
    """The rows with a gradient, ascending, int64 [r]; the gradient is coalesced on the way. None without a gradient."""
    if table.grad is None:
        return None
    assert table.grad.is_sparse, "the embedding is sparse"
    table.grad = table.grad.coalesce()
    return table.grad.indices()[0]


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale all gradients so that their common norm is at most `limit`; returns the norm before, [].

    A sparse gradient counts by its coalesced values.
    """
    dense: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            touched_rows(parameter)
            values = parameter.grad.values()
            # Torch clips the gradients of what it is given: here a stand-in that shares the values' memory.
            stand_in = values.detach()
            stand_in.grad = values
            dense.append(stand_in)
        else:
            dense.append(parameter)
    return torch.nn.utils.clip_grad_norm_(dense, limit)


def lazy_table(model: SequentialEncoder, config: Config) -> nn.Parameter | None:
    """The table that `train.table_updates` makes lazy, its gradients made sparse; None where all updates are dense.

    Dense updates of a large table are warned of.
    """
    items = model.item_table
    if items is None:
        return None
    table = items.weight
    assert isinstance(table, nn.Parameter)
    items.sparse = config.train.table_updates == "lazy"
    if items.sparse:
        return table
    if table.numel() >= LARGE:
        warn(
            f"each step passes over all {len(table)} rows of the item table; train.table_updates lazy updates only the "
            "rows that the step meets, which is another algorithm and much faster here"
        )
    return None


def build_optimizer(model: SequentialEncoder, config: Config, table: nn.Parameter | None) -> torch.optim.Optimizer:
    """The optimizer of a training; `table` is what `lazy_table` gave."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    rate, decay, fused = config.train.learning_rate, config.train.weight_decay, model.device.type != "mps"
    if table is None:
        made: torch.optim.Optimizer = torch.optim.AdamW(trainable, lr=rate, weight_decay=decay, fused=fused)
    else:
        made = LazyAdamW(trainable, table, lr=rate, weight_decay=decay, fused=fused)
    for group in made.param_groups:
        group["betas"] = (0.9, config.train.adam_beta2)
    return made
