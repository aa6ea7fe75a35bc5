"""Checkpoints: one safetensors file a step, with every tensor of the training and its JSON state.

A checkpoint is written under a temporary name, synced and renamed. It carries a checksum of all that it holds. The
newest two are kept; if the newest is damaged the other serves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from llm_esr.doors import warn
from llm_esr.files import FORMAT, atomic_path
from llm_esr.files.temporaries import sweep
from llm_esr.files.tensors import UNREADABLE, Part, check_tensors, with_checksum

KEPT = 2


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write `folder/<step>.safetensors` and drop all but the newest two."""
    target = folder / f"{step}.safetensors"
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = with_checksum({"state": json.dumps({"format": FORMAT, **state})}, _parts(stored))
    with atomic_path(target) as temporary:
        save_file(stored, temporary, metadata)
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()
    return target


def load_newest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest readable checkpoint's tensors and state; None where there is none.

    A damaged file is passed over with a warning that names it, where there is one before it.

    Raises:
        ValueError: none of them is readable.
    """
    paths = _newest_first(folder)
    for place, path in enumerate(paths, 1):
        try:
            return _read(path)
        except UNREADABLE as error:
            said = f"checkpoint {path} is damaged ({error or type(error).__name__})"
            if place == len(paths):
                raise ValueError(f"{said}; delete {folder} to train from the start") from None
            warn(f"{said}; trying the one before it")
    return None


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that can be opened, without its tensors; None where there is none."""
    for path in _newest_first(folder):
        try:
            with safe_open(path, framework="pt") as file:
                state: dict[str, Any] = json.loads((file.metadata() or {})["state"])
        except (*UNREADABLE, KeyError):
            continue  # `load_newest` says so, or refuses
        return state
    return None


def drop_checkpoints(folder: Path) -> None:
    """Remove every checkpoint of a folder, and what a killed process left of one."""
    for path in _newest_first(folder):
        path.unlink()
    sweep(folder)


def _newest_first(folder: Path) -> list[Path]:
    files = [path for path in folder.glob("*.safetensors") if path.stem.isdigit()]
    return sorted(files, key=lambda path: int(path.stem), reverse=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    check_tensors(metadata, _parts(tensors), ["state"])
    state: dict[str, Any] = json.loads(metadata["state"])
    if state["format"] != FORMAT:
        raise ValueError(f"format {state['format']}, expected {FORMAT}")
    return tensors, state


def _parts(tensors: dict[str, Tensor]) -> Iterator[Part]:
    for name, tensor in tensors.items():
        yield name, str(tensor.dtype), tensor.shape, tensor.reshape(-1).view(torch.uint8).numpy()


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's state under a prefix."""
    return {f"{prefix}/{name}": tensor for name, tensor in module.state_dict().items()}


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's per-parameter state, `optimizer/<index>/<name>`; every entry of Adam's is a tensor."""
    return {
        f"optimizer/{index}/{name}": value
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in with_prefix("optimizer", tensors).items():
        index, _, entry = name.partition("/")
        state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators that a training on `device` draws from."""
    states = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random/cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["random/mps"] = torch.mps.get_rng_state()
    return states


def load_random(device: torch.device, tensors: dict[str, Tensor]) -> None:
    """Put back what `random_tensors` took."""
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda" and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
    elif device.type == "mps" and "random/mps" in tensors:
        torch.mps.set_rng_state(tensors["random/mps"])
