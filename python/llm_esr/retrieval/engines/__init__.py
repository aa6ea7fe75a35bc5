"""Engines of nearest neighbours, one file each, by their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from llm_esr.retrieval.engines.engine import Engine, Found, Piece, Recall, told
from llm_esr.retrieval.engines.exact import ExactSearch
from llm_esr.retrieval.engines.hnswlib_graph import HnswlibSearch
from llm_esr.retrieval.engines.lists import ListSearch
from llm_esr.retrieval.engines.torch_blocks import TorchSearch

__all__ = [
    "APPROXIMATE",
    "ENGINES",
    "EXACT_UP_TO",
    "Engine",
    "ExactSearch",
    "Found",
    "ListSearch",
    "Piece",
    "Recall",
    "engine_for",
    "make_engine",
    "told",
]

# Each is made of a table [n, E] and a number of threads (0: all cores), and takes more by name.
ENGINES: dict[str, Callable[..., Engine]] = {
    "exact": ExactSearch,
    "screened": partial(ExactSearch, certified=False),
    "lists": ListSearch,
    "hnswlib": HnswlibSearch,
    "torch": TorchSearch,
}
APPROXIMATE = ("lists", "hnswlib")
# Above, lists find .99 of the neighbours in less than half the time of the exact search (docs/retrieval.md).
EXACT_UP_TO = 150_000


def engine_for(method: str, rows: int) -> str:
    """The engine of a method: `auto` is exact for as many rows as that is the faster, and lists above.

    Raises:
        ValueError: an unknown method.
    """
    if method == "auto":
        return "exact" if rows <= EXACT_UP_TO else "lists"
    if method not in ENGINES:
        raise ValueError(f"engine '{method}' is unknown; known: auto, {', '.join(ENGINES)}")
    return method


def make_engine(method: str, vectors: NDArray[Any], threads: int = 0, *, recall: float = 0.99) -> Engine:
    """The engine of a method over a table [n, E]; `recall` is read by those that may miss something.

    Raises:
        ValueError: an unknown method, or what the engine refuses.
        ImportError: the engine's package is not installed.
    """
    name = engine_for(method, len(vectors))
    more = {"recall": recall} if name in APPROXIMATE else {}
    return ENGINES[name](vectors, threads, **more)
