"""A search for settings: judged and stopped by validation, gone on with after a kill, the same from the same seed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.storages.journal import JournalFileBackend

import llm_esr
from llm_esr.cli import main
from llm_esr.config import load_config
from llm_esr.config.yaml_text import read_yaml
from llm_esr.pipeline import Tuning
from llm_esr.pipeline.grid import model_grid
from llm_esr.pipeline.search import trials
from llm_esr.serving import Recommender
from llm_esr.training.loss_choice import settle_loss

SPACE = {"train.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}, "model.blocks": [1, 2]}
FAST = ["model.width=8", "train.epochs=2", "train.batch_size=30"]


def search(data: Path, out: Path, count: int = 4, **options: Any) -> Tuning:
    options = {"model": "sasrec", "space": SPACE, "overrides": FAST, "progress": False} | options
    return llm_esr.tune(data, out=out, trials=count, **options)


@pytest.fixture(scope="module")
def found(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return search(tiny_folder, tmp_path_factory.mktemp("tune") / "found")


def test_the_best_trial_is_a_preset_and_the_only_model_left(found: Tuning) -> None:
    assert [one.number for one in found.trials] == [1, 2, 3, 4]
    assert {one.state for one in found.trials} == {"complete"}
    assert found.best.value == max(one.value or 0 for one in found.trials)
    (folder,) = (found.folder / "models").iterdir()
    assert folder.name == f"trial-{found.best.number}"
    kept = load_config(folder / "42" / "config.yaml")
    preset = settle_loss(load_config(found.preset), n_items=48)  # as a training does
    assert preset.model_dump(exclude={"runtime"}) == kept.model_dump(exclude={"runtime"})
    assert read_yaml(found.preset)["preset"] == "sasrec"
    assert list(model_grid([found.preset], True, [], load_config())) == ["best"]


def test_a_figure_is_that_of_the_models_validation(found: Tuning) -> None:
    model = Recommender.load(found.folder)
    report = model.evaluate(part="validation", popularity=False, resamples=0)
    assert found.best.value == report.value("ndcg", 10)


def test_trials_are_shown_best_first_and_drawn_in_one_file(found: Tuning) -> None:
    table = found.table()
    shown = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    ranked = sorted(found.trials, key=lambda one: (-(one.value or 0), one.number))
    assert shown == [str(one.number) for one in ranked]
    assert found.page is not None
    page = found.page.read_text()
    assert page.count("<svg") == 2 and "fANOVA" in page and "http-equiv" not in page and "<script" not in page
    assert found.to_polars()["value"].to_list() == [one.value for one in found.trials]


def test_a_search_that_was_killed_goes_on_as_it_would_have_gone(
    found: Tuning, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    tell: Callable[..., None] = trials.Watcher.on_epoch_end

    def killed(watcher: Any, trainer: Any, report: Any) -> None:
        tell(watcher, trainer, report)
        if len(lines) == 2:  # in the third trial, after its first epoch was told
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trials.Watcher, "on_epoch_end", killed)
        with pytest.raises(KeyboardInterrupt):
            search(tiny_folder, tmp_path / "out", say=lines.append)
    assert (tmp_path / "out" / "best.yaml").exists()
    journal = tmp_path / "out" / "study.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"op_code":6,"tri')  # half a line, as a power cut leaves it
    (tmp_path / "out" / "study.jsonl.lock").write_text("")
    again = search(tiny_folder, tmp_path / "out", say=lines.append)
    assert again.trials == found.trials
    assert len(lines) == 4 and lines[2].startswith("trial 3/4")
    assert all(json.loads(line)["op_code"] in range(11) for line in journal.read_text().splitlines())
    assert search(tiny_folder, tmp_path / "out", count=2, say=lines.append).trials == found.trials
    assert len(lines) == 4, "nothing is left to train"


def test_the_same_seed_gives_the_same_trials_and_another_one_others(
    found: Tuning, tiny_folder: Path, tmp_path: Path
) -> None:
    assert search(tiny_folder, tmp_path / "same", 2, keep_all=True).trials == found.trials[:2]
    assert len(list((tmp_path / "same" / "models").iterdir())) == 2, "all are kept where that is asked for"
    (other,) = search(tiny_folder, tmp_path / "other", 1, seed=43).trials
    assert other.settings != found.trials[0].settings


def test_validation_stops_a_trial_and_its_model_goes(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            return trial.number == 1

    monkeypatch.setitem(trials.PRUNERS, "median", lambda epochs: Second())
    first, second = search(tiny_folder, tmp_path, 2).trials
    assert (first.state, first.epochs, second.state, second.epochs) == ("complete", 2, "pruned", 1)
    assert second.value is None and "after epoch 1" in second.why
    assert [folder.name for folder in (tmp_path / "models").iterdir()] == ["trial-1"]


@pytest.mark.parametrize("name", trials.PRUNERS)
def test_every_pruner_can_be_asked(name: str) -> None:
    study = optuna.create_study(direction="maximize", pruner=trials.PRUNERS[name](9))
    trial = study.ask()
    trial.report(0.5, 1)
    assert not trial.should_prune(), "there is nothing to compare it with"


def test_a_group_can_be_what_counts(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"in a group 'cold_target'; groups there: all, tail_item"):
        search(tiny_folder, tmp_path, maximize="cold_target")
    for wrong in ("ndcg", "tail_item.map@10", "auc@10", "ndcg@0", ""):
        with pytest.raises(ValueError, match=r"maximize|in a group 'ndcg'"):
            search(tiny_folder, tmp_path, maximize=wrong)
    (one,) = search(tiny_folder, tmp_path, 1, maximize="tail_item.hr@5").trials
    report = Recommender.load(tmp_path).evaluate(part="validation", k=5, popularity=False, resamples=0)
    assert one.value == report.value("hr", 5, "tail_item")
    assert set(one.by_epoch) == {1, 2}


def test_settings_that_diverge_are_a_failed_trial_with_its_reason(tiny_folder: Path, tmp_path: Path) -> None:
    space = {"train.learning_rate": [1e30]}
    with pytest.raises(ValueError, match=r"no trial of .* could be finished; the last one: the loss became"):
        search(tiny_folder, tmp_path, 2, space=space, overrides=[*FAST, "train.clip_norm=null"])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('\\"1\\", \\"2\\"', '\\"1\\", \\"9\\"', "trial 1 drew from another space"),
        ('"intermediate_value":0', '"intermediate_value":NaN,"x":0', "trial 1 has a figure that is no number"),
        ('"values":[0', '"values":[Infinity,0', "trial 1 has "),
    ],
)
def test_a_journal_that_tells_of_other_trials_is_refused(
    found: Tuning, tiny_folder: Path, tmp_path: Path, before: str, after: str, said: str
) -> None:
    for name in ("tune.json", "study.jsonl"):
        text = (found.folder / name).read_text()
        assert name == "tune.json" or before in text
        (tmp_path / name).write_text(text.replace(before, after) if name == "study.jsonl" else text)
    with pytest.raises(ValueError, match=said):
        search(tiny_folder, tmp_path)


def test_a_search_has_one_seed(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.seed=7.* one seed for all"):
        search(tiny_folder, tmp_path / "t", overrides=[*FAST, "train.seed=7"])


def test_other_vectors_are_another_search(
    tiny_folder: Path, tiny_tables: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "data")
    llm_esr.embed(tmp_path / "data", encoder="lsa")
    search(tmp_path / "data", tmp_path / "t", 1)
    np.save(tmp_path / "v.npy", np.random.default_rng(1).normal(size=(tiny_tables[1].height, 4)).astype(np.float32))
    llm_esr.embed(tmp_path / "data", encoder=f"file:{tmp_path / 'v.npy'}")
    with pytest.raises(ValueError, match="holds another search: the vectors or neighbours of its data were others"):
        search(tmp_path / "data", tmp_path / "t", 2)


def test_another_search_and_other_files_are_not_written_over(found: Tuning, tiny_folder: Path, tmp_path: Path) -> None:
    before = (found.folder / "study.jsonl").read_bytes()
    for changes, words in (
        ({"space": SPACE | {"model.blocks": [1]}}, "model.blocks was"),
        ({"overrides": [*FAST, "model.dropout=.1"]}, "model.dropout was"),
        ({"seed": 43}, "train.seed was 42, is 43"),
        ({"maximize": "hr@10"}, "maximize was ndcg@10, is hr@10"),
    ):
        with pytest.raises(ValueError, match=rf"holds another search: {words}.*overwrite=True"):
            search(tiny_folder, found.folder, **changes)
    assert (found.folder / "study.jsonl").read_bytes() == before
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds files that are no search"):
        search(tiny_folder, tmp_path, overwrite=True)


@pytest.mark.parametrize("damage", [b"nonsense\n", b"[1]\n", b'{"op_code":4}\n', b'{"op_code":77}\n', b"x" * (1 << 21)])
def test_a_damaged_journal_is_one_error_and_can_be_begun_anew(
    damage: bytes, found: Tuning, tiny_folder: Path, tmp_path: Path
) -> None:
    for name in ("tune.json", "study.jsonl"):
        (tmp_path / name).write_bytes((found.folder / name).read_bytes())
    lines = (tmp_path / "study.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "study.jsonl").write_bytes(b"".join([*lines[:5], damage, *lines[5:]]))
    with pytest.raises(ValueError, match=r"study\.jsonl is damaged: .*overwrite=True"):
        search(tiny_folder, tmp_path)
    if damage == b"nonsense\n":
        assert search(tiny_folder, tmp_path, 1, overwrite=True).trials == found.trials[:1]


def test_nothing_of_a_search_is_a_pickle(found: Tuning) -> None:
    assert not hasattr(JournalFileBackend, "save_snapshot"), "Optuna's snapshots are pickles"
    assert {path.suffix for path in found.folder.iterdir() if path.is_file()} == {".yaml", ".json", ".jsonl", ".html"}


def test_a_wrong_space_is_refused_on_the_command_line_before_anything_is_made(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    for text, words in (
        ("train.lr: [.1]", "did you mean 'train.learning_rate'"),
        ("model.width: [0]", "model.width 0"),
    ):
        space.write_text(text)
        with pytest.raises(SystemExit) as left:
            main(["tune", str(tiny_folder), "--space", str(space), "--out", str(tmp_path / "out")])
        assert left.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
