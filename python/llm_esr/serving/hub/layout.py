"""The files of a hub folder, and the checks that each goes through before it is used.

config.json          the whole configuration, what is carried of the data, size and SHA-256 of the files below
model.safetensors    the network's weights; `items.text_vectors` where something reads the texts
items.parquet        id, count in training and title of each item
blend.safetensors    of a blended model: the tables that its scorers counted, `NAME.ids` and `NAME.values`
histories.parquet    where that was asked for: what each user met
README.md            the model card, which is yours to change
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_esr.files import checksum, read_record

LAYOUT = 1  # of the folder
LIBRARY = "llm-esr"
CONFIG, CARD = "config.json", "README.md"
WEIGHTS, ITEMS, BLEND, HISTORIES = "model.safetensors", "items.parquet", "blend.safetensors", "histories.parquet"
# What is fetched, and nothing else.
FILES = (CONFIG, CARD, WEIGHTS, ITEMS, BLEND, HISTORIES)
# Beside the weights' own names, in `model.safetensors` and `blend.safetensors`.
TEXT_VECTORS = "items.text_vectors"
NEIGHBOURS, COSINES = "items.neighbours", "items.cosines"
REMEDY = "fetch or export it again"

_LARGEST_CONFIG = 1 << 20  # bytes
_ENTRIES: dict[str, Any] = {
    "name": str,
    "seed": int,
    "n_items": int,
    "n_prepared_items": int,
    "config": dict,
    "blend": (dict, type(None)),
    "data": dict,
    "fingerprint": str,
    "files": dict,
}


def is_hub_folder(folder: Path) -> bool:
    """Whether a folder is one of these: a small `config.json` that says so."""
    path = folder / CONFIG
    if not path.is_file() or path.stat().st_size > _LARGEST_CONFIG:
        return False
    try:
        return read_record(path).get("library_name") == LIBRARY
    except ValueError:
        return False


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json`, its entries of the right kinds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, of another library or format.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {CONFIG}, so it is no exported model; make one with `llm-esr export RUN --to hub`"
        )
    if path.stat().st_size > _LARGEST_CONFIG:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, at most {_LARGEST_CONFIG:,} are read; {REMEDY}")
    record = read_record(path)
    if record.get("library_name") != LIBRARY:
        other = record.get("library_name") or record.get("model_type") or "another library"
        raise ValueError(f"{path} describes a model of {other!r:.60}, not of {LIBRARY}; open it with that library")
    if record.get("format") != LAYOUT:
        raise ValueError(f"{path} has format {record.get('format')!r:.60}, this version reads {LAYOUT}; {REMEDY}")
    wrong = [name for name, kind in _ENTRIES.items() if name not in record or not isinstance(record[name], kind)]
    if wrong or not 1 <= record["n_prepared_items"] <= record["n_items"]:
        raise ValueError(
            f"{path} is damaged: {' and '.join(wrong) or 'n_items'} is missing or of a wrong kind; {REMEDY}"
        )
    return record


def verify_files(folder: Path, promised: dict[str, Any]) -> None:
    """Hold each file's size, then its checksum, against what `config.json` says.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one differs, is not promised, or has another name than the files of such a folder.
    """
    unknown = promised.keys() - set(FILES)
    missing = {WEIGHTS, ITEMS} - promised.keys()
    if unknown or missing:
        said = ", ".join(sorted(unknown)) or f"no {' and no '.join(sorted(missing))}"
        raise ValueError(f"{folder / CONFIG} is damaged: its files are {said:.200}; {REMEDY}")
    for name, about in promised.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; {REMEDY}")
        size = about.get("bytes") if isinstance(about, dict) else None
        if path.stat().st_size != size:
            raise ValueError(f"{path} has {path.stat().st_size:,} bytes, {CONFIG} says {size!r:.40}; {REMEDY}")
        # Whatever its size: it came from elsewhere.
        if checksum(path) != about.get("sha256"):
            raise ValueError(f"{path} differs from its checksum in {CONFIG}: damaged or replaced; {REMEDY}")
    for name in (BLEND, HISTORIES):
        if name not in promised and (folder / name).exists():
            raise ValueError(f"{folder / name} is not of this model: {CONFIG} does not name it; {REMEDY}")


def promise(path: Path) -> dict[str, Any]:
    """Size and checksum of a file, for `config.json`."""
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}
