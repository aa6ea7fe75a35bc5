"""One small file of every kind that the package reads, each with its reader."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from damage import Subject
from safetensors.numpy import save_file

import llm_esr
from llm_esr import _native
from llm_esr.data import Dataset
from llm_esr.evaluation.report import read_rows
from llm_esr.files import read_json, write_json
from llm_esr.files.arrays import open_array
from llm_esr.files.checkpoint import load_newest, save_checkpoint
from llm_esr.models import load_model
from llm_esr.pipeline.run_folder import RunFolder
from llm_esr.published.pickled_arrays import read_pickled_array
from llm_esr.scoring import build_untrained
from llm_esr.semantics.alignment import align_items
from llm_esr.semantics.projection import Projection, fit_projection
from llm_esr.semantics.vector_files import stored_checksum
from llm_esr.serving.blends import read_blend
from llm_esr.serving.recommender import Recommender

SMALL = {
    "model": {"width": 4, "heads": 1, "blocks": 1, "max_len": 4},
    "index": {"similar_users": 3, "similar_items": 3},
}

ITEMS = 12


def small_files(folder: Path) -> list[Subject]:
    """Files of a run of a few users, of a checkpoint, and of what a user may give."""
    rows = [
        (f"u{user}", f"i{(user + step * step) % ITEMS}", 60 * step)
        for user in range(10)
        for step in range(4 + user % 4)
    ]
    interactions = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{item}" for item in range(ITEMS)], "title": ["a", "b", "c"] * (ITEMS // 3)})
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32))
    run = folder / "run"
    llm_esr.run(interactions, items=items, out=run, models=["llm-esr", "neighbours"], epochs=1, config=SMALL,
                item_embeddings=folder / "vectors.npy", progress=False)  # fmt: skip
    # As many rows as say something; all of them would be most of what is swept.
    write_json(run / "metrics.json", read_json(run / "metrics.json") | {"rows": read_rows(run / "metrics.json")[:3]})
    return [*_data(run / "data"), *_models(run), *_given(folder, run / "data")]


def _bytes(array: Any) -> Any:
    return None if array is None else (str(array.dtype), array.shape, np.asarray(array).tobytes())


def _data(folder: Path) -> list[Subject]:
    def arrays() -> Any:
        data = Dataset.open(folder)
        store = _native.Store(folder, data.n_items)
        found = [data.offsets, data.items, data.splits, data.timestamps, store.offsets, store.items, store.splits]
        return [data.metadata, data.summary(), *map(_bytes, found)]

    def both(name: str) -> Any:
        return _bytes(getattr(Dataset.open(folder), name)), stored_checksum(folder, name)

    subjects = [Subject(folder / name, arrays) for name in ("dataset.json", "offsets.npy", "items.npy", "splits.npy",
                                                            "timestamps.npy")]  # fmt: skip
    subjects += [
        Subject(folder / "users.parquet", lambda: Dataset.open(folder).user_table().rows()),
        Subject(folder / "items.parquet", lambda: Dataset.open(folder).item_table().rows()),
    ]
    for name in ("item_embeddings", "user_embeddings", "similar_users", "similar_users_scores", "similar_items",
                 "similar_items_scores"):  # fmt: skip
        subjects += [
            Subject(folder / f"{name}{suffix}", lambda name=name: both(name), named=name)
            for suffix in (".npy", ".json")
        ]

    def table() -> Any:
        return [_bytes(array) for array in build_untrained("transitions", Dataset.open(folder)).table]

    tables = sorted((folder / "tables").glob("transitions-*"))
    assert len(tables) == 4, "the run has counted the table, and keeps it"
    return subjects + [Subject(path, table) for path in tables]


def _models(run: Path) -> list[Subject]:
    trained, scorer = run / "models" / "llm-esr" / "42", run / "models" / "neighbours"

    def weights() -> Any:
        return {name: _bytes(tensor.numpy()) for name, tensor in load_model(trained).state_dict().items()}

    def served() -> Any:
        model = Recommender.load(scorer)
        return model.blend, model.name, model.config.model_dump()

    projected = run / "projection.safetensors"
    fit_projection(np.random.default_rng(1).normal(size=(9, 3)), 2, 1.0).save(projected)

    def projection() -> Any:
        made = Projection.load(projected)
        return _bytes(made.mean), _bytes(made.components), made.scale

    kept = run / "checkpoint"
    for step in (1, 2):
        tensors = {"a": torch.full((2, 3), float(step)), "b": torch.tensor(step), "c": torch.ones(2).bfloat16()}
        save_checkpoint(kept, step, tensors, {"step": step, "key": "k" * 8})

    def checkpoint() -> Any:
        tensors, state = load_newest(kept) or ({}, {})
        return state, {name: (str(tensor.dtype), tensor.tolist()) for name, tensor in tensors.items()}

    newest = kept / "2.safetensors"
    content = newest.read_bytes()
    newest.unlink()
    before = checkpoint()
    newest.write_bytes(content)
    return [
        *(Subject(trained / name, weights) for name in ("model.json", "config.yaml", "model.safetensors")),
        Subject(projected, projection),
        Subject(newest, checkpoint, before=before),
        Subject(scorer / "blend.json", lambda: read_blend(scorer)),
        Subject(run / "run.json", lambda: RunFolder(run).read()),
        Subject(run / "metrics.json", lambda: read_rows(run / "metrics.json")),
        *(Subject(scorer / name, served) for name in ("model.json", "config.yaml")),
    ]


def _given(folder: Path, data: Path) -> list[Subject]:
    """What users give: nobody knows its checksum, so a number may be another one; errors and crashes are ours."""
    opened = Dataset.open(data)
    ids = opened.item_ids
    vectors = np.arange(4 * len(ids), dtype=np.float32).reshape(len(ids), 4) + 1
    given = folder / "given"
    given.mkdir()
    np.save(given / "rows.npy", vectors)
    pl.DataFrame({"item_id": ids, "vector": vectors.tolist()}).write_parquet(given / "vectors.parquet")
    save_file({name: vectors[row] for row, name in enumerate(ids)}, given / "vectors.safetensors")
    np.savez(given / "many.npy.npz", a=vectors)
    for protocol in (2, 4, 5):
        (given / f"array{protocol}.pickle").write_bytes(pickle.dumps(vectors, protocol))
    readers = {
        "rows.npy": lambda path: _bytes(open_array(path)),
        "vectors.parquet": lambda path: _bytes(align_items(path, opened)),
        "vectors.safetensors": lambda path: _bytes(align_items(path, opened)),
        **{f"array{protocol}.pickle": lambda path: _bytes(read_pickled_array(path)) for protocol in (2, 4, 5)},
    }
    return [
        Subject(given / name, lambda read=read, name=name: read(given / name), checked=False)
        for name, read in readers.items()
    ]
