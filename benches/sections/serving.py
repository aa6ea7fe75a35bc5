"""The HTTP server: how many requests it answers, and how soon, beside its own load generator on the same cores."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from measuring import Results, Row
from workload import Size, cache_folder

import llm_esr
from llm_esr.config import dump_config, load_config
from llm_esr.files import FORMAT, write_json
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.storage import save_weights
from llm_esr.models.views.borrowing import BorrowedRows
from llm_esr.simulation import simulate
from sections.processes import run_script

SECTION = "serving"
TITLE = "Serving"
ASKED = 500  # answers a second
RATE = 510  # requests a second that come: the last of them is answered a moment after the time that is counted
CONNECTIONS = 64
_FORMAT = 1
# What the preset's blend comes to on real data; the weights do not change the time.
_WEIGHTS = {"text-max": 2.0, "text": 1.0, "transitions": 0.3, "co-occurrence": 4.0, "log-popularity": 0.05}


def _shop(size: Size) -> tuple[int, int]:
    """Users and items."""
    return (900, 400) if size.users < 10_000 else (20_000, 12_000)


def about(size: Size) -> str:
    users, items = _shop(size)
    return (
        "`llm-esr serve` with the preset `llm-esr` (weights as they are drawn, which cost what trained ones cost) over "
        f"{users:,} simulated users and {items:,} items, answering lists of 10, for known users and for histories of 1 "
        "to 20 items in turn. The load comes from `benches/serving_load.py`, plain asyncio in a process of its own on "
        f"the same cores, over {CONNECTIONS} open connections. At a steady rate each request's time runs from when it "
        "was due."
    )


def measure(size: Size) -> Results:
    small = size.users < 10_000
    folder, seconds = _model(size), 3 if small else 30
    rows = []
    for name, blend in (("blended", True), ("the network alone", False)):
        with serving(folder, blend=blend) as port:
            options = [str(port), str(folder / "ids.json"), "--connections", str(CONNECTIONS), "--seconds"]
            run_script("serving_load.py", [*options, "2"], threads=1)  # warms up
            steady = run_script("serving_load.py", [*options, str(seconds), "--rate", str(RATE)], threads=1)
            most = run_script("serving_load.py", [*options, str(seconds)], threads=1)
        note = f"median {steady['p50_ms']:.1f} ms, {steady['failed']} of {steady['asked']:,} failed"
        rows += [
            Row(SECTION, f"99th percentile at {RATE} requests/s, {name}", steady["p99_ms"], "ms", 2, asked="< 50",
                note=note),
            Row(SECTION, f"answered at {RATE} requests/s, {name}", steady["per_second"], "requests/s", 2,
                asked=f">= {ASKED}, 0 failed", note=f"{steady['failed']} failed"),
            Row(SECTION, f"as fast as answers come, {name}", most["per_second"], "requests/s", 2,
                note=f"99th percentile {most['p99_ms']:.0f} ms, {most['failed']} failed"),
        ]  # fmt: skip
    return Results(rows)


@contextmanager
def serving(folder: Path, *, blend: bool) -> Iterator[int]:
    """A server, by its port."""
    command = [sys.executable, "-m", "llm_esr", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen([*command, *([] if blend else ["--no-blend"])], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"at http://[^:]+:(\d+)", process.stdout.readline())
        assert found, "the server did not start"
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(60)


def _model(size: Size) -> Path:
    """A model folder of the preset with weights as they are drawn, made once."""
    n_users, n_items = _shop(size)
    top = cache_folder() / f"serving-{n_users}-users-{n_items}-items"
    done, folder = top / "done.json", top / "model"
    if done.exists() and json.loads(done.read_text()) == _FORMAT:
        return folder
    shutil.rmtree(top, ignore_errors=True)
    interactions, items = simulate(0, n_users, n_items)
    data = llm_esr.embed(llm_esr.prepare(interactions, items=items, out=top / "data"), encoder="lsa", progress=False)
    config = load_config("llm-esr")
    neighbours_IJ = np.random.default_rng(0).integers(1, data.n_items + 1, (data.n_items, 10)).astype(np.int32)
    cosines_IJ = np.ones(neighbours_IJ.shape, np.float32)
    borrowed = BorrowedRows.from_neighbours(
        neighbours_IJ, cosines_IJ, data.training_counts[1:], config.model.borrow, config.model.borrow_temperature
    )
    vectors = torch.from_numpy(np.array(data.item_embeddings))
    start = torch.zeros(data.n_items, config.model.width)
    folder.mkdir()
    save_weights(SequentialEncoder(config.model, ModelData(data.n_items, vectors, start, borrowed)), folder)
    (folder / "config.yaml").write_text(dump_config(config))
    record = {
        "format": FORMAT,
        "key": "bench",
        "name": "llm-esr",
        "seed": 0,
        "n_items": data.n_items,
        "data": "../data",
        "finished": True,
        "made_from": {"data": data.fingerprint, "model": config.model.model_dump()},
    }
    write_json(folder / "model.json", record)
    write_json(folder / "blend.json", {"format": FORMAT, "key": "bench", "weights": _WEIGHTS})
    (folder / "ids.json").write_text(json.dumps({"users": data.user_ids, "items": data.item_ids}))
    done.write_text(json.dumps(_FORMAT))
    return folder
