"""The plain step that ours is measured against is the authors', and ours in paper mode is the same computation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from our_step import OurStep, authors_state, dense, make_model, optimizer_of, step_config, step_loader, text_embeddings
from peers import Dense
from peers.authors_step import AuthorsModel
from workload import SMALL, make_workload

GOLDEN = Path(__file__).parents[1] / "fixtures" / "parity" / "sasrec_paper.npz"
SIZE = replace(SMALL, users=60, items=80, max_len=14, batch_size=16, similar_users=3, text_width=24, width=16)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN.name} is not there")
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def model(golden: dict[str, np.ndarray]) -> AuthorsModel:
    given = json.loads(str(golden["config"]))
    made = AuthorsModel(
        given["num_items"],
        torch.from_numpy(golden["init/llm_item_emb.weight"][1:-1]),
        width=given["hidden_size"],
        max_len=given["max_len"],
        blocks=given["num_blocks"],
        heads=given["num_heads"],
        dropout=given["dropout"],
        alpha=given["alpha"],
    )
    made.load_state_dict({name: torch.from_numpy(golden[f"init/{name}"]) for name in made.state_dict()})
    return made


def batch_of(golden: dict[str, np.ndarray], step: int) -> Dense:
    keys = ("user_id", "seq", "positions", "pos", "neg", "sim_seq", "sim_positions")
    return Dense(*(torch.from_numpy(golden[f"batch{step}/{key}"]).long() for key in keys))


def assert_close(found: torch.Tensor, golden: np.ndarray) -> None:
    expected = torch.from_numpy(golden)
    assert float((found.detach() - expected).abs().max()) <= 1e-5 * max(float(expected.abs().max()), 1e-12)


def test_the_plain_step_has_the_authors_features_teachers_and_gradients(golden: Any, model: AuthorsModel) -> None:
    batch = batch_of(golden, 0)
    assert batch.teacher_items is not None and batch.teacher_positions is not None
    assert_close(model.features(batch.items, batch.positions), golden["features0"])
    assert_close(model.teachers(batch.teacher_items, batch.teacher_positions), golden["teacher0"])
    model(batch).backward()
    found = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found == {key.removeprefix("grad0/") for key in golden if key.startswith("grad0/")}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert_close(parameter.grad, golden[f"grad0/{name}"])


def test_the_plain_step_has_the_authors_losses(golden: Any, model: AuthorsModel) -> None:
    optimizer = optimizer_of(model, fused=False)
    losses = []
    for step in range(len(golden["losses"])):
        loss = model(batch_of(golden, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    np.testing.assert_allclose(losses, golden["losses"], rtol=1e-4)


@pytest.mark.parametrize(("heads", "blocks", "similar_users"), [(1, 2, 3), (2, 3, 2), (4, 1, 1)])
def test_our_step_in_paper_mode_has_the_losses_of_the_plain_step(
    heads: int, blocks: int, similar_users: int, tmp_path: Path
) -> None:
    work = make_workload(SIZE.users, SIZE.items, 6.0, SIZE.similar_users, folder=tmp_path / "data")
    config = step_config(replace(SIZE, similar_users=similar_users), dropout=0.0)
    config.model.heads, config.model.blocks = heads, blocks
    table = text_embeddings(SIZE, work.n_items)
    ours = OurStep(make_model(SIZE, config, table), config)
    theirs = AuthorsModel(
        work.n_items, table, width=SIZE.width, max_len=SIZE.max_len, heads=heads, blocks=blocks, dropout=0.0
    )
    theirs.load_state_dict(authors_state(ours.model), strict=False)
    missing = set(theirs.state_dict()) - set(authors_state(ours.model))
    assert missing == {"llm_item_emb.weight"}
    optimizer = optimizer_of(theirs, fused=False)
    for batch in step_loader(work, replace(SIZE, similar_users=similar_users), config):
        loss = theirs(dense(batch, SIZE.max_len))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert ours(batch) == pytest.approx(float(loss.detach()), rel=1e-4)
