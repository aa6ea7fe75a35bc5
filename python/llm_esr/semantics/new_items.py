"""Vectors of items that a data set gains later: by the encoder that made the others, or given from outside.

Shapes: I items of the data set, m new ones, E width of the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config import EmbedConfig
from llm_esr.data.dataset import Dataset
from llm_esr.data.extended import ExtendedDataset
from llm_esr.doors import warn
from llm_esr.files import read_record
from llm_esr.semantics.alignment import align_added
from llm_esr.semantics.encoders import FILE_PREFIX, make_encoder
from llm_esr.semantics.encoders.sentence_transformers import PREFIX
from llm_esr.semantics.tuned_encoder import FOLDER, tuned_prompts

_CHECKED = 16  # items of the data set that are encoded again
_LEAST_COSINE = 0.99  # with what is stored of them: float16 and another device move less
_SHOWN = 3


def encoded_vectors(data: ExtendedDataset, known: int) -> NDArray[np.float32]:
    """The vectors of the items behind the first `known`, [m, E], from their texts.

    Args:
        data: a data set that knows the new items' texts.
        known: how many items have vectors; those that `prepare` numbered have a record of the encoder that made them.

    Raises:
        FileNotFoundError: the data folder has no vectors.
        ValueError: the vectors came from a file, or the encoder gives other vectors than it gave.
    """
    record = read_record(data.folder / "item_embeddings.json", "encoder", "made_from")
    label = str(record["encoder"])
    if label.startswith(FILE_PREFIX):
        raise ValueError(
            f"the item vectors of {data.folder} came from a file ({label.removeprefix(FILE_PREFIX)}), so those of "
            "new items cannot be made here; give them too: vectors=... (--vectors FILE)"
        )
    settings = dict(record["made_from"]).get("settings")
    if not isinstance(settings, dict):
        raise ValueError(
            f"{data.folder}/item_embeddings.json does not say how the vectors were made; give those of the new items: "
            "vectors=... (--vectors FILE)"
        )
    config = EmbedConfig.model_validate({k: v for k, v in settings.items() if k in EmbedConfig.model_fields})
    tuned = config.tune != "none"
    name = f"{PREFIX}{data.folder / FOLDER}" if tuned else "lsa" if label.startswith("lsa") else label
    encoder = make_encoder(name, config)
    prompts = tuned_prompts(data, config)
    encoder.fit(prompts[: data.n_prepared_items])
    _check_same(data.base, encoder.encode(prompts[: min(data.n_prepared_items, _CHECKED)]), label)
    return encoder.encode(prompts[known:])


def _check_same(data: Dataset, again_nE: NDArray[np.float32], label: str) -> None:
    """Refuse an encoder whose vectors are not those of the data folder."""
    stored = data.item_embeddings
    assert stored is not None
    if stored.shape[1] == again_nE.shape[1]:
        before_nE = np.asarray(stored[: len(again_nE)], dtype=np.float32)
        lengths_n = np.linalg.norm(before_nE, axis=1) * np.linalg.norm(again_nE, axis=1)
        cosines_n = (before_nE * again_nE).sum(axis=1)[lengths_n > 0] / lengths_n[lengths_n > 0]
        if (cosines_n >= _LEAST_COSINE).all():
            return
    raise ValueError(
        f"the encoder {label} gives other vectors now than {data.folder} holds, so new items could not be compared "
        "with the others; run `llm-esr embed`, `index` and `train` again, or restore the encoder"
    )


def given_vectors(
    vectors: Any, data: Dataset, ids: pl.Series, rows: pl.Series | None, n_rows: int | None
) -> NDArray[Any]:
    """Vectors from outside, [m, E], one for each of the new items' ids.

    Args:
        vectors: an array or `.npy` with a row for each row of the new items' table, a Parquet or safetensors file with
            ids (see `align_items`), or a mapping from id to vector.
        data: the data set, with vectors of its own.
        ids: of the new items.
        rows: the row of each in its table; None: there is no table.
        n_rows: rows of that table.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another number of rows, another width, or values that are not finite.
    """
    made_mE = align_added(with_ids(vectors), data, ids, rows, n_rows)
    own = data.item_embeddings
    if own is not None and own.shape[1] != made_mE.shape[1]:
        raise ValueError(
            f"the vectors of the new items are {made_mE.shape[1]} wide and those of {data.folder} {own.shape[1]}; make "
            "them with the encoder that made the others"
        )
    return made_mE


def with_ids(vectors: Any) -> Any:
    """A mapping as ids and a matrix; all else as it is."""
    if not isinstance(vectors, Mapping):
        return vectors
    try:
        matrix = np.stack([np.asarray(vector, dtype=np.float32) for vector in vectors.values()])
    except (ValueError, TypeError) as error:
        raise ValueError(f"vectors: expected a vector of one width for each id, got {error}") from None
    return [str(name) for name in vectors], matrix


def warn_of_zeros(ids: pl.Series, vectors_mE: NDArray[Any]) -> None:
    """Say which new items have nothing to go by."""
    empty = np.flatnonzero(~vectors_mE.any(axis=1))
    if len(empty):
        shown = ", ".join(ids.gather(empty[:_SHOWN]).to_list()) + (", ..." if len(empty) > _SHOWN else "")
        warn(
            f"{len(empty):,} of {len(ids):,} new items ({shown}) have a vector of zeros, so nothing is known of them: "
            "their texts hold no word that the encoder knows, or none was given"
        )
