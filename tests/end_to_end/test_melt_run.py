"""`llm-esr run --models sasrec,melt`, killed in the second stage: it goes on to the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
from safetensors import safe_open

SETTINGS = ["model.width=8", "model.max_len=12", "train.batch_size=9", "train.epochs=2", "checkpoint.every_steps=2",
            "runtime.threads=1", "evaluate.resamples=0"]  # fmt: skip

# In the second epoch of the second stage, after its refresh and a checkpoint.
KILLED = textwrap.dedent("""
    import os, signal, sys
    from llm_esr.training.trainer import Trainer
    step = Trainer._train_step
    def train_step(self, batch, *given):
        step(self, batch, *given)
        if self.name == "melt" and self.epoch == 1 and batch.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    Trainer._train_step = train_step
    from llm_esr.cli import main
    main()
""")


def run(folder: Path, out: str, *start: str) -> subprocess.CompletedProcess[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [*start, "run", "events.parquet", "--out", out, "--models", "sasrec,melt", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=False, timeout=300
    )


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, tiny_tables: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    tiny_tables[0].write_parquet(tmp_path / "events.parquet")
    plain = (sys.executable, "-m", "llm_esr")
    whole = run(tmp_path, "whole", *plain)
    assert whole.returncode == 0, whole.stderr
    assert run(tmp_path, "cut", sys.executable, "-c", KILLED).returncode == -9
    again = run(tmp_path, "cut", *plain)
    assert again.returncode == 0, again.stderr
    weights = [(tmp_path / out / "models/melt/42/model.safetensors").read_bytes() for out in ("whole", "cut")]
    assert weights[0] == weights[1]
    with safe_open(tmp_path / "cut/models/melt/42/model.safetensors", framework="np") as file:
        assert file.get_tensor("transfer.tail_user") >= 1 and file.get_tensor("transfer.users.weight").any()
    assert "melt" in again.stdout and "sasrec" in again.stdout
    assert "sasrec/42 fresh" in again.stderr
