"""Counts what a training step asks of a GPU, without one: launches of kernels, copies from the host, waits.

The model lies on torch's `meta` device, whose tensors have a shape and no numbers, so our code takes the ways that it
takes on every accelerator. Each dispatched operation is one launch; views and what only allocates are none. Some
operations launch several kernels on a card (a norm's gradient two, an embedding's some more), so a profile counts
more; what is held here is what our own code adds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What asks the device for a number, or for a shape that hangs on numbers.
_WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique", "_unique2", "unique_consecutive",
    "equal", "is_nonzero", "repeat_interleave", "_coalesce", "bincount",
}  # fmt: skip
_NO_KERNEL = {
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "_reshape_alias",
    "detach", "lift_fresh", "set_", "_fused_sdp_choice", "resize_", "is_same_size", "sym_size", "record_stream",
}  # fmt: skip


class StepCounter(TorchDispatchMode):
    """Counts while it is entered.

    Args:
        device: the kind of device whose work is counted; `cuda` on a card.

    Attributes:
        launches: operations by name.
        copies: copies from the host's memory to the device.
        waits: what would wait for the device, by name.

    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.launches: Counter[str] = Counter()
        self.copies = 0
        self.waits: Counter[str] = Counter()
        self._kernels = _OneKernel(device)

    def __enter__(self) -> StepCounter:
        super().__enter__()
        self._kernels.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._kernels.__exit__(*error)
        super().__exit__(*error)

    @property
    def total(self) -> int:
        """All launches."""
        return self.launches.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        there = [x.device.type == self.device for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if name in _WAITS and any(there):
            self.waits[name] += 1
        if name in ("index", "index_put", "index_put_") and any(_is_mask(i) for i in args[1]):
            self.waits["boolean mask"] += 1
        result = self._run(name, func, args, kwargs)
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        here = any(x.device.type == self.device for x in made) or (not made and any(there))
        if name in ("_to_copy", "copy_") and there and (not all(there) or not here):
            if here or name == "copy_":
                self.copies += 1
            else:
                self.waits["copy to the host"] += 1
        elif here and not func.is_view and name not in _NO_KERNEL:
            self.launches[name] += 1
        return result

    def _run(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        if self.device != "meta":
            return func(*args, **kwargs)
        if name == "_local_scalar_dense":
            return 1.0 if args[0].dtype.is_floating_point else 1
        if name == "binomial":  # torch knows no form of it without numbers
            return torch.empty_like(args[0])
        if name == "_fused_adamw_":
            return None
        return func(*args, **kwargs)


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


class _OneKernel(TorchFunctionMode):
    """Attention and dropout as a GPU computes them, one kernel each; torch asks the card before it chooses them."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.on = device == "meta"

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if self.on and func is F.dropout and args[0].device.type == "meta":
            return torch.native_dropout(args[0], kwargs["p"], kwargs["training"])[0]
        if not (self.on and func is F.scaled_dot_product_attention and args[0].device.type == "meta"):
            return func(*args, **kwargs)
        q, k, v = args
        mask = kwargs.get("attn_mask")
        if mask is not None:
            if mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -torch.inf)
            mask = mask.expand(*q.shape[:3], k.shape[2])
        rate, causal = kwargs.get("dropout_p", 0.0), kwargs.get("is_causal", False)
        wants = torch.is_grad_enabled() and q.requires_grad
        return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, mask, wants, rate, causal)[0]


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Let torch take its fused and foreach kernels for tensors without numbers, as it does on a card; float32 alone."""
    known = ["meta", "cuda", "cpu"]
    with (
        mock.patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: known),
        mock.patch("torch.utils._foreach_utils._get_foreach_kernels_supported_devices", lambda: known),
        mock.patch("torch.is_autocast_enabled", lambda device=None: False),
    ):
        yield
