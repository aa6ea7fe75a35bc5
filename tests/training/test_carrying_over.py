"""A training on grown data that starts from a model of the older: rows go by external id."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.data import Dataset
from llm_esr.training import build_model, train
from llm_esr.training.other_models import open_start, take_weights

Tables = tuple[pl.DataFrame, pl.DataFrame]
SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=32", "train.epochs=1", "runtime.threads=1"]


def made(interactions: pl.DataFrame, items: pl.DataFrame, out: Path) -> Dataset:
    data = llm_esr.prepare(interactions, items=items, out=out)
    llm_esr.embed(data, encoder="lsa", lsa_dimensions=8, progress=False)
    return llm_esr.index(data, k=5, similar_items=5, progress=False)


@pytest.fixture(scope="module")
def older(tiny_tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Without some users and the items that only these met, or that are called so; in another order."""
    interactions, items = tiny_tables
    left = interactions.filter(~pl.col("item_id").is_in(["i2", "i9"]) & (pl.col("user_id") != "u3"))
    return made(left, items.reverse(), tmp_path_factory.mktemp("old") / "data")


@pytest.fixture(scope="module")
def start(older: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "llm-esr"
    train(older, config=load_config("llm-esr", SMALL), out=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def grown(tiny_tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made(*tiny_tables, tmp_path_factory.mktemp("new") / "data")


def config_from(start: Path) -> Config:
    return load_config("llm-esr", [*SMALL, f"train.start_from={start}"])


@pytest.mark.filterwarnings("ignore:the item vectors of")
def test_rows_go_by_external_id_and_new_items_start_anew(older: Dataset, grown: Dataset, start: Path) -> None:
    config = config_from(start)
    model, _ = build_model(grown, config)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    opened = open_start(grown, config, start)
    assert opened is not None
    before = opened.model.state_dict()
    taken = take_weights(model, opened)
    table, old_table = "views.collaborative.table.weight", before["views.collaborative.table.weight"]
    now = model.state_dict()
    assert {"i2", "i9"} <= set(grown.item_ids) - set(older.item_ids)
    for number, name in enumerate(grown.item_ids, start=1):
        expected = old_table[older.item_index[name]] if name in older.item_index else fresh[table][number]
        assert torch.equal(now[table][number], expected), name
    assert torch.equal(now[table][-1], old_table[-1])
    for name, tensor in now.items():
        if name.rpartition(".")[2] in ("borrowed_rows", "borrowed_shares"):
            assert name not in taken and torch.equal(tensor, fresh[name])
        elif name != table:
            assert torch.equal(tensor, before[name]), name


def test_a_training_goes_on_with_the_grown_data(grown: Dataset, start: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="item vectors of .* are others"):  # lsa has seen another catalogue
        model = train(grown, config=config_from(start), out=tmp_path / "m", progress=False)
    assert model.data.n_items == grown.n_items
    assert set(model.recommend(users=["u3"], k=3)["user_id"]) == {"u3"}


def test_data_that_were_replaced_leave_rows_without_names(tiny_tables: Tables, grown: Dataset, tmp_path: Path) -> None:
    interactions, items = tiny_tables
    config = load_config("sasrec", SMALL)
    first = llm_esr.prepare(interactions[:200], items=items, out=tmp_path / "data")
    train(first, config=config, out=tmp_path / "start", progress=False)
    llm_esr.prepare(interactions[:300], items=items, out=tmp_path / "data", overwrite=True)
    onward = load_config("sasrec", [*SMALL, f"train.start_from={tmp_path / 'start'}"])
    with pytest.raises(ValueError, match=r"its rows are known by no id; prepare the grown data into a folder"):
        train(grown, config=onward, out=tmp_path / "m", progress=False)
