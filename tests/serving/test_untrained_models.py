"""Scorers that need no training as models: in a run, judged, serving, explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import llm_esr
from llm_esr.config import load_config
from llm_esr.config.parts import SCORERS
from llm_esr.evaluation import render
from llm_esr.pipeline.doctor import doctor
from llm_esr.pipeline.reports import evaluate_folder
from llm_esr.pipeline.run_folder import ModelId
from llm_esr.serving import Recommender
from llm_esr.serving.judging import judge
from llm_esr.serving.untrained import make_untrained
from llm_esr.simulation import simulate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> llm_esr.Run:
    out = tmp_path_factory.mktemp("untrained") / "run"
    shop = out.parent / "shop"
    shop.mkdir()
    for table, name in zip(simulate(3, 200, 130), ("interactions", "items"), strict=True):
        table.write_parquet(shop / f"{name}.parquet")
    return llm_esr.run(
        shop / "interactions.parquet",
        items=shop / "items.parquet",
        out=out,
        models=[*SCORERS, "sasrec"],
        overrides=["train.epochs=1", "model.width=8", "evaluate.resamples=20"],
        progress=False,
    )


def test_each_scorer_stands_in_the_table_and_in_the_differences(run: llm_esr.Run) -> None:
    models = {row["model"] for row in run.rows}
    assert {*SCORERS, "sasrec", "sasrec - neighbours", "sasrec - ease"} <= models
    assert run.primary == ModelId("sasrec", 42)
    assert all(row["seed"] is None for row in run.rows if row["model"] in SCORERS)


@pytest.mark.parametrize("name", SCORERS)
def test_each_scorer_serves_and_explains(run: llm_esr.Run, name: str) -> None:
    model = run.recommender(name)
    assert "untrained" in repr(model) and model.network is None
    user = model.data.user_ids[5]
    found = model.recommend(users=[user], k=3, explain=True)
    assert found["rank"].to_list() == [1, 2, 3] and found["why"].str.len_chars().min() > 0
    assert not set(found["item_id"]) & {model.data.item_ids[i - 1] for i in model.data.histories([5], "serving")[0]}
    with pytest.warns(UserWarning, match="no known item"):
        popular = model.recommend(histories=[["no such item"]], k=3)
    expected = np.argsort(-np.asarray(model.data.training_counts)[1:], kind="stable")[:3]
    assert popular["item_id"].to_list() == [model.data.item_ids[item] for item in expected]


def test_lists_of_the_table_and_of_all_scores_agree(run: llm_esr.Run) -> None:
    model = run.recommender("transitions")
    users = model.data.user_ids[:50]
    fast = model.recommend(users=users, k=7)
    dense = model.recommend(users=users, k=7, include=model.data.item_ids)
    assert fast.drop("score").equals(dense.drop("score"))
    np.testing.assert_allclose(fast["score"], dense["score"], rtol=1e-5)


def test_figures_of_a_blend_without_network(run: llm_esr.Run) -> None:
    model = run.recommender("neighbours")
    report = judge(model, model.data, model.config.evaluate, part="validation")
    notes = {row["metric"]: row["value"] for row in report.rows if row["k"] is None}
    assert notes["weight transitions"] == 1 and notes["tuned_on"] == 1
    assert "neighbours: 1 transitions" in render(report.rows)
    with pytest.raises(ValueError, match="has no network to take alone"):
        Recommender.load(run.folder / "models" / "neighbours", blend=False)


def test_a_run_of_scorers_alone_and_what_reads_it(run: llm_esr.Run, tmp_path: Path) -> None:
    shop = run.folder.parent / "shop"
    alone = llm_esr.run(shop / "interactions.parquet", out=tmp_path, models=["transitions"], progress=False)
    assert alone.primary == ModelId("transitions", None) and alone.recommender().name == "transitions"
    assert Recommender.load(tmp_path).name == "transitions"
    assert evaluate_folder(tmp_path).value(model="transitions") > 0
    assert evaluate_folder(tmp_path / "models" / "transitions").value(model="transitions") > 0
    assert not any(finding.bad for finding in doctor(tmp_path))
    said: list[str] = []
    llm_esr.run(out=tmp_path, models=["transitions"], say=said.append)
    assert "evaluate   transitions (" in " ".join(said)  # `evaluate` may have left other figures
    said.clear()
    llm_esr.run(out=tmp_path, models=["transitions"], say=said.append)
    assert "evaluate   transitions fresh" in said


def test_popularity_alone_is_a_run_that_is_judged(run: llm_esr.Run, tmp_path: Path) -> None:
    shop = run.folder.parent / "shop"
    llm_esr.run(shop / "interactions.parquet", out=tmp_path, models=["popularity"], progress=False)
    assert evaluate_folder(tmp_path).value(model="popularity") > 0


def test_what_cannot_be_is_refused_before_anything_is_written(run: llm_esr.Run, tmp_path: Path) -> None:
    shop = run.folder.parent / "shop"
    plain = llm_esr.run(shop / "interactions.parquet", out=tmp_path / "run", models=["popularity"], progress=False)
    with pytest.raises(FileNotFoundError, match="which the scorer text reads"):
        make_untrained(plain.data, "text", load_config(None), tmp_path / "text")
    with pytest.raises(ValueError, match="no scorer 'x'"):
        make_untrained(plain.data, "x", load_config(None), tmp_path / "x")
    assert not (tmp_path / "text").exists() and not (tmp_path / "x").exists()
    (tmp_path / "transitions.yaml").write_text("preset: sasrec\n")
    with pytest.raises(ValueError, match="is the name of a scorer"):
        llm_esr.run(out=plain.folder, models=[tmp_path / "transitions.yaml"], progress=False)
