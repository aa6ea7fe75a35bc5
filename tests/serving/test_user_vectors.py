"""User vectors of a stored model, and the similar users that are found with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import llm_esr
from llm_esr.config import IndexConfig
from llm_esr.files import read_json, write_json
from llm_esr.scoring import network as network_module
from llm_esr.serving import Recommender
from llm_esr.serving.similar_users import similar_users_in_words
from llm_esr.serving.untrained import make_untrained
from llm_esr.serving.user_vectors import collaborative_vectors


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    out = tmp_path_factory.mktemp("m") / "m"
    return llm_esr.train(tiny_folder, config="llm-esr", out=out, progress=False, epochs=1, width=8, heads=1)


@pytest.fixture
def data(tiny_folder: Path, tmp_path: Path) -> llm_esr.Dataset:
    """A data set whose folder a test may write to."""
    return llm_esr.Dataset.open(shutil.copytree(tiny_folder, tmp_path / "data"))


def test_user_vectors_times_items_are_the_networks_scores(
    trained: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, network = trained.data, trained.network
    assert network is not None
    vectors = trained.user_vectors()
    assert vectors.dtype == np.float32 and len(vectors) == data.n_users
    histories = data.histories(np.arange(data.n_users), "train")
    some = np.diff(histories[1]) > 0
    scores = torch.from_numpy(vectors) @ network.item_vectors().T
    torch.testing.assert_close(scores[some], network.scores(*histories)[some], rtol=1e-4, atol=1e-4)
    assert not vectors[~some].any()
    monkeypatch.setattr(network_module, "_USERS_AT_ONCE", 7)
    np.testing.assert_allclose(trained.user_vectors(), vectors, atol=1e-5)


def test_user_vectors_read_training_items_alone(trained: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    usual = type(trained.data).histories
    monkeypatch.setattr(
        type(trained.data), "histories", lambda self, users, part: asked.append(part) or usual(self, users, part)
    )
    trained.user_vectors()
    assert set(asked) == {"train"}


def test_the_stage_index_takes_a_stored_model_and_encodes_only_where_it_must(
    trained: Recommender, data: llm_esr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IndexConfig(users_by="collaborative", model=str(trained.folder), similar_users=4)
    made = llm_esr.index(data, config=config, collaborative=collaborative_vectors(data, config), progress=False)
    vectors = trained.user_vectors().astype(np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    with_items = np.asarray(data.training_lengths) > 0
    assert made.similar_users is not None and made.similar_users_scores is not None
    best = np.sort(cosines[:, with_items], axis=1)[:, ::-1][:, :4]
    np.testing.assert_allclose(np.asarray(made.similar_users_scores)[with_items], best[with_items], atol=1e-5)
    monkeypatch.setattr(Recommender, "user_vectors", lambda *_: pytest.fail("encoded again"))
    llm_esr.index(data, config=config, collaborative=collaborative_vectors(data, config), progress=False)


def test_a_run_compares_users_by_the_model_that_its_settings_name(
    trained: Recommender, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "run" / "data")
    said: list[str] = []
    overrides = ["index.users_by=both", f"index.model={trained.folder}", "index.similar_users=10", "model.width=8",
                 "distill.similar_users=3", "distill.teacher_weights=similarity", "train.epochs=1"]  # fmt: skip
    ask = {"out": tmp_path / "run", "models": ["dual-view"], "overrides": overrides, "say": said.append}
    done = llm_esr.run(**ask, progress=False)
    assert any(line.startswith("index      10 similar users each, by text and the user vectors") for line in said)
    about = read_json(done.folder / "data" / "similar_users.json")
    assert about["users_by"] == "both" and "collaborative" in about["made_from"]
    said.clear()
    llm_esr.run(**ask, progress=False)
    assert {"index      fresh", "train      dual-view/42 fresh"} <= set(said)
    with pytest.raises(ValueError, match="--model FOLDER"):
        llm_esr.run(**{**ask, "overrides": ["index.users_by=both", "train.epochs=1"]}, progress=False)


def test_models_that_have_no_vectors_for_this_data_are_refused(
    trained: Recommender, data: llm_esr.Dataset, tmp_path: Path
) -> None:
    def ask(folder: object) -> None:
        collaborative_vectors(data, IndexConfig(users_by="both", model=str(folder)))

    make_untrained(data, "transitions", llm_esr.Config(), tmp_path / "transitions")
    with pytest.raises(ValueError, match="the scorer transitions, which has no network"):
        ask(tmp_path / "transitions")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ask(tmp_path / "nowhere")
    assert trained.folder is not None
    unfinished = shutil.copytree(trained.folder, tmp_path / "unfinished")
    record = read_json(unfinished / "model.json")
    write_json(unfinished / "model.json", record | {"finished": False})
    with pytest.raises(ValueError, match="not finished"):
        ask(unfinished)
    write_json(unfinished / "model.json", record | {"made_from": record["made_from"] | {"data": "other"}})
    with pytest.raises(ValueError, match="trained on other data"):
        ask(unfinished)
    assert collaborative_vectors(data, IndexConfig()) is None


def test_similar_users_in_words_are_the_stored_ones_with_what_they_met(data: llm_esr.Dataset) -> None:
    name = next(name for name in data.user_ids if len(data.history(data.user_index[name], "train")) > 2)
    number = data.user_index[name]
    asked, *others = similar_users_in_words(data, name, k=3)
    assert data.similar_users is not None and data.similar_users_scores is not None
    assert [data.user_index[other.user_id] for other in others] == data.similar_users[number, :3].tolist()
    assert [other.cosine for other in others] == data.similar_users_scores[number, :3].tolist()
    own = data.history(number, "train").tolist()
    assert [item.item_id for item in asked.items] == [data.item_ids[item - 1] for item in own]
    titles = data.titles() or []
    for other in others:
        met = data.history(data.user_index[other.user_id], "train").tolist()
        assert [item.title for item in other.items] == [titles[item - 1] for item in met]
        assert [item.shared for item in other.items] == [item in own for item in met]
    with pytest.raises(ValueError, match=rf"no user '{name}x' in the data; did you mean '{name}'"):
        similar_users_in_words(data, f"{name}x")
