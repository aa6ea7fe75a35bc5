"""The way of a batch's arrays to the model's device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Generic, TypeVar, cast

import torch
from numpy.typing import NDArray
from torch import Tensor


def best_device() -> str:
    """What `auto` means: `cuda` or `mps` where torch finds such a device, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def device_named(name: str, setting: str = "device") -> torch.device:
    """A device by its name; `auto` is `best_device`.

    Raises:
        ValueError: no such name, or a device that is not here.
    """
    name = best_device() if name == "auto" else name
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"{setting} {name!r:.60}: expected auto, cpu, cuda, cuda:0 and so on, or mps") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 0):
        raise ValueError(f"{setting} {name}: torch finds no such device here; use cpu or auto")
    return device


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


_T = TypeVar("_T")
_ALIGNED = 16  # bytes; as every number type of torch wants its first one


class Staged:
    """What is made in memory and goes to a device whole: the tensors among its attributes do, all else stays.

    Tensors in lists, tuples and dicts, and in further `Staged` objects, are found too.
    """


class Packed(Generic[_T]):
    """A `Staged` tree whose tensors lie in one buffer, so that one copy brings all of them to a device.

    Args:
        tree: with tensors on the CPU.
        device: where they will go. For a CUDA device the buffer is pinned memory, from which it copies while the CPU
            goes on; torch keeps the memory until the copy is done.

    """

    def __init__(self, tree: _T, device: torch.device) -> None:
        self._tree, self._device = tree, device
        found = {id(tensor): tensor for tensor in _tensors(tree)}
        self._places: dict[int, tuple[int, int, torch.dtype, torch.Size]] = {}
        end = 0
        for key, tensor in found.items():
            start = -(-end // _ALIGNED) * _ALIGNED
            end = start + tensor.numel() * tensor.element_size()
            self._places[key] = (start, end, tensor.dtype, tensor.shape)
        # In a thread of its own the current device is the first one, whose context pinning would open.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self._buffer = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
        for key, tensor in found.items():
            self._part(self._buffer, key).copy_(tensor)

    def sent(self) -> _T:
        """The tree with its tensors on the device; nothing waits for the copy."""
        # On the CPU a copy too, so that what was packed stays as it is.
        there = self._buffer.to(self._device, non_blocking=True, copy=True)
        return cast(_T, _replaced(self._tree, {key: self._part(there, key) for key in self._places}))

    def _part(self, buffer: Tensor, key: int) -> Tensor:
        start, end, dtype, shape = self._places[key]
        return buffer[start:end].view(dtype).view(shape)


def send(tree: _T, device: torch.device | str) -> _T:
    """A `Staged` tree with its tensors on a device, in one copy; on the CPU the tree itself."""
    device = torch.device(device)
    return tree if device.type == "cpu" else Packed(tree, device).sent()


def _tensors(tree: object) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Staged):
        yield from _tensors(vars(tree))
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _tensors(part)


def _replaced(tree: Any, by: dict[int, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return by[id(tree)]
    if isinstance(tree, Staged):
        there = copy.copy(tree)
        vars(there).update(_replaced(vars(tree), by))
        return there
    if isinstance(tree, dict):
        return {key: _replaced(value, by) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_replaced(part, by) for part in tree)
    return tree
