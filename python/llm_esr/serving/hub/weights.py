"""A hub folder's weights, opened as a network once their shapes are those of its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

from llm_esr.files.tensors import UNREADABLE
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.views.borrowing import BorrowedRows
from llm_esr.serving.hub import layout
from llm_esr.serving.hub.layout import REMEDY

if TYPE_CHECKING:
    from torch import Tensor

    from llm_esr.config import Config

_BORROWED = "views.collaborative.borrowed_rows"
_DRAWS = {"normal_", "uniform_", "trunc_normal_"}


class _ShapesAlone(TorchFunctionMode):
    """On the meta device: nothing is drawn, as only shapes are asked for; for draws torch would import its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def open_network(folder: Path, record: dict[str, Any], config: Config) -> tuple[SequentialEncoder, NDArray[Any] | None]:
    """The network with its weights, on the CPU, and the items' text vectors."""
    path, n_items = folder / layout.WEIGHTS, record["n_items"]
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        text_shape = shapes.pop(layout.TEXT_VECTORS, None)
        if text_shape is not None and (len(text_shape) != 2 or text_shape[0] != n_items):
            raise ValueError(f"{layout.TEXT_VECTORS} has shape {text_shape}, expected {n_items} rows")
        if config.model.reads_vectors and text_shape is None:
            raise ValueError(f"{layout.TEXT_VECTORS} is missing, which the network reads")
        if config.model.blocks > len(shapes):
            raise ValueError(f"{config.model.blocks:,} blocks of {len(shapes):,} weights")
        wanted = shapes_of(config, record, text_shape, shapes.get(_BORROWED))
        if shapes != wanted:
            name = next(name for name in {**wanted, **shapes} if wanted.get(name) != shapes.get(name))
            raise ValueError(f"{name} has shape {shapes.get(name)}, the configuration {wanted.get(name)}")
        tensors = load_file(path)
        vectors = tensors.pop(layout.TEXT_VECTORS, None)
        if vectors is not None and vectors.dtype not in (torch.float16, torch.float32):
            raise ValueError(f"{layout.TEXT_VECTORS} is {vectors.dtype}, expected float16 or float32")
        network = _built(config, record, text_shape, shapes.get(_BORROWED), vectors)
        network.load_state_dict(tensors)
    except UNREADABLE as error:
        raise ValueError(f"{path} does not fit its configuration: {error}; {REMEDY}") from None
    _refuse_rows_beyond(tensors, n_items, path)
    return network, None if vectors is None else vectors.numpy()


def shapes_of(
    config: Config, record: dict[str, Any], text_shape: tuple[int, ...] | None, borrowed_shape: tuple[int, ...] | None
) -> dict[str, tuple[int, ...]]:
    """The shape of each weight that a configuration asks for; takes no memory, whatever the numbers in it are."""
    with torch.device("meta"), _ShapesAlone():
        expected = _built(config, record, text_shape, borrowed_shape, None).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in expected.items()}


def _built(
    config: Config,
    record: dict[str, Any],
    text_shape: tuple[int, ...] | None,
    borrowed_shape: tuple[int, ...] | None,
    vectors: Tensor | None,
) -> SequentialEncoder:
    """A network without its weights; without `vectors` for shapes alone."""
    n_items, network = record["n_items"], config.model
    if vectors is None and text_shape is not None:
        vectors = torch.empty(text_shape)
    borrowed = None
    if network.borrow:
        if borrowed_shape is None or len(borrowed_shape) != 2:
            raise ValueError(f"{_BORROWED} is missing")
        borrowed = BorrowedRows.empty(*borrowed_shape)
    centred = None if record["n_prepared_items"] == n_items else record["n_prepared_items"]
    initial = torch.zeros(1).expand(n_items, network.width)  # no memory of its own: trained rows take its place
    read = vectors if network.reads_vectors else None
    return SequentialEncoder(network, ModelData(n_items, read, initial, borrowed, n_centred=centred))


def _refuse_rows_beyond(tensors: dict[str, Tensor], n_items: int, path: Path) -> None:
    """Refuse row numbers that lie outside the item table."""
    rows = tensors.get(_BORROWED)
    if rows is not None and rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < n_items + 2):
        raise ValueError(f"{path}: {_BORROWED} names rows outside 0 to {n_items + 1}; {REMEDY}")
