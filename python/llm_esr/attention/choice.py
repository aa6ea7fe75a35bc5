"""Which backend computes attention: what suits the device, unless it does not fit or another one is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from llm_esr.attention.dense import DenseBackend
from llm_esr.attention.flat import FlatBackend
from llm_esr.attention.interface import AttentionBackend
from llm_esr.attention.jagged import JaggedBackend, works_on
from llm_esr.attention.rows import RowsBackend
from llm_esr.attention.tokens import Tokens

Name = Literal["flat", "jagged", "by-length", "rows", "dense"]

BACKENDS: dict[Name, AttentionBackend] = {
    "flat": FlatBackend(),
    "jagged": JaggedBackend(),
    "by-length": RowsBackend(by_length=True),
    "rows": RowsBackend(by_length=False),
    "dense": DenseBackend(),
}
# By the kind of device; what is not here, and what does not fit, goes over rows.
_SUITED: dict[str, Name] = {"cpu": "flat", "cuda": "jagged"}

forced: Name | None = None  # what `use_backend` asks for, in the whole process


@contextmanager
def use_backend(name: Name) -> Iterator[None]:
    """Within the block attention goes by this backend, where it fits: for comparisons, and for a device in trouble."""
    global forced  # noqa: PLW0603 (a switch of the process, as torch's own)
    before, forced = forced, name
    try:
        yield
    finally:
        forced = before


def takes_right_padded(device: torch.device) -> bool:
    """Whether sequences go to the device as right-padded rows, where the model can read them so."""
    return forced == "dense" or (forced is None and device.type == "cuda")


def choose(tokens: Tokens, dtype: torch.dtype, *, with_pseudo_key: bool) -> Name:
    """The backend for these tokens, in `dtype`; `with_pseudo_key`: padding that is no token takes attention."""
    if tokens.row_width is not None:
        return "dense"
    device = tokens.device.type
    usual: Name = "by-length" if device == "cpu" else "rows"
    wanted = forced or _SUITED.get(device, usual)
    if not BACKENDS[wanted].fits(tokens, dtype, with_pseudo_key=with_pseudo_key):
        return usual
    # Kernels that nobody asked for are tried before they are used.
    if wanted == "jagged" and forced is None and not works_on(tokens.device, dtype):
        return usual
    return wanted
