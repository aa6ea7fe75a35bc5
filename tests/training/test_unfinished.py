"""An unfinished training is work like a finished one: nothing of it is lost without a word."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from interruption import StopAt

import llm_esr
from llm_esr.cli import main
from llm_esr.doors import Terminated
from llm_esr.files import read_json, write_json
from llm_esr.files.checkpoint import newest_state, save_checkpoint
from llm_esr.serving import recommend
from llm_esr.training import Callback, EpochReport, Trainer, is_finished, train
from llm_esr.training.unfinished import ends_earlier, without_limits

SMALL = {"width": 8, "max_len": 12, "batch_size": 20, "epochs": 3, "patience": 9, "threads": 1}
STEPS = 3  # of an epoch


class StopAfter(Callback):
    """Ctrl-C, or another signal, once an epoch is over."""

    def __init__(self, epoch: int, by: int = signal.SIGINT) -> None:
        self.epoch, self.by = epoch, by

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        if report.epoch + 1 == self.epoch:
            os.kill(os.getpid(), self.by)


def begun(data: Path, out: Path, *, epochs: int = 2, **settings: object) -> Path:
    """A training that was stopped after two epochs."""
    given = {**SMALL, **settings}
    with pytest.raises(KeyboardInterrupt, match="saved; the same command goes on"):
        train(data, config="sasrec", out=out, callbacks=[StopAfter(epochs)], progress=False, **given)
    return out


def epochs_of(folder: Path) -> int:
    return len((folder / "metrics.jsonl").read_text().splitlines())


def test_another_setting_is_refused_by_its_name_and_the_epochs_stay(tiny_folder: Path, tmp_path: Path) -> None:
    folder = begun(tiny_folder, tmp_path / "m")
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = r"unfinished training \(2 epochs, .* steps\).*model\.dropout was 0\.5, is 0\.3.*overwrite=True"
    with pytest.raises(ValueError, match=said):
        train(tiny_folder, config="sasrec", out=folder, dropout=0.3, progress=False, **SMALL)
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    config = llm_esr.load_config("sasrec", ["model.dropout=0.3"])
    with pytest.raises(ValueError, match="unfinished training"):
        is_finished(llm_esr.Dataset.open(tiny_folder), config, folder)
    train(tiny_folder, config="sasrec", out=folder, dropout=0.3, overwrite=True, progress=False, **SMALL)
    assert read_json(folder / "model.json")["made_from"]["model"]["dropout"] == 0.3 and epochs_of(folder) == 3


def test_more_epochs_other_patience_and_another_runtime_go_on_to_the_same_bits(
    tiny_folder: Path, tmp_path: Path
) -> None:
    other = {"epochs": 4, "patience": 7, "loader_threads": 2, "checkpoint_minutes": 9.0}
    train(tiny_folder, config="sasrec", out=tmp_path / "whole", progress=False, **{**SMALL, **other})
    folder = begun(tiny_folder, tmp_path / "cut")
    # A kill between the new record and the first checkpoint under it loses nothing either.
    with pytest.raises(KeyboardInterrupt):
        again = {**SMALL, "epochs": 5}
        train(tiny_folder, config="sasrec", out=folder, callbacks=[StopAt(2 * STEPS + 1)], progress=False, **again)
    trained: list[int] = []

    class Note(Callback):
        def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
            trained.append(report.epoch)

    train(tiny_folder, config="sasrec", out=folder, callbacks=[Note()], progress=False, **{**SMALL, **other})
    assert trained == [2, 3]
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]


def test_limits_that_would_have_ended_it_before_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = begun(tiny_folder, tmp_path / "m")
    with pytest.raises(ValueError, match=r"train\.epochs 1 ends it after epoch 1\. .*larger train\.epochs"):
        train(tiny_folder, config="sasrec", out=folder, progress=False, **{**SMALL, "epochs": 1})
    train(tiny_folder, config="sasrec", out=folder, overwrite=True, progress=False, **{**SMALL, "epochs": 1})
    assert epochs_of(folder) == 1


def test_a_patience_that_ran_out_ends_it_where_it_stands(tiny_folder: Path, tmp_path: Path) -> None:
    folder = begun(tiny_folder, tmp_path / "m")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    state = newest_state(folder / "checkpoint")
    assert state is not None
    worse = lines[1]["validation_ndcg_10"] <= lines[0]["validation_ndcg_10"]
    train(tiny_folder, config="sasrec", out=folder, progress=False, **{**SMALL, "patience": 1})
    assert read_json(folder / "model.json")["epochs"] == (2 if worse else 3)


def test_the_share_of_all_epochs_is_no_limit_where_a_curriculum_goes_by_it() -> None:
    made = {
        "train": {"epochs": 3, "patience": 2, "seed": 1},
        "transfer": {"curriculum": "sine"},
        "model": {"transfer": True},
    }
    assert without_limits(made)["train"] == {"epochs": 3, "seed": 1}
    made["transfer"]["curriculum"] = "none"  # type: ignore[index]
    assert without_limits(made)["train"] == {"seed": 1} and made["train"]["epochs"] == 3


def test_sigterm_saves_as_ctrl_c_does(tiny_folder: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = StopAfter(2, signal.SIGTERM)
    with pytest.raises(Terminated, match="saved"):
        train(tiny_folder, config="sasrec", out=tmp_path / "m", callbacks=[stop], progress=False, **SMALL)
    assert signal.getsignal(signal.SIGTERM) is before
    state = newest_state(tmp_path / "m" / "checkpoint")
    assert state is not None and state["epoch"] == 2


def test_the_command_line_ends_with_the_code_of_the_signal(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = Trainer._end_epoch

    def and_stop(self: Trainer) -> None:
        end(self)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_end_epoch", and_stop)
    line = ["train", str(tiny_folder), "--config", "sasrec", "--out", str(tmp_path / "m"), "--epochs", "2", "-q"]
    with pytest.raises(SystemExit) as left:
        main([*line, "--set", "model.width=8"])
    assert left.value.code == 143


def test_sigterm_outside_a_training_is_said_in_words_and_leaves_nothing_half_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_folder, config="sasrec", out=tmp_path / "m", progress=False, **SMALL)
    before, written = signal.getsignal(signal.SIGTERM), recommend.write_parquet

    def and_stop(*given: object) -> None:
        written(*given)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(recommend, "write_parquet", and_stop)
    with pytest.raises(SystemExit) as left:
        main(["recommend", str(tmp_path / "m"), "--users", "all", "--out", str(tmp_path / "lists.parquet")])
    assert left.value.code == 143
    assert capsys.readouterr().err == "interrupted: the same command goes on with what is missing\n"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_checkpoint_comes_by_the_clock_too(tiny_folder: Path, tmp_path: Path) -> None:
    found: list[int] = []

    class Look(Callback):
        def on_step_end(self, trainer: Trainer, report: object) -> None:
            found.extend(int(path.stem) for path in (trainer.folder / "checkpoint").glob("*.safetensors"))

    for name, minutes in (("often", 1e-9), ("never", None)):
        given = {**SMALL, "checkpoint_minutes": minutes}
        train(tiny_folder, config="sasrec", out=tmp_path / name, callbacks=[Look()], progress=False, **given)
        assert bool(found) == (name == "often")
        found.clear()


def test_epochs_of_the_record_are_counted_from_one(tiny_folder: Path, tmp_path: Path) -> None:
    train(tiny_folder, config="sasrec", out=tmp_path / "m", progress=False, **SMALL)
    lines = [json.loads(line) for line in (tmp_path / "m" / "metrics.jsonl").read_text().splitlines()]
    values = [line["validation_ndcg_10"] for line in lines]
    record = read_json(tmp_path / "m" / "model.json")
    assert record["validation"]["best_epoch"] == 1 + values.index(max(values))
    # A record of before, whose epoch counts from 0, is opened all the same.
    record["validation"] = {"epoch": values.index(max(values)), "ndcg@10": max(values)}
    write_json(tmp_path / "m" / "model.json", record)
    assert llm_esr.Recommender.load(tmp_path / "m").seed == 42


def test_a_run_refuses_other_data_under_an_unfinished_training(tiny_folder: Path, tmp_path: Path, tiny_tables) -> None:
    interactions, _ = tiny_tables
    given = {"out": tmp_path / "run", "models": ["sasrec"], "progress": False}
    config = {"model": {"width": 8}, "train": {"epochs": 2}}
    with pytest.raises(KeyboardInterrupt):
        llm_esr.run(interactions, config=config, callbacks=[StopAfter(1)], **given)
    with pytest.raises(ValueError, match=r"holds trained models \(sasrec/42\).*data\.min_user_count was 0, is 2"):
        llm_esr.run(interactions, config=config, min_user_count=2, **given)
    assert llm_esr.run(interactions, config=config, **given).recommender().name == "sasrec"


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"a": 1}', b'{"epoch": 0, "validation_ndcg_10": "x"}', b"\xff"])
def test_another_limit_beside_a_damaged_log_is_one_error(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(line + b"\n")
    state = {"epoch": 1, "step": 3, "steps_summed": 0}
    save_checkpoint(tmp_path / "checkpoint", 3, {}, state)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged: line 1 tells of no epoch.*--overwrite"):
        ends_earlier(tmp_path, {"epochs": 2, "patience": 9})
