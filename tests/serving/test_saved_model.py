"""Serving on real files: a prepared data set and a saved network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from llm_esr.cli import main
from llm_esr.config import Config, EvaluateConfig, dump_config
from llm_esr.data import Dataset
from llm_esr.evaluation import (
    early_stopping_candidates,
    early_stopping_users,
    evaluate,
    quick_ndcg,
    read_rows,
)
from llm_esr.files import FORMAT, read_json, write_json
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.storage import save_weights
from llm_esr.scoring import Popularity
from llm_esr.serving import Recommender


@pytest.fixture(scope="module")
def data(tiny_folder: Path) -> Dataset:
    return Dataset.open(tiny_folder)


@pytest.fixture
def run(tmp_path: Path, data: Dataset) -> Path:
    """A run folder with one untrained model in it."""
    config = Config.model_validate({"model": {"views": ["collaborative"], "width": 8, "max_len": 4}})
    torch.manual_seed(0)
    model = SequentialEncoder(config.model, ModelData(data.n_items, None, torch.randn(data.n_items, 8)))
    folder = tmp_path / "models" / "sasrec" / "7"
    folder.mkdir(parents=True)
    save_weights(model, folder)
    (folder / "config.yaml").write_text(dump_config(config))
    record = {"format": FORMAT, "name": "sasrec", "seed": 7, "n_items": data.n_items, "data": str(data.folder)}
    made_from = {"data": data.fingerprint, "model": config.model.model_dump(mode="json")}
    write_json(folder / "model.json", record | {"made_from": made_from, "finished": True})
    primary = {"name": "sasrec", "seed": 7}
    write_json(tmp_path / "run.json", {"format": FORMAT, "primary": primary, "settings": {}, "evaluated": {}})
    return tmp_path


def test_a_loaded_run_evaluates_and_recommends(run, data):
    model = Recommender.load(run, device="cpu")
    assert (model.name, model.seed, model.folder) == ("sasrec", 7, run / "models/sasrec/7")
    report = model.evaluate(k=10)
    assert {r["model"] for r in report.rows} == {"popularity", "sasrec"}
    assert report.value("hr", 10) > 0
    user = data.user_ids[3]
    seen = {data.item_ids[i - 1] for i in data.history(3, "serving")}
    frame = model.recommend(users=user, k=5)
    assert frame["rank"].to_list() == [1, 2, 3, 4, 5]
    assert not seen & set(frame["item_id"])
    titles = dict(zip(data.item_ids, data.titles() or [], strict=True))
    assert frame["title"].to_list() == [titles[name] for name in frame["item_id"]]


def test_a_model_is_judged_by_the_papers_protocol_in_python_and_on_the_command_line(run, data, capsys):
    settings = {"group_rule": "paper", "tail_item_below": 6, "tail_user_below": 5, "ties": "strict"}
    settings |= {"tail_item_skips_first": True}
    report = Recommender.load(run, device="cpu").evaluate(
        candidates=10, length_groups=[4], popularity_groups=[], **settings
    )
    assert {row["protocol"] for row in report.rows} == {"paper-10"}
    ranges = {row["group"] for row in report.rows if row["group"].startswith(("length", "popularity"))}
    assert ranges == {"length_0_3", "length_4_up"}
    whole_inputs = Popularity(data, "test")
    # The baseline's many ties are settled by expectation, or they would all fall in its favour.
    config = EvaluateConfig.model_validate(settings | {"candidates": 10, "ties": "expected"})
    expected = evaluate(whole_inputs, data, config=config).rows
    assert [row for row in expected if not row["group"].startswith(("length", "popularity"))] == [
        row for row in report.rows if row["model"] == "popularity" and not row["group"].startswith("length")
    ]

    options = [f"--set=evaluate.{name}={str(value).lower()}" for name, value in settings.items()]
    with pytest.raises(SystemExit) as left:
        main(["evaluate", str(run), "--candidates", "10", *options])
    assert not left.value.code
    written = read_rows(run / "metrics.json")
    assert expected == [row for row in written if row["model"] == "popularity"]
    assert {row["model"] for row in written} == {"popularity", "sasrec"}
    assert "tail item: met by fewer than 6 users over all parts" in capsys.readouterr().out


def test_everybody_at_once_gets_what_each_alone_gets(run, data, tmp_path):
    model = Recommender.load(run, device="cpu")
    model.recommend_to(tmp_path / "all.parquet", k=3)
    written = pl.read_parquet(tmp_path / "all.parquet")
    assert written["user_id"].unique(maintain_order=True).to_list() == data.user_ids
    for user in data.user_ids[::9]:
        alone = model.recommend(users=user, k=3)
        assert written.filter(pl.col("user_id") == user)["item_id"].to_list() == alone["item_id"].to_list()


def test_no_history_however_odd_gives_nan(run):
    model = Recommender.load(run, device="cpu")
    with pytest.warns(UserWarning, match="no known item"), pytest.warns(UserWarning, match=r"no item '\?'"):
        frame = model.recommend(histories=[[], ["i1"] * 40, ["i1", "i2"], ["?"]], k=4)
    assert len(frame) == 16
    assert frame["score"].is_finite().all()


def test_other_data_than_those_of_the_training_are_refused(run):
    path = run / "models/sasrec/7/model.json"
    record = read_json(path)
    write_json(path, record | {"made_from": {"data": "another"}})
    with pytest.raises(ValueError, match="trained on other data"):
        Recommender.load(run)
    write_json(path, record | {"finished": False})
    with pytest.raises(ValueError, match="not finished"):
        Recommender.load(run)


def test_early_stopping_against_candidates_is_the_evaluation_against_as_many(data):
    users = early_stopping_users(data)
    candidates = early_stopping_candidates(data, users, 10)
    quick = quick_ndcg(Popularity(data), data, "validation", 5, users, candidates=candidates)
    config = EvaluateConfig(candidates=10, k=[5])
    report = evaluate(Popularity(data), data, part="validation", config=config)
    assert quick == pytest.approx(report.value("ndcg", 5))


def test_sampled_candidates_are_the_same_for_every_model_and_every_time(data):
    config = EvaluateConfig(candidates=10, k=[5])
    first = evaluate(Popularity(data), data, config=config).rows
    assert first == evaluate(Popularity(data), data, config=config).rows
    assert {r["protocol"] for r in first} == {"sampled-10"}
    assert "coverage" not in {r["metric"] for r in first}  # a list of ten sampled items says nothing of the catalogue
    full = evaluate(Popularity(data), data, config=EvaluateConfig(k=[5])).rows
    assert first[0]["value"] > full[0]["value"]
    # One user's candidates do not depend on who else is evaluated.
    users = np.flatnonzero(data.targets("test"))
    means = [evaluate(Popularity(data), data, config=config, users=part).rows[0] for part in (users[:9], users[9:])]
    assert first[0]["value"] == pytest.approx(sum(r["value"] * r["users"] for r in means) / len(users))
