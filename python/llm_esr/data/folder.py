"""The files of a data set folder: what is written, what is kept of a folder that is replaced."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config import DataConfig
from llm_esr.data.arranging import Arranged
from llm_esr.data.splitting import Splits, training_counts
from llm_esr.files import FORMAT, checksum, key_of, read_record, write_array, write_json
from llm_esr.files.lock import LOCK
from llm_esr.files.parquet import write_parquet

OWN_FILES = (
    "dataset.json",
    "users.parquet",
    "items.parquet",
    "offsets.npy",
    "items.npy",
    "timestamps.npy",
    "splits.npy",
)
# Tables that scorers counted from the files above (`scoring/stored_tables.py`), each beside its key.
TABLES = "tables"
# Made by later stages from the files above; worthless, and dangerous, beside others.
DERIVED = (
    "item_embeddings",
    "user_embeddings",
    "similar_users",
    "similar_users_scores",
    "similar_items",
    "similar_items_scores",
    "pca_items",
)


def dataset_key(provenance: dict[str, list[dict[str, Any]]], config: DataConfig) -> str:
    """The key of a data set: formats and checksums of its inputs, and its settings."""
    inputs = {role: [[part["format"], part["checksum"]] for part in parts] for role, parts in provenance.items()}
    settings = config.model_dump(mode="json")
    if not config.cold_items:  # the key of a release that knew no cold items
        del settings["cold_items"], settings["cold_items_seed"]
    return key_of({"format": FORMAT, "inputs": inputs, "data": settings})


def write_dataset(
    folder: Path,
    arranged: Arranged,
    splits: Splits,
    config: DataConfig,
    provenance: dict[str, Any],
    *,
    n_cold: int = 0,
) -> None:
    """Write every file of `OWN_FILES`, `dataset.json` last."""
    counts = training_counts(arranged.offsets, arranged.items, splits.ends, arranged.item_frame.height)
    item_frame = arranged.item_frame.insert_column(3, pl.Series("training_count", counts[1:]))
    user_frame = arranged.user_frame.with_columns(pl.Series("training_count", splits.ends[:, 0]))
    write_parquet(user_frame, folder / "users.parquet")
    write_parquet(item_frame, folder / "items.parquet")
    arrays: dict[str, NDArray[Any]] = {"offsets": arranged.offsets, "items": arranged.items, "splits": splits.ends}
    if arranged.timestamps is not None:
        arrays["timestamps"] = arranged.timestamps
    for name, array in arrays.items():
        write_array(folder / f"{name}.npy", array)
    files = {path.name: checksum(path) for path in sorted(folder.iterdir())}
    record = {
        "format": FORMAT,
        "key": dataset_key(provenance, config),
        # With the ids: another shop of the same shape and numbers is another data set.
        "fingerprint": key_of(
            [files[name] for name in ("offsets.npy", "items.npy", "splits.npy")]
            + [key_of(frame[name].to_list()) for frame, name in ((user_frame, "user_id"), (item_frame, "item_id"))]
        ),
        **_contents(arranged, splits, never_trained=int((counts[1:] == 0).sum()), n_cold=n_cold),
        "split": config.split,
        "config": config.model_dump(mode="json"),
        "provenance": provenance,
        "files": files,
    }
    write_json(folder / "dataset.json", record)


def _contents(arranged: Arranged, splits: Splits, *, never_trained: int, n_cold: int) -> dict[str, Any]:
    """What `dataset.json` tells of the data set itself."""
    times, ends, lengths = arranged.timestamps, splits.ends, np.diff(arranged.offsets)
    temporal = {"validation_from": splits.validation_from, "test_from": splits.test_from}
    return {
        "counts": {
            "users": arranged.user_frame.height,
            "items": arranged.item_frame.height,
            "interactions": len(arranged.items),
            "items_without_row": arranged.unmatched,
            "items_never_trained": never_trained,
            "cold_items": n_cold,
            "source_users": arranged.n_raw_users,
            "source_items": arranged.texts.n_rows,
        },
        "split_times": None if splits.validation_from is None else temporal,
        "parts": {
            "train": int(ends[:, 0].sum()),
            "validation": int((ends[:, 0] < ends[:, 1]).sum()),
            "test": int((ends[:, 1] < lengths).sum()),
        },
        "order": arranged.order,
        "timestamps": None if times is None else {"unit": "ns", "first": int(times.min()), "last": int(times.max())},
        "text_columns": arranged.texts.text_columns,
        "title_column": arranged.texts.title_column,
        "rows": arranged.rows,
        "notes": arranged.notes,
        "numeric_ids": arranged.numeric_ids,
        "id_types": arranged.id_types,
    }


def refuse_foreign_folder(target: Path) -> None:
    """Raise a `ValueError` where writing a data set to `target` would take something else away."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"out: {target} is a file; expected a folder to write the data set to")
    if any(path.name != LOCK for path in target.iterdir()) and not (target / "dataset.json").exists():
        raise ValueError(
            f"out: {target} is a folder with other files and no data set; prepare replaces its folder as a whole: "
            "name a new or empty one"
        )


def refuse_other_source(target: Path, provenance: dict[str, Any]) -> None:
    """Raise a `ValueError` where `target` holds a data set of other interactions: neither their paths nor their bytes.

    The same table with other settings, or a grown one under its old name, replaces what was made from it.
    """
    try:
        before = read_record(target / "dataset.json", "provenance")["provenance"]["interactions"]
        of_before = {str(part[name]) for part in before for name in ("path", "checksum") if name in part}
    except (ValueError, KeyError, TypeError):
        return  # damaged: making it again is the remedy
    now = provenance["interactions"]
    if of_before.intersection(str(part[name]) for part in now for name in ("path", "checksum") if name in part):
        return
    raise ValueError(
        f"out: {target} holds a data set of another source ({_source_names(before)}; this one is "
        f"{_source_names(now)}). Give --overwrite to replace it, or another --out to keep both"
    )


def _source_names(parts: list[dict[str, Any]]) -> str:
    names = [str(part.get("path", "a frame of " + " x ".join(map(str, part.get("shape", []))))) for part in parts]
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def carry_over(old: Path, new: Path) -> None:
    """Keep what others put into the folder; what later stages derived, only where the data set is the same again."""
    if not old.exists():
        return
    data = [name for name in OWN_FILES if name != "dataset.json"]
    same = all(
        (old / name).exists() == (new / name).exists()
        and (not (new / name).exists() or checksum(old / name) == checksum(new / name))
        for name in data
    )
    for path in old.iterdir():
        if path.name in OWN_FILES or (path.name.split(".")[0] in DERIVED and not same):
            continue
        if path.name == TABLES:
            continue  # counted again in no time, and perhaps being written
        if path.name.startswith("."):
            continue  # another stage's temporary file
        if path.is_dir():
            shutil.copytree(path, new / path.name)
        else:
            _link_or_copy(path, new / path.name)


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
