"""Every native function and class under hostile values: an error of Python's, never a panic or a crash."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_esr import _native
from llm_esr.data import Dataset
from llm_esr.loading import LoaderOptions

I32, I64, F32 = (partial(np.array, dtype=kind) for kind in (np.int32, np.int64, np.float32))
TABLE = (I32([[2, 0], [1, 3], [2, 0]]), F32([[0.5, 0], [0.5, 0.25], [1, 0]]))
HISTORIES = (I32([1, 2, 3]), I64([0, 2, 3]))
SCORES = F32([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])

# What works, by name; the hostile values take the place of one or two arguments.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "add_neighbour_rows": {"table": TABLE, "histories": HISTORIES, "decay": 0.5, "newest": 2, "threads": 1},
    "combine_dense_rows": {"matrix": np.eye(3, dtype=np.float32), "histories": HISTORIES, "decay": 0.5, "newest": 2,
                           "threads": 1},
    "neighbour_lists": {"table": TABLE, "histories": HISTORIES, "decay": 0.5, "newest": 2, "leave_out_met": True,
                        "k": 2, "threads": 1},
    "neighbour_table": {"kind": "transitions", "items": I32([1, 2, 3]), "offsets": I64([0, 2, 3]),
                        "lengths": I64([2, 1]), "n_items": 3, "width": 2, "threads": 1},
    "rank_rows": {"scores": SCORES, "targets": I32([1, 2]), "seen": HISTORIES, "k": 2, "threads": 1},
    "catalogue_losses": {"scores": SCORES.copy(), "targets": I64([0, 1]), "starts": I64([0, 1]), "counts": I64([1, 0]),
                         "met": I64([2]), "share": 0.5, "threads": 1},
    "build_sequences": {"items": I32([1, 2, 3]), "offsets": I64([0, 2, 3]), "max_len": 2, "layout": "packed",
                        "mask_token": None, "padding_tokens": False},
    "recent_cuts": {"users": I64([0, 3]), "most": 3, "seed": 1, "epoch": 2},
    "shuffled": {"members": I64([4, 5, 6]), "owner": 1, "seed": 1, "epoch": 2},
    "drop_out": {"from_": F32([1, 2, 3]), "to": F32([0, 0, 0]), "rate": 0.5, "seed": 3, "threads": 1},
    "unique_items": {"groups": [[I32([1, 2]), I32([2, 3])]]},
    "philox": {"key": (1, 2), "counter": (1, 2, 3, 4)},
    "Attention": {"views": 1, "heads": 1, "causal": True, "newest_only": False, "rate": 0.1, "seed": 3, "max_len": 5,
                  "threads": 1},
    "ExactIndex": {"vectors": F32([[1, 0], [0, 1]]), "threads": 1},
    "ListIndex": {"vectors": F32([[1, 0], [0, 1]]), "threads": 1, "inner_product": False, "lists": 2, "seed": 1},
}  # fmt: skip

READ_ONLY = I32([1, 2, 3])
READ_ONLY.flags.writeable = False
# fmt: off
HOSTILE = [
    None, True, -1, 0, 1, 7, 2**62, 2**64, -(2**63), 1.5, float("nan"), float("inf"), "", "x", b"x", [], (), {},
    object(),
    I32([]), I64([]), F32([]), I32([0]), I32([-1, 4]), I32([2**31 - 1]), I64([2**62, -1, 5]), I64([5, 3, 0]),
    I64([0, 9]),
    F32([np.nan, np.inf]), F32([[]]), F32([[np.nan, 1, 2]]), np.zeros((0, 3), np.float32), np.zeros((2, 0), np.int32),
    np.arange(20, dtype=np.int32)[::2], np.zeros((4, 4), np.float32)[::2, ::2], READ_ONLY,
    np.zeros((2, 2, 2), np.int64),
    np.array(["a"]), np.array([1.5]), np.array(3, np.int32), (I32([]), I64([])), (I32([9]), I64([0, 1])),
    (I32([1]), I64([0, 5])), (I32([1]), I64([])), (TABLE[0], TABLE[1][:2]), (I32([[9, -4]]), F32([[1, 1]])),
    [[I32([1]), None]], [[]], [I32([1])], (2**64, -1),
]
# fmt: on


def call(make: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Any error of Python's is an answer; a panic is no `Exception` and comes through."""
    named = dict(arguments)
    parameters = inspect.signature(make).parameters if getattr(make, "__text_signature__", None) else {}
    if parameters and not set(named) <= set(parameters):
        raise AssertionError(f"{make} has other arguments now: {list(parameters)}")
    try:
        made = make(**named)
        if isinstance(made, _native.ExactIndex):
            graph = made.graph(2)
            graph.advance(100)
            graph.rank(0, len(made))
            made.search(named["vectors"], 2)
        if isinstance(made, _native.ListIndex):
            made.recalls(2)
            made.search_pieces(0, made.pieces, 2, 1)
            made.search(named["vectors"], 2, 1)
            _native.ListIndex.open(named["vectors"], made.parts())
    except Exception:
        pass


