"""The stage `index`: from vectors to the files of similar users and nearest items.

Reads `user_embeddings.npy` and `item_embeddings.npy` of a data folder; writes

- `similar_users.npy` int32 `[U, K]`: users 0..U-1, best first, -1 fills;
- `similar_items.npy` int32 `[I, 10]`: item ids 1..I of the nearest items by text, -1 fills;
- `similar_items_scores.npy` float32 `[I, 10]`: their cosines, 0 where the id is -1;

each with a JSON of the same stem that says what it was made from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import IndexConfig, section_with
from llm_esr.data import Dataset
from llm_esr.doors import door
from llm_esr.files import FORMAT, key_of, read_record
from llm_esr.files.lock import lock_folder
from llm_esr.files.memory import refuse_beyond_memory
from llm_esr.files.temporaries import tidy
from llm_esr.retrieval.neighbours import nearest
from llm_esr.semantics.vector_files import is_fresh, stored_checksum, write_vectors

_FILES = ("similar_users", "similar_items", "similar_items_scores")
_SOURCES = ("user_embeddings", "item_embeddings")


def index_key(data: Dataset, config: IndexConfig | None = None, *, engine: str = "exact") -> str:
    """The key of this stage: changes with the vectors, the training lengths, the settings and the format.

    Raises:
        FileNotFoundError: the data folder has no vectors yet.
    """
    config = config or IndexConfig()
    return key_of(
        {
            "stage": "index",
            "format": FORMAT,
            "engine": engine,
            "settings": config.model_dump(mode="json"),
            "data": data.fingerprint,
            **_sources(data),
        }
    )


def index_fresh(data: Dataset, config: IndexConfig | None = None, *, engine: str = "exact") -> bool:
    """Whether the files of this stage exist and were made from the present vectors with these settings."""
    if any(not (data.folder / f"{name}.npy").exists() for name in _SOURCES):
        return False
    key = index_key(data, config, engine=engine)
    return all(is_fresh(data.folder, name, key) for name in _FILES)


def neighbours_match(data: Dataset) -> bool:
    """Whether the stored neighbours were found with the vectors that the data folder holds now.

    True too where they lie beside no JSON: files of others are trusted.
    """
    for name in ("similar_users", "similar_items"):
        sidecar = data.folder / f"{name}.json"
        made_from = read_record(sidecar, "made_from")["made_from"] if sidecar.exists() else {}
        for source, checksum in made_from.items():
            present = source in _SOURCES and (data.folder / f"{source}.npy").exists()
            if present and stored_checksum(data.folder, source) != checksum:
                return False
    return True


@door
def index(
    data: Dataset | str | Path,
    k: int | None = None,
    *,
    config: IndexConfig | None = None,
    threads: int = 0,
    engine: str = "exact",
    progress: bool = True,
    **settings: Any,
) -> Dataset:
    """Find every user's similar users and every item's nearest items, by cosine, and store them in the data folder.

    A user is left out of its own list by its number. Users without training items (and zero vectors at large) have
    no neighbours and are nobody's. Nothing is done where the stored files are fresh.

    Args:
        data: a data set or its folder, with vectors (`embed`).
        k: similar users a user; replaces `config.similar_users`.
        config: settings of this stage; default: `IndexConfig()`.
        threads: 0 for all cores; the result does not depend on it.
        engine: how to search; `exact`.
        progress: whether to show progress bars.
        settings: single settings by their plain name, such as `similar_items=20`, on top of `config`.

    Returns:
        The data set, which now has its neighbours.

    Raises:
        FileNotFoundError: the folder has no vectors.
        ValueError: damaged vectors (NaN), an unknown engine.
    """
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    config = section_with(IndexConfig, config, settings, "index")
    if k is not None:
        if k < 1:
            raise ValueError(f"k is {k}; at least 1 similar user is asked for")
        config = config.model_copy(update={"similar_users": k})
    for name, owners in (("similar_users", data.n_users), ("similar_items", data.n_items)):
        count = getattr(config, name)
        refuse_beyond_memory(8 * owners * count, f"index.{name} {count:,} for {owners:,}", "ask for fewer")
    key = index_key(data, config, engine=engine)
    if all(is_fresh(data.folder, name, key) for name in _FILES):
        tidy(data.folder)
        return data
    about: dict[str, Any] = {"key": key, "engine": engine, "made_from": _sources(data)}
    with lock_folder(data.folder, "indexed"):
        # Another process may have made them in between.
        if not all(is_fresh(data.folder, name, key) for name in _FILES):
            _make(data, config, about, threads=threads, engine=engine, progress=progress)
    return data


def _make(
    data: Dataset, config: IndexConfig, about: dict[str, Any], *, threads: int, engine: str, progress: bool
) -> None:
    """Find and store similar users, then nearest items."""
    users, _ = nearest(
        _teachers(data),
        config.similar_users,
        threads=threads,
        engine=engine,
        progress="similar users" if progress else None,
    )
    write_vectors(data.folder, "similar_users", users, about)
    items = _present(data.item_embeddings, "item_embeddings", data.folder)
    rows, scores = nearest(
        items,
        config.similar_items,
        threads=threads,
        engine=engine,
        progress="nearest items" if progress else None,
    )
    write_similar_items(data.folder, rows, scores, about)


def write_similar_items(
    folder: Path, rows: NDArray[np.int32], scores: NDArray[np.float32], about: dict[str, Any]
) -> None:
    """Write every item's nearest rows of the item vectors, [I, K] with -1 as fill, and their cosines."""
    # Row r of the item vectors is item r + 1; the fill stays -1.
    write_vectors(folder, "similar_items", np.where(rows < 0, rows, rows + 1).astype(np.int32), about)
    write_vectors(folder, "similar_items_scores", scores, about)


def _teachers(data: Dataset) -> NDArray[Any]:
    """User vectors with those of users without training items at zero: a teacher needs a sequence to be read."""
    vectors: NDArray[Any] = _present(data.user_embeddings, "user_embeddings", data.folder)
    without_history = np.flatnonzero(np.asarray(data.training_lengths) == 0)
    if len(without_history):
        vectors = np.array(vectors)
        vectors[without_history] = 0
    return vectors


def _sources(data: Dataset) -> dict[str, str]:
    return {name: stored_checksum(data.folder, name) for name in _SOURCES}


def _present(array: NDArray[Any] | None, name: str, folder: Path) -> NDArray[Any]:
    if array is None:
        raise FileNotFoundError(f"{folder / name}.npy does not exist; run llm_esr.embed (or `llm-esr embed`) first")
    return array
