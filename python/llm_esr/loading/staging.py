"""The way of a batch's arrays to the model's device."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def best_device() -> str:
    """What `auto` means: `cuda` or `mps` where torch finds such a device, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def to_device(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """An array as a tensor: a view of it on the CPU, else a copy.

    A CUDA device copies from pinned memory while the CPU goes on: torch keeps the memory until the copy is done, and
    nothing waits. What has to be counted or selected is therefore counted in NumPy, ahead of the copy: asking the
    device for a number would wait for all that it has to do.
    """
    tensor = torch.from_numpy(array)
    kind = torch.device(device).type
    if kind == "cpu":
        return tensor
    if kind == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
