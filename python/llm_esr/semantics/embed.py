"""The stage `embed`: from item texts (or external vectors) to the vectors of items and users.

Writes `item_embeddings.npy` `[I, E]` (row = item id - 1) and `user_embeddings.npy` `[U, E']` (row = user) into the
data folder, each with a JSON of the same stem. Item texts may come from the whole catalogue; users are described by
their training items alone, so no held-out item reaches a user vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from llm_esr.config import EmbedConfig, section_with
from llm_esr.data import Dataset
from llm_esr.doors import door, warn
from llm_esr.files import FORMAT, checksum, key_of, verify_beside
from llm_esr.files.arrays import open_array
from llm_esr.files.lock import lock_folder
from llm_esr.files.temporaries import tidy
from llm_esr.semantics.alignment import align_items, align_users
from llm_esr.semantics.encoders import (
    FILE_PREFIX,
    Encoder,
    EndpointEncoder,
    encoder_identity,
    make_encoder,
    vectors_checksum,
)
from llm_esr.semantics.encoders.kept_vectors import KeptVectors
from llm_esr.semantics.prompts import user_prompts
from llm_esr.semantics.templates import ITEM_TEMPLATES, USER_TEMPLATES
from llm_esr.semantics.tuned_encoder import check_base, tune_encoder, tune_settings, tuned_prompts, warn_if_worse
from llm_esr.semantics.variety import Variety, variety_of
from llm_esr.semantics.vector_files import is_fresh, vector_file

_TEXTS_AT_ONCE = 1024
_NUMBERS_AT_ONCE = 1 << 24  # of gathered item vectors, 64 MB

_FILES = ("item_embeddings", "user_embeddings")
# Where and how fast texts are encoded does not change the vectors.
_NOT_IN_KEY = {"device", "batch_size", "requests_at_once", "requests_per_minute", "price_per_million_tokens"}


def embed_key(
    data: Dataset,
    config: EmbedConfig | None = None,
    *,
    encoder: str | None = None,
    user_embeddings: str | Path | None = None,
) -> str:
    """The key of this stage: changes with the data, the texts, the encoder's files, the settings and the format.

    Raises:
        ValueError: an unknown encoder, or none given where the data set has no texts.
        FileNotFoundError: files of external vectors that do not exist.
    """
    config = config or EmbedConfig()
    name = _encoder_name(data, encoder or config.encoder, config)
    return key_of({"stage": "embed", "format": FORMAT, **_sources(data, config, name, user_embeddings)})


def embed_fresh(
    data: Dataset,
    config: EmbedConfig | None = None,
    *,
    encoder: str | None = None,
    user_embeddings: str | Path | None = None,
) -> bool:
    """Whether the vectors of the data folder were made from the present data with these settings."""
    key = embed_key(data, config, encoder=encoder, user_embeddings=user_embeddings)
    return all(is_fresh(data.folder, name, key) for name in _FILES)


@door
def embed(
    data: Dataset | str | Path,
    encoder: str | None = None,
    *,
    user_embeddings: str | Path | None = None,
    config: EmbedConfig | None = None,
    progress: bool = True,
    **settings: Any,
) -> Dataset:
    """Make item and user vectors and store them in the data folder; nothing is done where they are fresh.

    Args:
        data: a data set or its folder.
        encoder: replaces `config.encoder`: `lsa` (TF-IDF and truncated SVD, no LLM),
            `sentence-transformers:NAME_OR_FOLDER`, `openai:MODEL@URL` (any endpoint of OpenAI's embeddings API, the key
            in `OPENAI_API_KEY`), or `file:PATH` (.npy, Parquet or safetensors). None in both: `lsa`.
        user_embeddings: a file of external user vectors, instead of `config.user_vectors`.
        config: settings of this stage; default: `EmbedConfig()`.
        progress: whether to show progress bars.
        settings: single settings by their plain name, such as `dtype="float32"`, on top of `config`.

    Returns:
        The data set, which now has its vectors.

    Raises:
        ValueError: no texts and no file, an unknown encoder, a template that does not fit, vectors of a wrong length
            or with NaN, or user prompts asked of a file.
        FileNotFoundError: a file or model folder that does not exist.
        ImportError: sentence-transformers is not installed, or httpx.
        ConnectionError: a hub or an endpoint that cannot be reached.
    """
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    config = section_with(EmbedConfig, config, settings, "embed")
    name = _encoder_name(data, encoder or config.encoder, config)
    if name.startswith(FILE_PREFIX) and user_embeddings is None and config.user_vectors == "prompt":
        raise ValueError(
            "embed.user_vectors is 'prompt', but a file cannot encode prompts; set embed.user_vectors=mean or give "
            "user_embeddings (--user-embeddings)"
        )
    sources = _sources(data, config, name, user_embeddings)
    key = key_of({"stage": "embed", "format": FORMAT, **sources})
    if all(is_fresh(data.folder, file, key) for file in _FILES):
        tidy(data.folder)
        return data
    about = {"key": key, "encoder": name, "made_from": sources}
    with lock_folder(data.folder, "embedded"):
        # Another process may have made them in between.
        if not all(is_fresh(data.folder, file, key) for file in _FILES):
            _make(data, name, user_embeddings, config, about, progress=progress)
    said = vector_variety(data).warning("the item vectors")
    if said is not None:
        warn(said)
    if config.tune != "none":
        warn_if_worse(data.folder)
    return data


def _make(
    data: Dataset,
    name: str,
    user_embeddings: str | Path | None,
    config: EmbedConfig,
    about: dict[str, Any],
    *,
    progress: bool,
) -> None:
    """Make and store item vectors, then user vectors."""
    # Bars go where figures do not; in a file or a pipe they would leave blank lines.
    console = Console(stderr=True)
    shown = Progress(console=console, transient=True, disable=not (progress and console.is_terminal))
    with ExitStack() as kept, shown as bars:
        if name.startswith(FILE_PREFIX):
            vectors = align_items(name.removeprefix(FILE_PREFIX), data)
            _copy(data.folder, "item_embeddings", vectors, config, about, data.item_ids)
            model = None
        else:
            tuned = tune_encoder(data, name, config, bars) if config.tune != "none" else None
            model = make_encoder(tuned or name, config)
            about["encoder"] = model.label if tuned is None else f"{name}, tuned on attributes ({config.tune_level})"
            if isinstance(model, EndpointEncoder):
                model.kept = kept.enter_context(KeptVectors(data.folder / "encoding.rows", model.label))
                bars.console.print(model.cost(tuned_prompts(data, config)), markup=False, highlight=False)
            _encode_items(data, model, config, about, bars)
        if user_embeddings is not None:
            about = {**about, "encoder": f"{FILE_PREFIX}{user_embeddings}", "user_vectors": "file"}
            _copy(data.folder, "user_embeddings", align_users(user_embeddings, data), config, about, data.user_ids)
        elif config.user_vectors == "prompt":
            assert model is not None
            _encode_users(data, model, config, {**about, "user_vectors": "prompt"}, bars)
        else:
            _average_users(data, config, {**about, "user_vectors": "mean"}, bars)


def vector_variety(data: Dataset) -> Variety:
    """How many different item vectors there are."""
    vectors = data.item_embeddings
    assert vectors is not None
    return variety_of(vectors)


def _encoder_name(data: Dataset, name: str | None, config: EmbedConfig) -> str:
    if config.tune != "none":
        check_base(data, name or "lsa")
    if name is not None:
        return name
    if not data.text_columns:
        raise ValueError(
            f"{data.folder} has no item texts to make vectors from; prepare it with an items table that has text "
            "columns (items=..., --items), or give vectors: encoder='file:VECTORS.npy' (--item-embeddings)"
        )
    return "lsa"


def _sources(data: Dataset, config: EmbedConfig, name: str, user_embeddings: str | Path | None) -> dict[str, Any]:
    """All that the vectors depend on."""
    # Vectors of an encoder that is not tuned are those of a release that could not tune.
    left_out = _NOT_IN_KEY | {"encoder"} | (set(tune_settings(config)) if config.tune == "none" else set())
    return {
        "data": data.fingerprint,
        "items": checksum(data.folder / "items.parquet"),
        "encoder": encoder_identity(name),
        "user_embeddings": None if user_embeddings is None else vectors_checksum(user_embeddings, "user_embeddings"),
        "settings": {
            **config.model_dump(mode="json", exclude=left_out),
            # The words themselves: a ready template may read better in a later release.
            "item_template": ITEM_TEMPLATES.get(config.item_template or "", config.item_template),
            "user_template": USER_TEMPLATES.get(config.user_template or "", config.user_template),
        },
    }


def _encode_items(data: Dataset, model: Encoder, config: EmbedConfig, about: dict[str, Any], bars: Progress) -> None:
    prompts = tuned_prompts(data, config)
    model.fit(prompts)
    shape = (data.n_items, model.width)
    bar = bars.add_task("item vectors", total=data.n_items)
    with vector_file(data.folder, "item_embeddings", shape, config.dtype, about, data.item_ids) as writer:
        for start in range(0, data.n_items, _TEXTS_AT_ONCE):
            writer.append(model.encode(prompts[start : start + _TEXTS_AT_ONCE]))
            bars.update(bar, completed=writer.written)


def _encode_users(data: Dataset, model: Encoder, config: EmbedConfig, about: dict[str, Any], bars: Progress) -> None:
    def vectors_of(users: NDArray[np.int64]) -> NDArray[np.float32]:
        prompts = user_prompts(
            data, users.tolist(), config.user_template, newest=config.user_history, max_characters=config.max_characters
        )
        return model.encode(list(prompts))

    _write_users(
        data, vectors_of, model.width, np.ones(data.n_users, dtype=np.int64), _TEXTS_AT_ONCE, config, about, bars
    )


def _average_users(data: Dataset, config: EmbedConfig, about: dict[str, Any], bars: Progress) -> None:
    """Each user at the mean of the vectors of its training items, a repeat counted as often as it occurs."""
    # As stored, so that the same user vectors come from the file as from the encoder that made it.
    path = data.folder / "item_embeddings.npy"
    verify_beside(path, "run `llm-esr embed` again")
    table = open_array(path)
    width = int(table.shape[1])

    def vectors_of(users: NDArray[np.int64]) -> NDArray[np.float32]:
        items, offsets = data.histories(users, "validation")
        gathered = np.asarray(table[np.asarray(items) - 1], dtype=np.float32)
        sums = np.add.reduceat(gathered, np.asarray(offsets[:-1]), axis=0, dtype=np.float64)
        means: NDArray[np.float32] = (sums / np.diff(offsets)[:, None]).astype(np.float32)
        return means

    items_at_once = max(1, _NUMBERS_AT_ONCE // width)
    _write_users(data, vectors_of, width, np.asarray(data.training_lengths), items_at_once, config, about, bars)


def _write_users(
    data: Dataset,
    vectors_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    width: int,
    weights: NDArray[np.int64],
    at_once: int,
    config: EmbedConfig,
    about: dict[str, Any],
    bars: Progress,
) -> None:
    """Write all users' vectors, so many at once that their weights sum to at most `at_once`.

    Users without training items are not asked for and get zeros.
    """
    bar = bars.add_task("user vectors", total=data.n_users)
    lengths = np.asarray(data.training_lengths)
    with vector_file(data.folder, "user_embeddings", (data.n_users, width), config.dtype, about) as writer:
        for users in _chunks(weights, at_once):
            vectors = np.zeros((len(users), width), dtype=np.float32)
            known = lengths[users] > 0
            if known.any():
                vectors[known] = vectors_of(users[known])
            writer.append(vectors)
            bars.update(bar, completed=writer.written)


def _copy(
    folder: Path, name: str, vectors: NDArray[Any], config: EmbedConfig, about: dict[str, Any], names: Sequence[str]
) -> None:
    shape = (vectors.shape[0], vectors.shape[1])
    rows = max(1, _NUMBERS_AT_ONCE // max(1, shape[1]))
    with vector_file(folder, name, shape, config.dtype, about, names) as writer:
        for start in range(0, shape[0], rows):
            writer.append(vectors[start : start + rows])


def _chunks(weights: NDArray[np.int64], at_once: int) -> Iterator[NDArray[np.int64]]:
    """Runs of rows whose weights sum to at most `at_once`; a heavier row comes alone."""
    ends = np.cumsum(weights)
    start = 0
    while start < len(weights):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + at_once, side="right")))
        yield np.arange(start, stop, dtype=np.int64)
        start = stop
