"""Threads, ranks, resuming, forks and memory."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from llm_esr.loading import Batch, BatchLoader, Sequences

ALL: dict[str, Any] = {"similar_users": 4, "n_negatives": 7, "smoothing": 0.3, "batch_size": 16, "max_len": 9}
MASKED: dict[str, Any] = ALL | {"mask_probability": 0.6, "append_mask": True, "sequence": "without-last"}
PADDED: dict[str, Any] = ALL | {
    "sequence": "without-last", "targets": "last", "layout": "padded", "padding_tokens": True,
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", [ALL, MASKED, PADDED], ids=["every item", "masked", "padded"])


def arrays(batch: Batch) -> dict[str, np.ndarray]:
    """Every array of a batch by name."""
    found: dict[str, np.ndarray] = {}
    for name in ("users", "masking_passes", "students", "teachers", "teacher_index", "negatives", "collision"):
        value = getattr(batch, name)
        if isinstance(value, Sequences):
            parts = ("items", "positions", "targets", "offsets", "slots")
            found |= {f"{name}.{part}": getattr(value, part) for part in parts}
        elif value is not None:
            found[name] = value
    return found


def copied(batch: Batch) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays(batch).items()}


def assert_same(batch: Batch, other: Batch | dict[str, np.ndarray]) -> None:
    expected = arrays(other) if isinstance(other, Batch) else other
    found = arrays(batch)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("negatives", ["shared", "own"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_any_number_of_threads_gives_the_same_batches(shop: Any, negatives: str, layout: str) -> None:
    options = ALL | {"negatives": negatives, "layout": layout, "batch_size": 5}
    here = list(BatchLoader(shop, threads=0, **options))
    for threads in (1, 4):
        behind = list(BatchLoader(shop, threads=threads, **options))
        assert len(behind) == len(here)
        for one, other in zip(here, behind, strict=True):
            assert (one.epoch, one.step) == (other.epoch, other.step)
            assert_same(one, other)


@kinds
def test_masked_and_padded_batches_do_not_depend_on_threads_either(shop: Any, kind: dict[str, Any]) -> None:
    options = kind | {"negatives": "own", "batch_size": 5}
    here = list(BatchLoader(shop, threads=0, **options))
    for one, other in zip(here, BatchLoader(shop, threads=3, **options), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [3, 16])
@kinds
def test_the_shares_of_all_ranks_together_are_the_step_of_one(
    shop: Any, kind: dict[str, Any], world_size: int, batch_size: int
) -> None:
    options = kind | {"batch_size": batch_size, "negatives": "own"}
    whole = BatchLoader(shop, **options)
    ranks = [BatchLoader(shop, rank=r, world_size=world_size, **options) for r in range(world_size)]
    assert {len(r) for r in ranks} == {len(whole)}
    for steps in zip(whole, *ranks, strict=True):
        one, shares = steps[0], steps[1:]
        sizes = [len(s.users) for s in shares]
        assert max(sizes) - min(sizes) <= 1
        joined = [s for s in shares if len(s.users)]
        np.testing.assert_array_equal(one.users, np.concatenate([s.users for s in shares]))
        np.testing.assert_array_equal(one.masking_passes, np.concatenate([s.masking_passes for s in shares]))
        np.testing.assert_array_equal(one.students.items, np.concatenate([s.students.items for s in shares]))
        np.testing.assert_array_equal(one.students.targets, np.concatenate([s.students.targets for s in shares]))
        np.testing.assert_array_equal(one.negatives, np.concatenate([s.negatives for s in shares]))
        assert teachers_of(one) == [row for share in joined for row in teachers_of(share)]


def teachers_of(batch: Batch) -> list[list[tuple[int, ...]]]:
    """The items of each student's teachers."""
    assert batch.teachers is not None
    assert batch.teacher_index is not None
    sequences = np.split(batch.teachers.items, batch.teachers.offsets[1:-1])
    return [[tuple(sequences[t]) if t >= 0 else () for t in row] for row in batch.teacher_index]


def test_ranks_share_one_set_of_shared_negatives(shop: Any) -> None:
    one, two = (BatchLoader(shop, rank=r, world_size=2, **ALL) for r in (0, 1))
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left.negatives, right.negatives)


