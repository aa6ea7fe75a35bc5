"""`train.loss: auto`: which loss by the number of items, and that it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import llm_esr
from llm_esr.config import load_config
from llm_esr.files import read_json
from llm_esr.pipeline.doctor import doctor
from llm_esr.training import is_finished, loss_choice, train
from llm_esr.training.loss_choice import WHOLE_UP_TO, settle_loss


def test_the_choice_goes_by_the_items() -> None:
    auto = load_config("sasrec")
    assert auto.train.loss == "auto"
    assert settle_loss(auto, WHOLE_UP_TO).train.loss == "softmax"
    large = settle_loss(auto, WHOLE_UP_TO + 1)
    assert (large.train.loss, large.negatives.kind, large.negatives.count) == ("sampled-softmax", "shared", 4096)
    more = load_config("sasrec", ["negatives.count=9000", "negatives.kind=own"])
    assert settle_loss(more, WHOLE_UP_TO + 1).negatives.count == 9000
    bce = load_config("sasrec", ["train.loss=bce"])
    assert settle_loss(bce, 10) is bce


def test_it_is_said_and_equals_the_loss_given_by_name(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model.width=8", "train.epochs=1"]
    data = llm_esr.Dataset.open(tiny_folder)
    train(data, config=load_config("sasrec", small), name="m", out=tmp_path / "m")
    said = f"train.loss auto: softmax over the whole catalogue ({data.n_items:,} items, at most 30,000)"
    assert f"m {said}" in capsys.readouterr().err
    assert read_json(tmp_path / "m" / "model.json")["choice"] == said
    assert load_config(tmp_path / "m" / "config.yaml").train.loss == "softmax"
    assert any(said in str(finding) for finding in doctor(tmp_path / "m"))
    assert is_finished(data, load_config("sasrec", [*small, "train.loss=softmax"]), tmp_path / "m")


def test_a_large_catalogue_is_sampled(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_choice, "WHOLE_UP_TO", 10)
    model = train(tiny_folder, config=load_config("sasrec", ["model.width=8", "train.epochs=1"]), out=tmp_path / "m",
                  progress=False)  # fmt: skip
    assert model.config.train.loss == "sampled-softmax" and model.config.negatives.count == 4096
    assert "more than 10" in read_json(tmp_path / "m" / "model.json")["choice"]
