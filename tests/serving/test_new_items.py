"""New items: scored at once as items that training never met, kept with the model, undone by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import llm_esr
from llm_esr.cli import main
from llm_esr.config import load_config
from llm_esr.data import Dataset
from llm_esr.files import read_record, write_json
from llm_esr.models import SequentialEncoder
from llm_esr.semantics import LsaEncoder, item_prompts
from llm_esr.serving import Recommender, extensions
from llm_esr.serving.untrained import make_untrained
from llm_esr.training.build import build_model

NEW = ["i3", "i17"]
SMALL = ["model.width=8", "model.heads=1", "model.blocks=1", "train.loss=softmax"]
Tables = tuple[pl.DataFrame, pl.DataFrame]


@pytest.fixture(scope="module")
def tables(tiny_tables: Tables) -> Tables:
    """Interactions without the new items, and the table of all items that are met and of the new ones, these last."""
    interactions, items = tiny_tables
    met = interactions.filter(~pl.col("item_id").is_in(NEW))
    known = items.filter(pl.col("item_id").is_in(met["item_id"].unique().to_list()))
    return met, pl.concat([known, items.filter(pl.col("item_id").is_in(NEW))])


@pytest.fixture(scope="module")
def new_rows(tables: Tables) -> pl.DataFrame:
    return tables[1].tail(len(NEW))


@pytest.fixture(scope="module")
def data(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    made = llm_esr.prepare(tables[0], items=tables[1][: -len(NEW)], out=tmp_path_factory.mktemp("shop") / "data")
    llm_esr.embed(made, encoder="lsa", dtype="float32", lsa_dimensions=16, progress=False)
    return llm_esr.index(made, k=5, similar_items=5, progress=False)


@pytest.fixture(scope="module")
def trained(data: Dataset) -> Recommender:
    config = load_config("llm-esr", [*SMALL, "train.epochs=1", "train.batch_size=32", "runtime.threads=1"])
    return llm_esr.train(data, config=config, progress=False)


@pytest.fixture
def model(trained: Recommender) -> Any:
    """The trained model, and no addition afterwards."""
    yield trained
    assert trained.folder is not None
    for name in extensions.names_of(trained.folder):
        extensions.undo_addition(trained.folder, name)


def untrained(data: Dataset, preset: str, *settings: str) -> Recommender:
    """A network that is in memory only."""
    config = load_config(preset, [*SMALL, *settings])
    network, _ = build_model(data, config)
    return Recommender(network.eval(), data, preset, 0, config)


def scores_of(model: Recommender, users: Dataset) -> np.ndarray:
    """Scores [U, I] of the histories of all users of a data set who met something."""
    kept = np.flatnonzero(users.input_ends("test"))
    return model.scores(*users.histories(kept, "test")).numpy()


def grown(weights: dict[str, torch.Tensor], like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with what a catalogue of more items has of its own where their shapes differ."""
    made = {}
    for name, tensor in weights.items():
        made[name] = tensor if tensor.shape == like[name].shape else like[name].clone()
        if name.endswith("table.weight"):
            made[name][: len(tensor) - 1] = tensor[:-1]
            made[name][-1] = tensor[-1]
    return made


def test_scores_are_those_of_a_catalogue_that_had_the_items_unmet(
    model: Recommender, data: Dataset, tables: Tables, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    old = np.asarray(data.item_embeddings)
    # Opposite each other about the mean, so that the mean of the whole catalogue is the mean of the old one; in the
    # direction in which the old ones vary least, so that no new item is an old one's neighbour.
    away = 3 * np.linalg.svd(old - old.mean(axis=0))[2][-1]
    vectors = np.stack([old.mean(axis=0) + away, old.mean(axis=0) - away]).astype(np.float32)
    np.save(tmp_path / "all.npy", np.concatenate([old, vectors]))
    whole = llm_esr.prepare(tables[0], items=tables[1], out=tmp_path / "data", keep_unseen_items=True)
    assert whole.item_ids == data.item_ids + NEW
    llm_esr.embed(whole, encoder=f"file:{tmp_path / 'all.npy'}", dtype="float32", progress=False)
    llm_esr.index(whole, k=5, similar_items=5, progress=False)
    assert whole.similar_items is not None
    assert whole.similar_items[: len(old)].max() <= len(old)
    assert isinstance(model.model, SequentialEncoder)
    network, _ = build_model(whole, model.config)
    network.load_state_dict(grown(model.model.state_dict(), network.state_dict()))
    oracle = Recommender(network.eval(), whole, "oracle", 0, model.config, blend=model.blend)
    made = model.add_items(new_rows, vectors=vectors)
    assert made.blend == model.blend and model.blend
    np.testing.assert_allclose(scores_of(made, data), scores_of(oracle, data), atol=2e-5)
    # Histories that hold new items, too.
    histories = [["i3", "i5"], ["i17"], ["i5", "i17", "i3"]]
    mine, theirs = (one.recommend(histories=histories, k=9, keep_seen=True) for one in (made, oracle))
    assert mine["item_id"].to_list() == theirs["item_id"].to_list()
    np.testing.assert_allclose(mine["score"], theirs["score"], atol=2e-5)


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("llm-esr", ()),
        ("dual-view", ()),
        ("dual-view", ("model.backbone=bert4rec",)),
        ("dual-view", ("model.train_semantic_table=true",)),
    ],
)
def test_scores_of_the_items_before_stay(
    data: Dataset, new_rows: pl.DataFrame, preset: str, settings: tuple[str, ...]
) -> None:
    model = untrained(data, preset, *settings)
    made = model.add_items(new_rows)
    before, after = scores_of(model, data), scores_of(made, data)
    np.testing.assert_allclose(after[:, : data.n_items], before, rtol=1e-5, atol=1e-6)
    assert np.isfinite(after).all() and after[:, data.n_items :].std() > 0
    assert made.data.item_ids == data.item_ids + NEW
    assert made.data.titles() == [*(data.titles() or []), *new_rows["title"]]
    again = made.add_items(new_rows.with_columns(pl.col("item_id") + "b"))
    np.testing.assert_allclose(scores_of(again, data)[:, : after.shape[1]], after, rtol=1e-5, atol=1e-6)
    # Twins by text are twins by score.
    np.testing.assert_allclose(scores_of(again, data)[:, -2:], after[:, -2:], rtol=1e-5, atol=1e-6)


