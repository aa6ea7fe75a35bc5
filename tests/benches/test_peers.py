"""Other packages beside ours are given the same data, and are judged by the same code; none of them is needed here."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import beauty5_process
import numpy as np
import pandas as pd
import pytest
from peer_scripts import script_without_its_package
from sections import beauty5, item_knn, training_peers
from sections.packages import Coprocess, Package
from workload import SMALL

from llm_esr import Dataset
from llm_esr.config import load_config
from llm_esr.evaluation import quick_ndcg, rankable_users
from llm_esr.models import SequentialEncoder
from llm_esr.scoring import NetworkScorer
from llm_esr.training.train import build_model


@pytest.fixture
def tiny(tiny_folder: Path) -> Dataset:
    return Dataset.open(tiny_folder)


def test_a_list_is_worth_what_its_place_is_worth() -> None:
    lists = np.array([[7, 8, 9], [8, 7, 9], [8, 9, 7], [1, 2, 3], [0, 0, 0]], np.int32)
    expected = (1 + 1 / math.log2(3) + 1 / math.log2(4)) / 5
    assert training_peers.ndcg_of_lists(lists, np.full(5, 7, np.int32)) == pytest.approx(expected)
    with pytest.raises(ValueError, match="each of 4 targets, got 5"):
        training_peers.ndcg_of_lists(lists, np.full(4, 7, np.int32))


def test_lists_are_worth_what_our_evaluation_says(tiny: Dataset, tmp_path: Path) -> None:
    model, _ = build_model(tiny, load_config("sasrec", ["model.width=16"]))
    beauty5_process.write_lists(model, tiny, tmp_path / "lists.npy")
    users, _ = rankable_users(tiny, "test")
    found = training_peers.ndcg_of_lists(np.load(tmp_path / "lists.npy"), tiny.targets("test")[users])
    assert found > 0
    assert found == pytest.approx(quick_ndcg(NetworkScorer(model, "sasrec"), tiny, "test", 10, users))


def test_our_side_trains_what_the_section_says(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[SequentialEncoder] = []
    monkeypatch.setattr(beauty5_process, "write_lists", lambda model, data, path: trained.append(model))
    settings = [f"--set={value}" for value in training_peers.SETTINGS]
    arguments = [str(tiny.folder), "sasrec", "--threads", "1", "--epochs", "2", *settings, "--lists", "unused"]
    monkeypatch.setattr("sys.argv", ["beauty5_process.py", *arguments])
    beauty5_process.main()
    report = json.loads(capsys.readouterr().out)
    assert len(report["epochs"]) == 2 and report["seconds"] == sum(report["epochs"])
    config = trained[0].config
    assert (config.width, config.max_len, config.blocks, config.heads, config.dropout) == (64, 50, 2, 2, 0.5)


def test_rectools_is_given_the_parts_that_ours_reads(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = SimpleNamespace(User="user", Item="item", Weight="weight", Datetime="datetime")
    script = script_without_its_package(
        monkeypatch, "rectools_sasrec",
        {
            "pytorch_lightning": {"Callback": object, "LightningModule": object, "Trainer": object,
                                  "seed_everything": None},
            "rectools": {"Columns": columns},
            "rectools.dataset": {"Dataset": SimpleNamespace(construct=lambda table: table)},
            "rectools.models": {"SASRecModel": None},
        },
    )  # fmt: skip
    for part in ("train", "test"):
        table: pd.DataFrame = script.interactions(tiny.folder, tiny.input_ends(part))
        shuffled = table.sample(frac=1, random_state=0).sort_values("datetime", kind="stable")
        for user in range(tiny.n_users):
            given = shuffled[shuffled["user"] == user]["item"].tolist()
            assert given == tiny.history(user, part).tolist()
        assert len(table) == tiny.input_ends(part).sum()


def test_implicit_is_given_the_parts_and_weights_that_ours_reads(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = script_without_its_package(
        monkeypatch, "implicit_cosine", {"implicit": {}, "implicit.nearest_neighbours": {"CosineRecommender": None}}
    )
    weighted = script.history_matrix(tiny.folder, tiny.input_ends("test"), 0.7, 3)
    met = script.history_matrix(tiny.folder, tiny.input_ends("train"))
    assert weighted.shape == met.shape == (tiny.n_users, tiny.n_items)
    for user in range(tiny.n_users):
        history = tiny.history(user, "test")
        expected = {int(item): 0.7**ago if ago <= 3 else 0.0 for ago, item in enumerate(history[::-1], start=1)}
        row = weighted[user]
        assert dict(zip((row.indices + 1).tolist(), row.data.tolist(), strict=True)) == pytest.approx(expected)
        assert sorted(met[user].indices + 1) == sorted(tiny.history(user, "train"))
    assert (met.data == 1).all()


def cosines_by_hand(data: Dataset) -> np.ndarray:
    """[I, I], nothing of the own module's code."""
    met = np.zeros((data.n_users, data.n_items))
    for user in range(data.n_users):
        met[user, data.history(user, "train") - 1] = 1.0
    norms = np.maximum(np.linalg.norm(met, axis=0), 1e-12)
    cosines: np.ndarray = met.T @ met / norms / norms[:, None]
    np.fill_diagonal(cosines, 0.0)
    return cosines


