"""The stage `index`: from vectors to the files of similar users and nearest items.

Reads `user_embeddings.npy` and `item_embeddings.npy` of a data folder, and user vectors of a trained model where users
are compared by them; writes

- `similar_users.npy` int32 `[U, K]`: users 0..U-1, best first, -1 fills;
- `similar_users_scores.npy` float32 `[U, K]`: their cosines, 0 where the id is -1;
- `similar_items.npy` int32 `[I, K]`: item ids 1..I of the nearest items by text, -1 fills;
- `similar_items_scores.npy` float32 `[I, K]`: their cosines, 0 where the id is -1;

each with a JSON of the same stem that says what it was made from. K is `index.similar_users` or
`index.similar_items`, at most one less than there are.

Shapes: U users, I items, K similar users (items), E width of what is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import IndexConfig, section_with
from llm_esr.data import Dataset
from llm_esr.doors import door, warn
from llm_esr.files import FORMAT, key_of, read_record
from llm_esr.files.lock import lock_folder
from llm_esr.files.memory import refuse_beyond_memory
from llm_esr.files.temporaries import tidy
from llm_esr.retrieval.engines import APPROXIMATE, engine_for
from llm_esr.retrieval.neighbours import nearest
from llm_esr.retrieval.user_vectors import UserVectors, checked, given_user_vectors, side_by_side
from llm_esr.semantics.vector_files import is_fresh, stored_checksum, write_vectors

_FILES = ("similar_users", "similar_users_scores", "similar_items", "similar_items_scores")
_SOURCES = ("user_embeddings", "item_embeddings")
_MODEL = "collaborative"  # what the JSON calls the user vectors of a model among its sources

# What `index.users_by` means, in words.
COMPARED_BY = {
    "text": "text",
    "collaborative": "the user vectors of a model",
    "both": "text and the user vectors of a model",
}
Collaborative = NDArray[Any] | UserVectors | None
_Found = tuple[NDArray[np.int32], NDArray[np.float32]]


def index_key(data: Dataset, config: IndexConfig | None = None, *, collaborative: Collaborative = None) -> str:
    """The key of this stage: changes with the vectors, the training lengths, the settings and the format.

    A model counts by what its user vectors are made from, not by the folder that it lies in.

    Raises:
        FileNotFoundError: the data folder has no vectors yet.
        ValueError: the settings compare user vectors of a model, and none were given.
    """
    config = _no_more_than_others(data, config or IndexConfig())
    return _key(data, config, _sources(data, config, given_user_vectors(collaborative, config, data.n_users)))


def _key(data: Dataset, config: IndexConfig, sources: dict[str, str]) -> str:
    engines, usual = _engines(data, config), IndexConfig()
    settings = config.model_dump(mode="json", exclude={"model"})
    # What changes no neighbour is in the key as it is by default: the way in which the engines were named, and a recall
    # that none of them reads.
    if engines == _engines(data, usual):
        settings["method"] = usual.method
    if not set(engines) & set(APPROXIMATE):
        settings["recall"] = usual.recall
    return key_of(
        {
            "stage": "index",
            "format": FORMAT,
            "engines": engines,
            "settings": settings,
            "data": data.fingerprint,
            **sources,
        }
    )


def _no_more_than_others(data: Dataset, config: IndexConfig, *, tell: bool = False) -> IndexConfig:
    """The settings with no more neighbours than there are other users and items.

    Args:
        data: how many there are.
        config: how many are asked for.
        tell: warn where a number was asked for by somebody, and is not the default.
    """
    least = {}
    for name, owners, what in (("similar_users", data.n_users, "users"), ("similar_items", data.n_items, "items")):
        asked, others = getattr(config, name), max(1, owners - 1)
        if asked > others:
            least[name] = others
            if tell and name in config.model_fields_set:
                warn(f"index.{name} {asked:,} is more than the {others:,} others that each of {owners:,} {what} has; "
                     f"{others:,} are kept")  # fmt: skip
    return config.model_copy(update=least)


def _engines(data: Dataset, config: IndexConfig) -> list[str]:
    """What `auto` chooses for users and for items; an unknown name is refused."""
    return [engine_for(config.method, rows) for rows in (data.n_users, data.n_items)]


def index_fresh(data: Dataset, config: IndexConfig | None = None, *, collaborative: Collaborative = None) -> bool:
    """Whether the files of this stage exist and were made from the present vectors with these settings."""
    config = config or IndexConfig()
    if any(not (data.folder / f"{name}.npy").exists() for name in _read(config)):
        return False
    key = index_key(data, config, collaborative=collaborative)
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


def scores_match(data: Dataset) -> bool:
    """Whether the stored cosines of similar users are those of the similar users that the data folder holds now.

    True too where they lie beside no JSON: files of others are trusted.
    """
    sidecar = data.folder / "similar_users_scores.json"
    if not sidecar.exists():
        return True
    return bool(read_record(sidecar, "similar_users")["similar_users"] == stored_checksum(data.folder, "similar_users"))


@door
def index(
    data: Dataset | str | Path,
    k: int | None = None,
    *,
    config: IndexConfig | None = None,
    collaborative: Collaborative = None,
    threads: int = 0,
    progress: bool = True,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Dataset:
    """Find every user's similar users and every item's nearest items, by cosine, and store them in the data folder.

    A user is left out of its own list by its number. Users without training items (and zero vectors at large) have
    no neighbours and are nobody's; users with fewer than `teacher_min_history` are nobody's, but have some. Nothing is
    done where the stored files are fresh.

    Args:
        data: a data set or its folder, with vectors (`embed`).
        k: similar users a user; replaces `config.similar_users`. As many as there are other users are kept at most.
        config: settings of this stage; default: `IndexConfig()`.
        collaborative: user vectors [U, C] of a trained model, for `users_by` collaborative and both: what
            `Recommender.user_vectors` gives.
        threads: 0 for all cores; the result does not depend on it.
        progress: whether to show progress bars.
        say: is told how was searched, and what share of the exact neighbours an approximate engine found.
        settings: single settings by their plain name, such as `similar_items=20`, on top of `config`.

    Returns:
        The data set, which now has its neighbours.

    Raises:
        FileNotFoundError: the folder has no vectors.
        ValueError: damaged vectors (NaN), or `users_by` that does not fit `collaborative`.
        ImportError: `index.method` names an engine whose package is not installed.
    """
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    config = section_with(IndexConfig, config, settings, "index")
    if k is not None:
        if k < 1:
            raise ValueError(f"k is {k}; at least 1 similar user is asked for")
        config = config.model_copy(update={"similar_users": k})
    config = _no_more_than_others(data, config, tell=True)
    for name, owners in (("similar_users", data.n_users), ("similar_items", data.n_items)):
        count = getattr(config, name)
        refuse_beyond_memory(8 * owners * count, f"index.{name} {count:,} for {owners:,}", "ask for fewer")
    model = given_user_vectors(collaborative, config, data.n_users)
    sources = _sources(data, config, model)
    key = _key(data, config, sources)
    if all(is_fresh(data.folder, name, key) for name in _FILES):
        tidy(data.folder)
        return data
    engines = _engines(data, config)
    about: dict[str, Any] = {"key": key, "engines": engines, "users_by": config.users_by, "made_from": sources}
    with lock_folder(data.folder, "indexed"):
        # Another process may have made them in between.
        if not all(is_fresh(data.folder, name, key) for name in _FILES):
            find = partial(nearest, threads=threads, engine=config.method, recall=config.recall)
            _make(data, config, model, about, find, progress=progress, say=say)
    return data


def _make(
    data: Dataset,
    config: IndexConfig,
    model: UserVectors | None,
    about: dict[str, Any],
    find: Callable[..., _Found],
    *,
    progress: bool,
    say: Callable[[str], None] | None,
) -> None:
    """Find and store similar users, then nearest items; `find` is `nearest` with its engine and threads."""

    def find_for(what: str) -> Callable[..., _Found]:
        told = None if say is None else lambda how: say(f"{what}: {how}")
        return partial(find, progress=what if progress else None, say=told)

    users, cosines = _similar_users(
        _compared(data, config, model),
        data.training_lengths,
        config,
        find_for("similar users"),
    )
    write_vectors(data.folder, "similar_users", users, about)
    write_similar_users_scores(data.folder, cosines, about)
    items = _present(data.item_embeddings, "item_embeddings", data.folder)
    rows, scores = find_for("nearest items")(items, config.similar_items)
    write_similar_items(data.folder, rows, scores, about)


def _similar_users(
    vectors_UE: NDArray[Any], lengths_U: NDArray[np.int64], config: IndexConfig, find: Callable[..., _Found]
) -> _Found:
    """Every user's similar users and their cosines, [U, K]: among those whose history is long enough."""
    k, least = config.similar_users, config.teacher_min_history
    teachers = np.flatnonzero(lengths_U >= least)
    short = np.flatnonzero((lengths_U > 0) & (lengths_U < least))
    if len(teachers) == len(vectors_UE):
        return find(vectors_UE, k)
    users = np.full((len(vectors_UE), k), -1, np.int32)
    cosines = np.zeros((len(vectors_UE), k), np.float32)
    table = np.ascontiguousarray(vectors_UE[teachers])
    for rows, queries in ((teachers, None), (short, vectors_UE[short])):
        if len(rows) and len(teachers):
            found, cosines[rows] = find(table, k, queries=queries)
            users[rows] = np.where(found < 0, -1, teachers[found])
    return users, cosines


