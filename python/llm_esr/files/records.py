"""JSON records and arrays, written whole or not at all; a record says how to tell whether it is what was written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.files.atomic import atomic_file

SEAL = "seal"
# Stands in front of the checksum, so that a seal is known by its value where its name is damaged.
_SEALED_BY = "sha256 of the rest: "


def key_of(value: Any) -> str:
    """SHA-256 of a JSON value with sorted keys: a stage's key, a record's seal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all; an object gets the checksum of its other entries."""
    if isinstance(value, dict):
        # As it will be read: with texts for keys and lists for tuples.
        entries = json.loads(json.dumps({name: entry for name, entry in value.items() if name != SEAL}))
        value = entries | {SEAL: _SEALED_BY + key_of(entries)}
    with atomic_file(path, "w") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """What `write_json` wrote. An object without a seal, of an older version or another program, is read as it is.

    Raises:
        ValueError: no JSON, or an object that differs from its seal; the message names the file.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        return _unsealed(value) if isinstance(value, dict) else value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; make it again") from None


def read_record(path: str | os.PathLike[str], *names: str) -> dict[str, Any]:
    """As `read_json`, for an object that has these entries.

    Raises:
        ValueError: anything else; the message names the file and what it lacks.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(record).__name__}, no record; make it again")
    missing = [name for name in names if name not in record]
    if missing:
        raise ValueError(f"{path} is damaged: it has no entry {' and no '.join(missing)}; make it again")
    return record


def _unsealed(record: dict[str, Any]) -> dict[str, Any]:
    seals = [name for name, entry in record.items() if isinstance(entry, str) and entry.startswith(_SEALED_BY)]
    if not seals and SEAL not in record:
        return record
    entries = {name: entry for name, entry in record.items() if name != SEAL}
    if seals != [SEAL] or record[SEAL] != _SEALED_BY + key_of(entries):
        raise ValueError(f"it differs from its entry {SEAL!r} (where you changed it on purpose, delete that entry)")
    return entries


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no JSON")


def write_array(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write a `.npy` file, whole or not at all."""
    with atomic_file(path) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
