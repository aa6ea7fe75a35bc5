"""A recommender that was loaded or used before a fork answers in the child."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import llm_esr
from llm_esr.simulation import simulate

FORKS = 200

SCRIPT = """
import multiprocessing, sys, threading, warnings
import torch
import llm_esr
warnings.simplefilter("ignore")
folder, how, forks = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(2)
model = llm_esr.Recommender.load(folder)
users = model.data.user_ids[:40]
expected = None
if how == "used":
    expected = model.recommend(users=users, k=5)
    crew = [threading.Thread(target=model.recommend, kwargs={"users": users, "k": 5}) for _ in range(8)]
    [one.start() for one in crew]; [one.join() for one in crew]
    import polars as pl
    pl.DataFrame({"a": range(100_000)}).group_by(pl.col("a") % 7).len()
def child(queue, explain):
    import faulthandler
    faulthandler.dump_traceback_later(50, exit=True)
    found = model.recommend(users=users, k=5, explain=explain)
    model.recommend(histories=[["no such item"], [found["item_id"][0]]], k=2)
    queue.put([row[:4] for row in found.rows()])
context = multiprocessing.get_context("fork")
first = None
for number in range(forks):
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue, number == 0))
    process.start()
    process.join(60)
    assert process.exitcode == 0, process.exitcode
    rows = queue.get()
    first = first or rows
    assert rows == first
    assert expected is None or [row[:3] for row in rows] == [row[:3] for row in expected.rows()]
print("answered", forks)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fork")
    interactions, items = simulate(5, 120, 130)
    llm_esr.run(interactions, items=items, out=path / "run", models=["llm-esr"], epochs=1,
                config={"model": {"width": 16}}, progress=False)  # fmt: skip
    return path / "run"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(("how", "forks"), [("loaded", 3), ("used", FORKS)])
def test_a_forked_child_answers(folder: Path, how: str, forks: int) -> None:
    made = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), how, str(forks)],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert made.stdout.strip() == f"answered {forks}", made.stderr[:3000]  # the newest call of a dump comes first