@pytest.mark.parametrize("negatives", ["shared", "own"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_rank_without_users_gets_an_empty_batch_of_the_usual_shapes(
    make_folder: Any, negatives: str, layout: str
) -> None:
    data = make_folder([[1, 2], [2, 3]], 5, similar_users=[[1], [0]])
    options: dict[str, Any] = {"similar_users": 1, "n_negatives": 3, "negatives": negatives, "layout": layout}
    batch = next(iter(BatchLoader(data, rank=3, world_size=4, max_len=6, **options)))
    assert batch.users.shape == (0,)
    assert len(batch.students) == 0
    assert batch.students.slots.shape == ((0, 6) if layout == "padded" else (0, 0))
    assert batch.teacher_index is not None
    assert batch.teacher_index.shape == (0, 1)
    assert batch.negatives.shape == ((3,) if negatives == "shared" else (0, 3))
    if negatives == "shared":
        assert batch.collision is not None
        assert batch.collision.shape == (0, 3)


@given(
    stop=st.integers(0, 8),
    epoch=st.integers(0, 3),
    threads=st.sampled_from([0, 1, 3]),
    kind=st.sampled_from([ALL, MASKED, PADDED]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_resumed_epoch_goes_on_with_the_batches_that_were_not_yielded(
    shop: Any, stop: int, epoch: int, threads: int, kind: dict[str, Any]
) -> None:
    loader = BatchLoader(shop, threads=2, **kind)
    loader.set_epoch(epoch)
    whole = list(loader)
    loader.set_epoch(epoch)
    running = iter(loader)
    stop = min(stop, len(whole))
    for _ in range(stop):
        next(running)
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = BatchLoader(shop, threads=threads, **kind)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    rest = list(resumed)
    assert [b.step for b in rest] == list(range(stop, len(whole)))
    for one, other in zip(whole[stop:], rest, strict=True):
        assert_same(one, other)
    # The next iteration gives the whole epoch again.
    assert len(list(resumed)) == len(whole)


def test_a_state_may_be_loaded_by_another_number_of_ranks(shop: Any) -> None:
    loader = BatchLoader(shop, **ALL)
    running = iter(loader)
    next(running)
    next(running)
    ranks = [BatchLoader(shop, rank=r, world_size=2, **ALL) for r in (0, 1)]
    for rank in ranks:
        rank.load_state_dict(loader.state_dict())
    shares = [next(iter(rank)).users for rank in ranks]
    np.testing.assert_array_equal(next(running).users, np.concatenate(shares))


def test_epochs_differ_and_without_shuffling_they_come_in_order(shop: Any) -> None:
    loader = BatchLoader(shop, **ALL)
    first = np.concatenate([b.users for b in loader])
    loader.set_epoch(1)
    second = np.concatenate([b.users for b in loader])
    assert (first != second).any()
    np.testing.assert_array_equal(np.sort(first), np.sort(second))
    in_order = np.concatenate([b.users for b in BatchLoader(shop, shuffle=False, **ALL)])
    np.testing.assert_array_equal(in_order, np.sort(first))


def test_kept_batches_equal_iterating_and_never_change(shop: Any) -> None:
    loader = BatchLoader(shop, threads=2, **ALL)
    kept = list(loader)
    before = [copied(batch) for batch in kept]
    for epoch in range(3):
        loader.set_epoch(epoch)
        for step, batch in enumerate(loader):
            if epoch == 0:
                assert_same(batch, before[step])
    for batch, as_it_was in zip(kept, before, strict=True):
        assert_same(batch, as_it_was)


def test_an_array_or_tensor_keeps_its_batch_alive(shop: Any) -> None:
    loader = BatchLoader(shop, **ALL)
    batches = iter(loader)
    batch = next(batches)
    items = batch.students.items
    tensor = torch.from_numpy(batch.negatives)
    copies = items.copy(), tensor.clone()
    del batch
    gc.collect()
    for _ in range(3):
        list(loader)
    np.testing.assert_array_equal(items, copies[0])
    assert torch.equal(tensor, copies[1])


def test_buffers_go_back_to_the_pool_when_the_last_array_goes(shop: Any) -> None:
    loader = BatchLoader(shop, threads=0, layout="padded", **ALL | {"batch_size": 8, "shuffle": False})

    def address() -> int:
        return int(next(iter(loader)).students.slots.__array_interface__["data"][0])

    batch = next(iter(loader))
    slots = batch.students.slots
    first = slots.__array_interface__["data"][0]
    del batch
    assert address() != first
    del slots
    # Two buffers are in the pool now; the one given back last is taken first.
    assert first in {address(), address()}


def test_arrays_become_tensors_without_a_copy_or_a_warning(shop: Any) -> None:
    batch = next(iter(BatchLoader(shop, **ALL)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, array in arrays(batch).items():
            tensor = torch.from_numpy(array)
            assert tensor.data_ptr() == array.__array_interface__["data"][0], name
    types = {name: str(array.dtype) for name, array in arrays(batch).items()}
    assert types["users"] == types["teacher_index"] == types["students.offsets"] == "int64"
    assert types["masking_passes"] == "int8"
    assert types["collision"] == "bool"
    assert {types[f"students.{part}"] for part in ("items", "positions", "targets", "slots")} == {"int32"}


def test_a_forked_child_starts_its_own_threads(shop: Any) -> None:
    loader = BatchLoader(shop, threads=2, **ALL | {"batch_size": 3})
    expected = [b.users.tolist() for b in loader]
    running = iter(loader)
    kept = next(running)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Forking with threads is what is tried here.
        receiver, sender = multiprocessing.Pipe()
        child = os.fork()
    if child == 0:
        code = 1
        try:
            rest = [b.users.tolist() for b in running]
            again = [b.users.tolist() for b in loader]
            sender.send((kept.users.tolist(), rest, again))
            code = 0
        finally:
            os._exit(code)
    assert receiver.poll(20), "the child hangs"
    found = receiver.recv()
    assert os.waitpid(child, 0)[1] == 0
    assert found == (expected[0], expected[1:], expected)
    assert [b.users.tolist() for b in running] == expected[1:]


def test_an_iteration_that_is_dropped_ends_its_threads(shop: Any) -> None:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("this system does not list a process's threads")
    before = len(list(tasks.iterdir()))
    for _ in range(5):
        running = iter(BatchLoader(shop, threads=4, **ALL))
        next(running)
        del running
    gc.collect()
    # A thread that was joined may still be listed for a moment.
    until = time.monotonic() + 5
    while len(list(tasks.iterdir())) > before and time.monotonic() < until:
        time.sleep(0.01)
    assert len(list(tasks.iterdir())) <= before


def test_two_python_threads_may_iterate_over_one_loader(shop: Any) -> None:
    loader = BatchLoader(shop, **ALL)
    expected = [b.users.tolist() for b in loader]
    batches = loader._native.batches
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: [b.users.tolist() for b in batches(0, 0)], range(4)))
    assert found == [expected] * 4


def test_a_data_loader_without_workers_passes_batches_through(shop: Any) -> None:
    loader = BatchLoader(shop, **ALL)
    through = list(DataLoader(loader, batch_size=None, num_workers=0))
    for one, other in zip(loader, through, strict=True):
        assert_same(one, other)


def test_a_data_loader_worker_is_told_to_use_num_workers_0(shop: Any) -> None:
    loader = BatchLoader(shop, **ALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        workers = DataLoader(loader, batch_size=None, num_workers=1, multiprocessing_context="fork")
        with pytest.raises(ValueError, match="num_workers=0"):
            next(iter(workers))
    with pytest.raises(TypeError, match="num_workers=0"):
        pickle.dumps(loader)


def test_a_loader_is_freed(shop: Any) -> None:
    loader = BatchLoader(shop, **ALL)
    batches = list(loader)
    gone = weakref.ref(loader)
    del loader
    gc.collect()
    assert gone() is None
    assert batches[0].users.size


def test_students_have_a_target_or_a_teacher(make_folder: Any) -> None:
    data = make_folder([[], [1], [1, 2], [2, 3, 4]], 5, similar_users=[[1], [2], [1], [0]])
    without = next(iter(BatchLoader(data)))
    assert sorted(without.users.tolist()) == [2, 3]
    taught = next(iter(BatchLoader(data, similar_users=1)))
    assert sorted(taught.users.tolist()) == [1, 2, 3]
    assert taught.teacher_index is not None
    # User 3's only similar user has no training item.
    assert taught.teacher_index[taught.users.tolist().index(3)].tolist() == [-1]


def test_nobody_to_train_is_an_epoch_without_steps(make_folder: Any) -> None:
    for histories in ([], [[1], []]):
        loader = BatchLoader(make_folder(histories, 3))
        assert (len(loader), loader.n_students, list(loader)) == (0, 0, [])


def test_a_user_who_met_every_item_is_refused_when_negatives_are_own(make_folder: Any) -> None:
    data = make_folder([[1, 2], [3, 1, 2, 3]], 4)
    with pytest.raises(ValueError, match=r"user 1 .their row in users\.parquet. met all but 0 of the 3 items"):
        BatchLoader(data, negatives="own", n_negatives=1, catalogue="training")
    BatchLoader(data, negatives="own", n_negatives=1, catalogue="all")
    BatchLoader(data, negatives="shared")
    # With smoothing the one item that is left may become the target.
    near = {"similar_items": [[2]] * 4, "scores": [[1.0]] * 4}
    with pytest.raises(ValueError, match="needs 2"):
        BatchLoader(make_folder(data.histories, 4, **near), negatives="own", catalogue="all", smoothing=0.1)


@pytest.mark.parametrize("kind", [ALL, PADDED], ids=["every item", "padded"])
def test_batches_that_are_prepared_ahead_are_the_same_and_count_when_they_are_taken(
    shop: Any, kind: dict[str, Any]
) -> None:
    whole = list(BatchLoader(shop, **kind))
    loader = BatchLoader(shop, **kind)
    steps = loader.prepared(lambda batch: batch.users.sum())
    for expected in whole[:2]:
        batch, prepared = next(steps)
        assert_same(batch, expected)
        assert prepared == expected.users.sum()
    steps.close()
    resumed = BatchLoader(shop, **kind)
    resumed.load_state_dict(loader.state_dict())
    rest = [batch for batch, _ in resumed.prepared(len)]
    assert [batch.step for batch in rest] == list(range(2, len(whole)))


def test_what_preparing_raises_is_raised_at_its_batch(shop: Any) -> None:
    def prepare(batch: Batch) -> int:
        if batch.step == 1:
            raise ValueError("the second step")
        return batch.step

    loader = BatchLoader(shop, **ALL)
    steps = loader.prepared(prepare)
    assert next(steps)[1] == 0
    with pytest.raises(ValueError, match="the second step"):
        next(steps)
    assert loader.state_dict()["steps"] == 1
