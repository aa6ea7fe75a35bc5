"""Callbacks that pass figures on, with stand-ins for the packages that they pass them to."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_esr.config import load_config
from llm_esr.files import read_json
from llm_esr.training import MLflow, WeightsAndBiases, train

SMALL = ["model.width=8", "train.epochs=3", "train.batch_size=30", "train.seed=5"]


class Recorder:
    """Notes every call by its name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.summary = SimpleNamespace(update=self._noted("summary"))

    def _noted(self, name: str) -> Any:
        def note(*arguments: Any, **named: Any) -> Recorder:
            self.calls.append((name, arguments, named))
            return self

        return note

    def __getattr__(self, name: str) -> Any:
        return self._noted(name)

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(arguments, named) for called, arguments, named in self.calls if called == name]


def test_weights_and_biases_learns_settings_figures_and_the_best_epoch(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", package)
    logger = WeightsAndBiases("mine", mode="offline")
    train(tiny_folder, config=load_config("sasrec", SMALL), out=tmp_path, callbacks=[logger], progress=False)
    ((_, opened),) = package.of("init")
    assert (opened["project"], opened["name"], opened["mode"]) == ("mine", "llm-esr/5", "offline")
    assert opened["config"]["model"]["width"] == 8
    logged = package.of("log")
    assert len(logged) == 3 and logged[0][1]["step"] < logged[1][1]["step"]
    validated = [arguments[0]["validation/ndcg@10"] for arguments, _ in logged]
    best = read_json(tmp_path / "model.json")["validation"]
    assert package.of("summary")[0][0][0] == {"best_epoch": best["best_epoch"], "best_ndcg@10": max(validated)}
    assert package.calls[-1][0] == "finish" and {"train/loss", "train/ranking"} <= set(logged[0][0][0])


def test_mlflow_learns_settings_and_figures_under_names_that_it_takes(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    train(tiny_folder, config=load_config("sasrec", SMALL), out=tmp_path, callbacks=[MLflow("mine")], progress=False)
    assert [name for name, _, _ in package.calls] == [
        "set_experiment", "start_run", "log_params", *["log_metrics"] * 3, "end_run",
    ]  # fmt: skip
    assert package.of("log_params")[0][0][0]["model.width"] == 8
    names = set(package.of("log_metrics")[0][0][0])
    assert "validation/ndcg_at_10" in names and not any("@" in name for name in names)


def test_a_training_that_fails_closes_its_run(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    config = load_config("sasrec", [*SMALL, "train.learning_rate=1e30", "train.clip_norm=null", "train.epochs=50"])
    with pytest.raises(ValueError, match="the loss became"):
        train(tiny_folder, config=config, out=tmp_path, callbacks=[MLflow()], progress=False)
    assert package.calls[-1][0] == "end_run"


@pytest.mark.parametrize(("name", "kind"), [("wandb", WeightsAndBiases), ("mlflow", MLflow)])
def test_a_missing_package_is_named(name: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"pip install 'llm-esr\[{name}\]'"):
        kind()