def test_texts_are_embedded_by_the_encoder_of_the_data(
    model: Recommender, data: Dataset, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    prompts = item_prompts(data)
    encoder = LsaEncoder(16)
    encoder.fit(prompts)
    lines = [
        prompts[0]
        .replace(str(data.item_table()[0, "title"]), row["title"])
        .replace(str(data.item_table()[0, "brand"]), row["brand"])
        .replace(str(data.item_table()[0, "description"]), row["description"])
        for row in new_rows.iter_rows(named=True)
    ]
    new_rows.write_csv(tmp_path / "new.csv")
    made = model.add_items(tmp_path / "new.csv")
    assert made.data.item_embeddings is not None
    np.testing.assert_allclose(made.data.item_embeddings[-2:], encoder.encode(lines), atol=1e-6)


def test_an_addition_is_kept_and_undone_by_name(model: Recommender, data: Dataset, new_rows: pl.DataFrame) -> None:
    assert model.folder is not None
    before = scores_of(Recommender.load(model.folder), data)
    first = model.add_items(new_rows[:1])
    both = first.add_items(new_rows[1:], name="spring")
    assert extensions.names_of(model.folder) == ["items-1", "spring"]
    loaded = Recommender.load(model.folder)
    assert loaded.data.item_ids == data.item_ids + NEW
    np.testing.assert_array_equal(scores_of(loaded, data), scores_of(both, data))
    assert set(loaded.recommend(users=["u1"], include=NEW)["item_id"]) == set(NEW)
    for by in ("text", "trained"):
        assert loaded.similar_items(["i17"], by=by).height  # type: ignore[arg-type]
    assert Recommender.load(model.folder, extensions=False).data.n_items == data.n_items
    with pytest.raises(ValueError, match=r"already.*take another name"):
        both.add_items(new_rows.with_columns(pl.col("item_id") + "b"), name="spring")
    assert extensions.undo_addition(model.folder, "items-1") == 1
    left = Recommender.load(model.folder)
    assert left.data.item_ids == [*data.item_ids, "i17"]
    last = scores_of(loaded, data) - scores_of(loaded, data)[:, :1]  # a blend's logarithms are of a smaller catalogue
    np.testing.assert_allclose((s := scores_of(left, data))[:, -1] - s[:, 0], last[:, -1], rtol=1e-4, atol=1e-5)
    extensions.undo_addition(model.folder, "spring")
    np.testing.assert_array_equal(scores_of(Recommender.load(model.folder), data), before)
    with pytest.raises(FileNotFoundError, match=r"no addition 'spring' \(there are: none\)"):
        extensions.undo_addition(model.folder, "spring")


def test_an_addition_that_fails_leaves_nothing(
    model: Recommender, data: Dataset, new_rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.folder is not None

    def fail(*_: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(extensions, "write_json", fail)
        with pytest.raises(OSError, match="no more"):
            model.add_items(new_rows)
    assert extensions.names_of(model.folder) == []
    assert not [path for path in (model.folder / "extensions").glob("*") if path.name != ".lock"]
    assert Recommender.load(model.folder).data.n_items == data.n_items


def test_a_damaged_addition_is_refused_and_can_be_undone(model: Recommender, new_rows: pl.DataFrame) -> None:
    assert model.folder is not None
    model.add_items(new_rows)
    where = model.folder / "extensions" / "items-1"
    whole = (where / "item_embeddings.npy").read_bytes()
    (where / "item_embeddings.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"differs from the checksum.*--undo items-1"):
        Recommender.load(model.folder)
    (where / "item_embeddings.npy").write_bytes(whole)
    record = read_record(where / "extension.json")
    write_json(where / "extension.json", record | {"made_from": record["made_from"] | {"data": "0" * 64}})
    with pytest.raises(ValueError, match=r"made for other data.*--undo items-1"):
        Recommender.load(model.folder)
    (where / "items.parquet").unlink()
    write_json(where / "extension.json", record)
    with pytest.raises(FileNotFoundError, match=r"items.parquet is gone"):
        Recommender.load(model.folder)
    extensions.undo_addition(model.folder, "items-1")
    Recommender.load(model.folder)


def test_vectors_may_be_given(model: Recommender, data: Dataset, new_rows: pl.DataFrame, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)
    turned = pl.DataFrame({"item_id": NEW[::-1], "vector": vectors[::-1].tolist()})
    turned.write_parquet(tmp_path / "v.parquet")
    np.save(tmp_path / "v.npy", vectors)
    for given in (vectors, tmp_path / "v.npy", tmp_path / "v.parquet", dict(zip(NEW, vectors, strict=True))):
        made = untrained(data, "llm-esr").add_items(new_rows, vectors=given)
        assert made.data.item_embeddings is not None
        np.testing.assert_array_equal(made.data.item_embeddings[-2:], vectors)
    bare = untrained(data, "llm-esr").add_items(vectors=tmp_path / "v.parquet")
    assert bare.data.item_ids[-2:] == NEW[::-1]
    assert bare.data.titles() is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give a table of items, or vectors with ids; got neither"),
        ({"vectors": np.zeros((2, 16), np.float32)}, "must say whose they are"),
        ({"vectors": {"a": [1.0] * 16, "b": [1.0]}}, "a vector of one width for each id"),
        ({"vectors": {"a": [1.0] * 5}}, r"5 wide and those of .* 16"),
        (
            {"vectors": {"i5": [1.0] * 16, "a": [1.0] * 16}},
            r"1 of the 2 new items are in the catalogue already",
        ),
        ({"items": pl.DataFrame({"item_id": ["a"]})}, "title"),
        ({"vectors": {"a": [1.0] * 16}, "name": "../x"}, "an addition's name"),
        ({"vectors": {"a": [float("nan")] * 16}}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(data: Dataset, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        untrained(data, "llm-esr").add_items(**given)


def test_vectors_of_a_file_cannot_be_made_again(data: Dataset, tables: Tables, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.asarray(data.item_embeddings))
    other = llm_esr.prepare(tables[0], items=tables[1][: -len(NEW)], out=tmp_path / "data")
    llm_esr.embed(other, encoder=f"file:{tmp_path / 'v.npy'}", progress=False)
    llm_esr.index(other, k=5, similar_items=5, progress=False)
    with pytest.raises(ValueError, match=r"came from a file .*v\.npy.*vectors=\.\.\."):
        untrained(other, "llm-esr").add_items(tables[1][-len(NEW) :])


def test_a_model_that_reads_no_text_gains_nothing(data: Dataset, new_rows: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sasrec knows items by their ids alone"):
        untrained(data, "sasrec").add_items(new_rows)
    transitions = make_untrained(data, "transitions", load_config(None), tmp_path / "transitions")
    with pytest.raises(ValueError, match="transitions knows items by who met them"):
        transitions.add_items(new_rows)
    text = make_untrained(data, "text", load_config(None), tmp_path / "text").add_items(new_rows)
    assert Recommender.load(tmp_path / "text", data=data).data.item_ids[-2:] == NEW
    assert set(text.recommend(users=["u1"], include=NEW)["item_id"]) == set(NEW)


def test_the_command_adds_lists_and_undoes(
    model: Recommender, new_rows: pl.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_rows.write_csv(tmp_path / "new.csv")

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            main([*arguments])
        out, err = capsys.readouterr()
        return out if left.value.code == 0 else err

    shop = str(model.data.folder.parent)
    assert "spring: 2 new items" in run("add-items", shop, str(tmp_path / "new.csv"), "--name", "spring")
    assert run("add-items", shop, "--list") == "spring: 2 items\n"
    assert "i17" in run("recommend", shop, "--history", "i3,i5", "--include", "i17")
    assert run("similar", shop, "i3").startswith("similar by text to bright cream 3 (i3):")
    assert "in one way" in run("add-items", shop)
    assert "spring: 2 items taken away" in run("add-items", shop, "--undo", "spring")
    assert "no item 'i17'" in run("recommend", shop, "--history", "i5", "--include", "i17")