def write_similar_users_scores(folder: Path, cosines: NDArray[np.float32], about: dict[str, Any]) -> None:
    """Write the cosines, [U, K], of the similar users that the folder holds."""
    whose = {"similar_users": stored_checksum(folder, "similar_users")}
    write_vectors(folder, "similar_users_scores", cosines, about | whose)


def write_similar_items(
    folder: Path, rows: NDArray[np.int32], scores: NDArray[np.float32], about: dict[str, Any]
) -> None:
    """Write every item's nearest rows of the item vectors, [I, K] with -1 as fill, and their cosines."""
    # Row r of the item vectors is item r + 1; the fill stays -1.
    write_vectors(folder, "similar_items", np.where(rows < 0, rows, rows + 1).astype(np.int32), about)
    write_vectors(folder, "similar_items_scores", scores, about)


def _compared(data: Dataset, config: IndexConfig, model: UserVectors | None) -> NDArray[Any]:
    """What users are compared by, [U, E]."""
    of_model = None if model is None else checked(model.compute(), data.n_users)
    if config.users_by == "collaborative":
        assert of_model is not None
        return of_model
    texts = _present(data.user_embeddings, "user_embeddings", data.folder)
    return texts if of_model is None else side_by_side(texts, of_model)


def _read(config: IndexConfig) -> tuple[str, ...]:
    """The arrays of the data folder that these settings read."""
    return _SOURCES if config.users_by != "collaborative" else ("item_embeddings",)


def _sources(data: Dataset, config: IndexConfig, model: UserVectors | None) -> dict[str, str]:
    """What neighbours are made from, by checksums."""
    found = {name: stored_checksum(data.folder, name) for name in _read(config)}
    return found if model is None else found | {_MODEL: model.source}


def _present(array: NDArray[Any] | None, name: str, folder: Path) -> NDArray[Any]:
    if array is None:
        raise FileNotFoundError(f"{folder / name}.npy does not exist; run llm_esr.embed (or `llm-esr embed`) first")
    return array
