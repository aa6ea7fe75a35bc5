"""A run over models and seeds that is killed in the middle goes on: nothing is trained twice, the table is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import polars as pl
import pytest

SETTINGS = ["model.width=8", "model.max_len=12", "train.batch_size=9", "negatives.count=16", "distill.similar_users=3",
            "checkpoint.every_steps=4", "runtime.threads=1", "index.similar_users=10"]  # fmt: skip
KILLED_IN = ("llm-esr", "llmemb")
SEEDS = (1, 2)

# `llm-esr run` in a process that kills itself, as a machine that goes down would, at a step of the third training.
KILLED = textwrap.dedent("""
    import os, signal, sys
    from llm_esr.training.trainer import Trainer
    step = Trainer._train_step
    def train_step(self, *given):
        step(self, *given)
        if self.name == os.environ["KILLED_IN"] and self.config.train.seed == 1 and self.step == 10:
            os.kill(os.getpid(), signal.SIGKILL)
    Trainer._train_step = train_step
    from llm_esr.cli import main
    sys.argv = ["llm-esr", *sys.argv[1:]]
    main()
""")


def command(folder: Path, out: str, killed_in: str) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return ["run", str(folder / "events.parquet"), "--items", str(folder / "items.parquet"), "--out", out, "--models",
            f"sasrec,{killed_in}", "--seeds", ",".join(map(str, SEEDS)), "--epochs", "3", *settings]  # fmt: skip


def call(
    arguments: list[str], folder: Path, script: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    start = [str(Path(sys.executable).parent / "llm-esr")] if script is None else [sys.executable, "-c", script]
    environment = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [*start, *arguments], cwd=folder, env=environment, text=True, capture_output=True, check=False, timeout=300
    )


@pytest.fixture(scope="module", params=KILLED_IN)
def runs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame],
) -> dict[str, Any]:
    """One run that was let be, and one that was killed in a training of one model and started again."""
    name = request.param
    folder = tmp_path_factory.mktemp("killed")
    tiny_tables[0].write_parquet(folder / "events.parquet")
    tiny_tables[1].write_parquet(folder / "items.parquet")
    whole = call(command(folder, "whole", name), folder)
    assert whole.returncode == 0, whole.stderr
    killed = call(command(folder, "cut", name), folder, KILLED, KILLED_IN=name)
    assert killed.returncode == -9, killed.stderr
    before = {path: path.stat().st_mtime_ns for path in (folder / "cut").glob("models/*/*/model.safetensors")}
    again = call(command(folder, "cut", name), folder)
    assert again.returncode == 0, again.stderr
    return {"folder": folder, "name": name, "whole": whole, "again": again, "before": before}


def test_what_was_finished_before_the_kill_is_not_trained_again(runs: dict[str, Any]) -> None:
    assert {path.parent.parent.name for path in runs["before"]} == {"sasrec"}
    assert len(runs["before"]) == len(SEEDS)
    for path, time in runs["before"].items():
        assert path.stat().st_mtime_ns == time
    for seed in SEEDS:
        assert f"train      sasrec/{seed} fresh" in runs["again"].stderr


def test_the_killed_training_goes_on_from_its_checkpoint(runs: dict[str, Any]) -> None:
    log, whole = (runs["folder"] / run / "models" / runs["name"] / "1" / "metrics.jsonl" for run in ("cut", "whole"))
    lines, expected = ([json.loads(line) for line in path.read_text().splitlines()] for path in (log, whole))
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    for line, other in zip(lines, expected, strict=True):
        assert {**line, "steps_per_second": 0} == {**other, "steps_per_second": 0}


def test_every_model_has_the_same_bits_as_without_the_kill(runs: dict[str, Any]) -> None:
    for name in ("sasrec", runs["name"]):
        for seed in SEEDS:
            weights = [
                (runs["folder"] / run / "models" / name / str(seed) / "model.safetensors").read_bytes()
                for run in ("whole", "cut")
            ]
            assert weights[0] == weights[1]


def test_the_table_and_the_figures_are_the_same(runs: dict[str, Any]) -> None:
    assert runs["again"].stdout == runs["whole"].stdout.replace("recommend whole ", "recommend cut ")
    assert "(2 seeds)" in runs["again"].stdout
    figures = [(runs["folder"] / run / "metrics.json").read_text() for run in ("whole", "cut")]
    assert figures[0] == figures[1]
    tables = [(runs["folder"] / run / "tables.md").read_text() for run in ("whole", "cut")]
    assert tables[0] == tables[1]