def changed(name: str, places: dict[int, int]) -> dict[str, Any]:
    arguments = dict(FUNCTIONS[name])
    names = list(arguments)
    for place, value in places.items():
        arguments[names[place % len(names)]] = HOSTILE[value]
    return {key: value.copy() if isinstance(value, np.ndarray) and value.flags.writeable else value
            for key, value in arguments.items()}  # fmt: skip


def test_every_native_function_is_here() -> None:
    there = {name for name in dir(_native) if not name.startswith("_")}
    # Made of files, or by the others.
    assert there - set(FUNCTIONS) == {
        "Batch", "Batches", "Contexts", "Graph", "Loader", "Sequences", "Store", "TableReader", "search_kernels",
    }  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_works_works(name: str) -> None:
    getattr(_native, name)(**changed(name, {}))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_hostile_value(name: str) -> None:
    for place in range(len(FUNCTIONS[name])):
        for value in range(len(HOSTILE)):
            call(getattr(_native, name), changed(name, {place: value}))


@pytest.mark.parametrize("name", FUNCTIONS)
@given(places=st.dictionaries(st.integers(0, 8), st.integers(0, len(HOSTILE) - 1), min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_several_hostile_values(name: str, places: dict[int, int]) -> None:
    call(getattr(_native, name), changed(name, places))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_from_eight_threads_at_once(name: str) -> None:
    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            places = {int(rng.integers(9)): int(rng.integers(len(HOSTILE))) for _ in range(int(rng.integers(3)))}
            call(getattr(_native, name), changed(name, places))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@given(
    name=st.sampled_from([field for field in LoaderOptions.__dataclass_fields__ if field != "augmentation"]),
    value=st.integers(0, len(HOSTILE) - 1),
)
@settings(max_examples=150, deadline=None)
def test_hostile_options_of_a_loader(name: str, value: int, tiny_folder: Path) -> None:
    data = Dataset.open(tiny_folder)

    def make(**options: Any) -> None:
        loader = _native.Loader(
            _native.Store(data.folder, data.n_items), data.folder, LoaderOptions(**options), threads=0, rank=0,
            world_size=1,
        )  # fmt: skip
        assert loader.steps >= 0

    call(make, {name: HOSTILE[value]})


@pytest.mark.parametrize("value", range(len(HOSTILE)))
def test_hostile_stores_and_readers(value: int, tiny_folder: Path) -> None:
    hostile = HOSTILE[value]
    store = _native.Store(tiny_folder, Dataset.open(tiny_folder).n_items)
    contexts = _native.Contexts(store, max_len=5, reversed=True, holds_item=True)
    for make in (
        lambda: _native.Contexts(hostile, max_len=5, reversed=True, holds_item=True),
        lambda: _native.Contexts(store, max_len=hostile, reversed=hostile, holds_item=hostile),
        lambda: contexts.read(hostile),
        lambda: contexts.draw(hostile, 3, 0, 0),
        lambda: contexts.draw(I64([1, 2]), hostile, hostile, hostile),
        lambda: contexts.pass_over(0, 3, hostile),
        lambda: contexts.pass_over(hostile, hostile, np.ones(49, np.bool_)),
        lambda: _native.Store(hostile, 5),
        lambda: _native.Store(tiny_folder, hostile),
        lambda: _native.TableReader(hostile, layout="csv"),
        lambda: _native.TableReader(tiny_folder / "dataset.json", layout=hostile),
        lambda: _native.TableReader(tiny_folder / "items.npy", layout="csv").read(hostile, ["a"]),
        lambda: _native.Loader(hostile, tiny_folder, LoaderOptions(), threads=0, rank=0, world_size=1),
        lambda: _native.Loader(
            _native.Store(tiny_folder, 5), tiny_folder, hostile, threads=hostile, rank=hostile, world_size=hostile
        ),
    ):
        call(make, {})