def answers_by_hand(data: Dataset, length: int) -> dict[str, Any]:
    """What implicit answers to `values`: lists end where no item has a score."""
    cosines = cosines_by_hand(data)
    items, others = np.nonzero(cosines)
    ids, scores = np.zeros((data.n_users, length), int), np.full((data.n_users, length), -1e38)
    for user in range(data.n_users):
        history = data.history(user, "test")
        found = sum((0.7**ago * cosines[item - 1] for ago, item in enumerate(history[::-1][:10], start=1)),
                    np.zeros(data.n_items))  # fmt: skip
        found[history - 1] = 0.0
        best = np.argsort(-found, kind="stable")[:length]
        best = best[found[best] > 0]
        ids[user, : len(best)], scores[user, : len(best)] = best + 1, found[best]
    triples = [(items + 1).tolist(), (others + 1).tolist(), cosines[items, others].tolist()]
    return {"table": triples, "ids": ids.tolist(), "scores": scores.tolist()}


def test_equal_cosines_and_scores_pass_and_others_do_not(tiny: Dataset) -> None:
    right = answers_by_hand(tiny, item_knn.LISTED)
    item_knn.must_equal(right, tiny)
    assert (np.array(right["scores"]) > 0).any()
    for key in ("table", "scores", "ids"):
        wrong = json.loads(json.dumps(right))
        if key == "table":
            wrong["table"][2][0] += 0.01
        elif key == "scores":
            user = int(np.argmax(np.array(right["scores"])[:, 0]))
            wrong["scores"][user][0] += 0.01
        else:
            # The scores of another item.
            user = int(np.argmax(np.array(right["scores"])[:, 0]))
            wrong["ids"][user][0] = int(tiny.history(user, "test")[0])
        with pytest.raises(AssertionError):
            item_knn.must_equal(wrong, tiny)


def test_ratios_say_how_many_times_as_fast_and_as_good_ours_is() -> None:
    ours = [
        {"epochs": [4.0, 6.0], "ndcg": 0.02},
        {"epochs": [3.0, 3.0], "ndcg": 0.04},
        {"epochs": [9.0, 9.0], "ndcg": 0.03},
    ]
    theirs = {"epochs": [90.0, 110.0], "ndcg": 0.01, "known_items": 11_000}
    time, quality, same_rate = training_peers.rows_of(ours, ours[:1], theirs)
    assert (time.ours, time.peer, time.ratio, time.asked) == (5.0, 100.0, 20.0, ">= 15")
    assert "11,000 items" in time.note
    assert (quality.ours, quality.peer, quality.ratio) == (0.03, 0.01, pytest.approx(3.0))
    assert "0.0200 to 0.0400 by seed" in quality.note
    assert (same_rate.ours, same_rate.peer) == (0.02, 0.01) and "learning rate .001" in same_rate.name
    worthless = training_peers.rows_of(ours, ours, {"epochs": [1.0], "ndcg": 0.0, "known_items": 1})[1]
    assert worthless.ratio is None


@pytest.mark.parametrize("section", [training_peers, item_knn])
def test_without_the_data_a_section_says_so(section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beauty5, "SOURCE", tmp_path / "nowhere")
    (row,) = section.measure(SMALL).rows
    assert row.ours is None and row.note == "nowhere is not there" and row.section == section.SECTION


@pytest.mark.parametrize("section", [training_peers, item_knn])
def test_without_the_package_a_section_says_why(
    section: Any, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beauty5, "SOURCE", tiny_folder)
    monkeypatch.setattr(beauty5, "without_texts", lambda users: tiny_folder)
    monkeypatch.setattr("sections.packages.ENVIRONMENTS", tmp_path)
    monkeypatch.setattr("sections.packages.sys.executable", str(tmp_path / "no-uv-here"))
    (row,) = section.measure(SMALL).rows
    assert row.ours is None and row.note.startswith("not installed: ") and "uv" in row.note


def test_a_coprocess_is_told_what_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "echo.py"
    script.write_text(
        "import json, sys\nprint(json.dumps({'ready': 1}), flush=True)\n"
        "for line in sys.stdin: print(json.dumps({'rate': len(line.strip())}), flush=True)\n"
    )
    monkeypatch.setattr("sections.packages.installed", lambda package: Path(sys.executable))
    with Coprocess(Package("Echo", "echo", ()), str(script), []) as process:
        assert (process.rate("four"), process.rate()) == (4.0, 0.0)
