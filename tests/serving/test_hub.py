"""A hub folder recommends as the model it was made from, tells nothing of users unless asked to, and is checked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import polars as pl
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from small_models import BLEND, model_on

import llm_esr
from llm_esr.config import load_config, preset_names
from llm_esr.files import read_json, write_json
from llm_esr.files.records import SEAL
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.views.borrowing import BorrowedRows
from llm_esr.pipeline import stages
from llm_esr.serving import Recommender
from llm_esr.serving.hub import layout
from llm_esr.serving.hub.weights import shapes_of

pytestmark = pytest.mark.filterwarnings("ignore:.*have no known item")
HISTORIES = [["i3", "i9"], ["i4"], [], ["i1", "i2", "i3", "i5", "i8", "i13", "i21", "i34"]]


@pytest.fixture(scope="module")
def data(tiny_folder: Path) -> llm_esr.Dataset:
    return llm_esr.Dataset.open(tiny_folder)


@pytest.fixture
def exported(data: llm_esr.Dataset, tmp_path: Path) -> Path:
    model = model_on(data, BLEND | {"ease": 1.0})
    return llm_esr.export_model(model, tmp_path / "hub", to="hub", with_histories=True)


def same_lists(one: Recommender, other: Recommender, histories: list[list[Any]] = HISTORIES) -> None:
    lists = one.recommend(histories=histories, k=12)
    assert lists.equals(other.recommend(histories=histories, k=12)) and lists.height == 12 * len(histories)


CASES: dict[str, tuple[dict[str, float] | None, dict[str, Any]]] = {
    "text and ids, blended": (BLEND, {}),
    "ids alone": (None, {"views": ["collaborative"], "text_profile": 0.0, "backbone": "gru4rec"}),
    "side by side, masked": (
        None,
        {"fusion": "side-by-side", "backbone": "bert4rec", "interaction": "cross-attention"},
    ),
    "texts of a blend alone": ({"text": 1.0}, {"views": ["collaborative"], "text_profile": 0.0}),
    "ease": ({"ease": 2.0}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loaded_model_recommends_as_the_one_that_was_exported(
    case: str, data: llm_esr.Dataset, tmp_path: Path
) -> None:
    blend, settings = CASES[case]
    model = model_on(data, blend, **settings)
    folder = llm_esr.export_model(model, tmp_path / "hub", to="hub")
    loaded = Recommender.from_pretrained(folder, device="cpu")
    same_lists(model, loaded)
    assert loaded.similar_items("i3").equals(model.similar_items("i3", by=loaded.similar.settled(None)))
    assert loaded.similar_items("i3", by="trained").equals(model.similar_items("i3", by="trained"))
    same_lists(model.without_blend(), Recommender.load(folder, device="cpu", blend=False))
    assert (loaded.name, loaded.seed, loaded.config) == (model.name, model.seed, model.config)
    loaded.make_ready()


def test_known_users_come_along_only_when_asked(data: llm_esr.Dataset, exported: Path, tmp_path: Path) -> None:
    model = model_on(data, BLEND | {"ease": 1.0})
    users = data.user_ids[:5]
    loaded = Recommender.from_pretrained(exported, device="cpu")
    assert loaded.recommend(users=users).equals(model.recommend(users=users))
    assert loaded.evaluate(resamples=0).rows == model.evaluate(resamples=0).rows
    assert loaded.similar_items("i3", by="co-occurrence").equals(model.similar_items("i3", by="co-occurrence"))
    alone = llm_esr.export_model(model_on(data), tmp_path / "alone", to="hub")
    without = Recommender.from_pretrained(alone)
    calls: list[Callable[[], Any]] = [
        lambda: without.recommend(users=users),
        lambda: without.recommend_to(tmp_path / "all.parquet"),
        lambda: without.similar_items("i3", by="co-occurrence"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"came without its users' histories.*with_histories=True"):
            call()
    assert without.recommend(histories=[]).height == 0
    assert "**this folder holds the histories of" in (exported / "README.md").read_text()
    assert "no user and no history is in this folder" in (alone / "README.md").read_text()


def test_nothing_tells_of_users_or_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "find_spec", lambda name: None)  # no page of the run, whose plots take seconds
    interactions, items = llm_esr.simulate(seed=3, n_users=40, n_items=120)
    interactions = interactions.with_columns(pl.format("person-{}", "user_id").alias("user_id"))
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(items.height, 6)).astype(np.float32))
    run = llm_esr.run(
        interactions, items=items, out=tmp_path / "shop", models=["sasrec"], epochs=1, progress=False,
        item_embeddings=tmp_path / "vectors.npy",
        overrides=["model.width=8", "model.views=[semantic, collaborative]", "blend.scorers=[transitions]"],
    )  # fmt: skip
    folder = llm_esr.export_model(tmp_path / "shop", tmp_path / "hub", to="hub")
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"person-" not in content and str(tmp_path).encode() not in content, path
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "llm-esr" and card.data.license is None and card.data.model_name == "sasrec"
    found = {(one.metric_type, one.metric_name): one.metric_value for one in card.data.eval_results}
    report = llm_esr.Report(run.rows)
    for group, words in (("all", "overall"), ("tail_item", "tail items"), ("head_user", "head users")):
        value = report.value("ndcg", 10, group, model="sasrec")
        assert found["ndcg@10", f"NDCG@10, {words}"] == pytest.approx(value, abs=1e-6)
    assert "| sasrec | NDCG@10 | " in card.text and "[" in card.text and "file:vectors.npy" in card.text
    same_lists(run.recommender(), Recommender.from_pretrained(folder, device="cpu"), [run.data.item_ids[:3]])


def test_ids_come_back_in_their_type_and_items_without_meetings_have_their_scores(
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    number = pl.col("item_id").str.strip_prefix("i").cast(pl.Int64)
    interactions, items = (table.with_columns(number) for table in tiny_tables)
    data = llm_esr.prepare(interactions, items=items, out=tmp_path / "data", cold_items=0.2, keep_unseen_items=True)
    data = llm_esr.index(llm_esr.embed(data, encoder="lsa", progress=False), k=10, progress=False)
    model = model_on(data, BLEND)
    folder = llm_esr.export_model(model, tmp_path / "hub", to="hub")
    assert layout.NEIGHBOURS in load_file(folder / layout.BLEND)
    loaded = Recommender.from_pretrained(folder, device="cpu")
    same_lists(model, loaded, [[3, 9], [4]])
    assert loaded.recommend(histories=[[3, 9]])["item_id"].dtype == pl.Int64


def test_added_items_go_along(data: llm_esr.Dataset, tmp_path: Path) -> None:
    new = pl.DataFrame({"item_id": ["n1", "n2"], "title": ["red lamp", "old scarf"], "brand": ["brand 1", "brand 2"],
                        "description": ["a soft lamp", "a quiet scarf"]})  # fmt: skip
    model = model_on(data, BLEND).add_items(new)
    loaded = Recommender.from_pretrained(llm_esr.export_model(model, tmp_path / "hub", to="hub"), device="cpu")
    same_lists(model, loaded, [["n1", "i3"], ["i9"]])
    assert loaded.data.n_items == data.n_items + 2


def test_a_name_is_fetched_from_the_hub_and_a_folder_wins(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fetch(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(exported)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.chdir(tmp_path)
    model = Recommender.from_pretrained("owner/name", revision="v1", device="cpu")
    assert asked == [("owner/name", {"revision": "v1", "allow_patterns": list(layout.FILES)})]
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(exported)
    same_lists(model, Recommender.from_pretrained("owner/name", device="cpu"))
    assert len(asked) == 1
    with pytest.raises(ValueError, match="is a folder, which has no revision 'v1'"):
        Recommender.from_pretrained("owner/name", revision="v1")
    for wrong in ("a/b/c", "../up", "x" * 200, "owner/na me", "owner/name.git"):
        with pytest.raises(ValueError, match="neither a folder nor a name on the Hugging Face Hub"):
            Recommender.from_pretrained(wrong)
    assert len(asked) == 1

    def refuse(name: str, **options: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError, match=r"gave no model of that name at revision v2: no network"):
        Recommender.from_pretrained("owner/other", revision="v2")


@pytest.mark.parametrize("name", [name for name in layout.FILES if name != layout.CARD])
def test_a_damaged_or_missing_file_is_refused_before_it_is_used(name: str, exported: Path) -> None:
    path = exported / name
    content = bytearray(path.read_bytes())
    for place in (0, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            Recommender.from_pretrained(exported)
    path.write_bytes(content[:-3])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        Recommender.from_pretrained(exported)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name.replace(".", r"\.")):
        Recommender.from_pretrained(exported)


def change_record(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / layout.CONFIG, read_json(folder / layout.CONFIG) | changes)


def change_model(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        record = read_json(folder / layout.CONFIG)
        record["config"]["model"] |= settings
        write_json(folder / layout.CONFIG, record)

    return change


def change_tensors(name: str, **changes: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / name)
        wanted = {tensor.replace("__", "."): function for tensor, function in changes.items()}
        save_file({key: wanted.get(key, torch.clone)(tensor) for key, tensor in tensors.items()}, folder / name)

    return change


def change_table(name: str, *columns: pl.Expr) -> Callable[[Path], None]:
    return lambda folder: pl.read_parquet(folder / name).with_columns(*columns).write_parquet(folder / name)


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another library": (change_record(library_name="transformers"), "'transformers', not of llm-esr"),
    "another format": (change_record(format=7), "has format 7"),
    "an entry of another kind": (change_record(seed="x"), "seed is missing or of a wrong kind"),
    "more items": (change_record(n_items=10**12), "shape"),
    "no prepared items": (change_record(n_prepared_items=0), "n_items"),
    "an unknown scorer": (change_record(blend={"magic": 1.0}), "magic"),
    "a weight of none": (change_record(blend={"text": None}), "expected a number"),
    "a scorer without its table": (change_record(blend={"transitions": 1.0}), "co-occurrence"),
    "another file": (change_record(files={"../secret": {}}), "secret"),
    "no data": (change_record(data={}), "an entry of its data"),
    "a title that is no text": (change_record(data={"split": "none", "title_column": 5, "config": {}}), "of its data"),
    "an unknown setting": (change_model(magic=1), "magic"),
    "a wider network": (change_model(width=1 << 20), "shape"),
    "many blocks": (change_model(blocks=10**9), "1,000,000,000 blocks"),
    "a longer history": (change_model(max_len=10**8), "positions.weight"),
    "no texts": (change_model(text_profile=0.0, views=["collaborative"]), "shape"),
    "fewer texts": (change_tensors(layout.WEIGHTS, items__text_vectors=lambda one: one[1:].clone()), "rows"),
    "texts of doubles": (change_tensors(layout.WEIGHTS, items__text_vectors=torch.Tensor.double), "float64"),
    "items beyond the catalogue": (change_tensors(layout.BLEND, ease__ids=lambda one: one + 999), "ease.ids"),
    "a narrow table": (change_tensors(layout.BLEND, ease__ids=lambda one: one[:, :2].clone()), "ease.ids"),
    "an id twice": (change_table(layout.ITEMS, pl.lit("i1").alias("item_id")), "ids and counts of their own"),
    "other numbers": (change_table(layout.ITEMS, pl.col("item") + 1), "numbered from 1"),
    "counts below 0": (change_table(layout.ITEMS, pl.col("training_count") - 10**6), "counts"),
    "another column": (change_table(layout.ITEMS, pl.lit(1).alias("price")), "columns"),
    "unknown items": (change_table(layout.HISTORIES, pl.col("items").list.eval(pl.element() + 999)), "known items"),
    "parts out of order": (change_table(layout.HISTORIES, pl.lit(10**6).cast(pl.Int64).alias("train_end")), "in order"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_what_does_not_fit_together_is_refused_even_with_checksums_that_fit(kind: str, exported: Path) -> None:
    change, words = FORGED[kind]
    change(exported)
    record = read_json(exported / layout.CONFIG)
    assert SEAL not in record
    if kind != "another file":
        record["files"] = {name: layout.promise(exported / name) for name in record["files"]}
    write_json(exported / layout.CONFIG, record)
    with pytest.raises(ValueError) as caught:
        Recommender.from_pretrained(exported)
    assert words in str(caught.value), caught.value


@pytest.mark.parametrize("preset", [name for name in preset_names() if load_config(name).model.semantic_mask != "own"])
def test_shapes_without_memory_are_those_of_the_network(preset: str) -> None:
    config = load_config(preset, ["model.width=16"])
    record = {"n_items": 20, "n_prepared_items": 18}
    vectors, borrowed = torch.randn(20, 400), BorrowedRows.empty(22, 4)
    network = SequentialEncoder(config.model, ModelData(20, vectors, torch.zeros(20, 16), borrowed, n_centred=18))
    real = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes_of(config, record, (20, 400), (22, 4)) == real


def test_opening_does_not_import_torchs_compiler(exported: Path) -> None:
    script = (
        "import sys; from llm_esr.serving import Recommender; Recommender.from_pretrained(sys.argv[1], device='cpu');"
        "assert 'torch._dynamo' not in sys.modules, 'some seconds of imports'"
    )
    subprocess.run([sys.executable, "-c", script, str(exported)], check=True)


def test_a_file_that_is_not_named_is_not_read(exported: Path) -> None:
    record = read_json(exported / layout.CONFIG)
    del record["files"][layout.HISTORIES]
    write_json(exported / layout.CONFIG, record)
    with pytest.raises(ValueError, match=r"histories\.parquet is not of this model"):
        Recommender.from_pretrained(exported)


def test_what_cannot_be_published_is_refused(data: llm_esr.Dataset, tmp_path: Path) -> None:
    config = model_on(data).config
    with pytest.raises(ValueError, match="popularity is a scorer without a network"):
        llm_esr.export_model(Recommender(None, data, "popularity", None, config), tmp_path / "hub", to="hub")
    prefixes = model_on(data, {"prefixes": 1.0, "similar-users": 2.0})
    with pytest.raises(ValueError, match=r"prefixes reads the sequences of all users.*with_histories=True"):
        llm_esr.export_model(prefixes, tmp_path / "hub", to="hub")
    assert list(tmp_path.iterdir()) == []
    folder = llm_esr.export_model(prefixes, tmp_path / "hub", to="hub", with_histories=True)
    same_lists(prefixes, Recommender.from_pretrained(folder, device="cpu"))


def test_only_an_export_is_replaced(data: llm_esr.Dataset, exported: Path) -> None:
    model = model_on(data)
    with pytest.raises(ValueError, match=r"holds an export; .*overwrite=True"):
        llm_esr.export_model(model, exported, to="hub")
    llm_esr.export_model(model, exported, to="hub", overwrite=True)
    assert not (exported / layout.HISTORIES).exists()
    (exported / ".git").mkdir()
    with pytest.raises(ValueError, match="holds files that are no export"):
        llm_esr.export_model(model, exported, to="hub", overwrite=True)


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no config\.json.*export RUN --to hub"):
        Recommender.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="describes a model of 'bert', not of llm-esr"):
        Recommender.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(b"[" * (2 << 20))
    with pytest.raises(ValueError, match="at most 1,048,576 are read"):
        Recommender.from_pretrained(tmp_path)


def test_what_was_exported_is_not_exported_again(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was exported itself"):
        llm_esr.export_model(Recommender.load(exported), tmp_path / "again", to="hub")


@pytest.mark.parametrize("device", ["nope", "cuda:99", "meta", ""])
def test_a_device_that_is_not_here_is_refused_by_its_name(device: str, exported: Path) -> None:
    with pytest.raises(ValueError, match=rf"device '?{device}'?: "):
        Recommender.from_pretrained(exported, device=device)
