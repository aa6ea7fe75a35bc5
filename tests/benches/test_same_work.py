"""The peers of the benchmarks give what our loader gives."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from our_loader import our_loader
from peers.authors_loader import AuthorsDataset, authors_batches, unseen_item
from peers.samplers import Met
from peers.torch_loader import TorchDataset, torch_batches
from peers.vectorised_loader import VectorisedLoader
from peers.warp_sampler import WarpSampler
from sameness import check_batch, check_distribution, check_rows, check_unseen
from workload import SMALL, Histories, Workload, make_workload

SIZE = replace(SMALL, users=150, items=60, max_len=12, batch_size=16, similar_users=3)


@pytest.fixture(scope="module", params=["short", "full"])
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    full = 12 if request.param == "full" else 0
    folder = tmp_path_factory.mktemp("workload") / "data"
    return make_workload(SIZE.users, SIZE.items, 9.0, SIZE.similar_users, full=full, folder=folder)


@pytest.fixture(scope="module")
def met(work: Workload) -> Met:
    return Met.of(Histories.read(work.folder), work.n_items)


def test_a_workload_is_the_same_at_every_writing(tmp_path: Path) -> None:
    one = make_workload(50, 30, 5.0, 3, folder=tmp_path / "one")
    two = make_workload(50, 30, 5.0, 3, folder=tmp_path / "two")
    for name in ("offsets", "items", "splits", "similar_users"):
        np.testing.assert_array_equal(np.load(one.folder / f"{name}.npy"), np.load(two.folder / f"{name}.npy"))
    assert (np.load(one.folder / "similar_users.npy") != np.arange(50)[:, None]).all()


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("k", [0, SIZE.similar_users])
def test_every_loader_shows_the_same_sequences_targets_and_teachers(
    work: Workload, met: Met, layout: str, k: int
) -> None:
    ours = our_loader(work, SIZE, similar_users=k, layout=layout, shuffle=False)
    dataset = AuthorsDataset(work.folder, work.n_items, SIZE.max_len, k)
    authors = authors_batches(dataset, SIZE.batch_size, shuffle=False)
    vectorised = VectorisedLoader(work.folder, work.n_items, SIZE.max_len, k, SIZE.batch_size, shuffle=False)
    batches = 0
    by_torch = torch_batches(TorchDataset(work.folder, work.n_items, SIZE.max_len, k), SIZE.batch_size, shuffle=False)
    for batch, *peers in zip(ours, authors, vectorised, by_torch, strict=True):
        for peer in peers:
            check_batch(batch, peer, SIZE.max_len, met)
        batches += 1
    assert batches == len(ours)


def test_two_workers_show_what_none_shows(work: Workload, met: Met) -> None:
    dataset = AuthorsDataset(work.folder, work.n_items, SIZE.max_len, SIZE.similar_users)
    here = authors_batches(dataset, SIZE.batch_size, shuffle=False)
    there = authors_batches(dataset, SIZE.batch_size, shuffle=False, workers=2)
    for one, two in zip(here, there, strict=True):
        check_rows(one, two, met)


def test_the_process_queue_shows_what_the_vectorised_loader_shows_of_its_users(work: Workload, met: Met) -> None:
    k = SIZE.similar_users
    vectorised = VectorisedLoader(work.folder, work.n_items, SIZE.max_len, k, SIZE.batch_size)
    sampler = WarpSampler(AuthorsDataset(work.folder, work.n_items, SIZE.max_len, k), SIZE.batch_size)
    try:
        for batch in itertools.islice(sampler, 5):
            check_rows(batch, vectorised.batch(batch.users.numpy()), met)
    finally:
        sampler.close()


def test_all_samplers_draw_from_the_distribution_that_they_name(work: Workload, met: Met) -> None:
    rng = np.random.default_rng(1)
    uniform = np.ones(work.n_items)
    popularity = np.diff(met.chances, prepend=0)
    users = np.repeat(np.arange(SIZE.users), 5)
    lists = Histories.read(work.folder).as_lists()
    np.random.seed(2)
    looped = np.array([[unseen_item(work.n_items, set(lists[u])) for _ in range(20)] for u in users.tolist()])
    for negatives, weights in [
        (met.uniform(rng, users, 40), uniform),
        (met.by_popularity(rng, users, 40), popularity),
        (looped, uniform),
    ]:
        check_unseen(met, users, negatives)
        check_distribution(met, users, negatives, weights)
    options: list[tuple[dict[str, Any], Any]] = [({}, uniform), ({"distribution": "popularity"}, popularity)]
    for chosen, weights in options:
        drawn = [drawn_by_ours(batch) for batch in our_loader(work, SIZE, n_negatives=8, **chosen)]
        users_M, negatives = (np.concatenate(part) for part in zip(*drawn, strict=True))
        check_unseen(met, users_M, negatives)
        check_distribution(met, users_M, negatives, weights)


def test_a_wrong_distribution_is_noticed(work: Workload, met: Met) -> None:
    users = np.repeat(np.arange(SIZE.users), 5)
    negatives = met.by_popularity(np.random.default_rng(1), users, 40)
    with pytest.raises(AssertionError, match="chi-square"):
        check_distribution(met, users, negatives, np.ones(work.n_items))


def drawn_by_ours(batch: Any) -> tuple[np.ndarray, np.ndarray]:
    students = batch.students
    users = np.repeat(batch.users, np.diff(students.offsets))[students.targets > 0]
    return users, batch.negatives


def test_torch_draws_the_shapes_that_ours_draws() -> None:
    from peers.samplers import torch_by_popularity, torch_uniform

    assert torch_uniform(9, 4, 3).shape == torch_by_popularity(torch.ones(9), 4, 3).shape == (4, 3)


def test_the_authors_loader_of_the_paper_shows_what_ours_shows_without_the_last_item(work: Workload, met: Met) -> None:
    k = SIZE.similar_users
    ours = our_loader(work, SIZE, similar_users=k, shuffle=False, sequence="without-last", layout="padded")
    dataset = AuthorsDataset(work.folder, work.n_items, SIZE.max_len, k, whole=False)
    for batch, authors in zip(ours, authors_batches(dataset, SIZE.batch_size, shuffle=False), strict=True):
        check_batch(batch, authors, SIZE.max_len, met)
