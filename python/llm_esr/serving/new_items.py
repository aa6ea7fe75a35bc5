"""New items for a trained model: read, embedded, placed among the others; no weight changes.

Shapes: m new items, E width of the vectors, K nearest items.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config import DataConfig, IndexConfig
from llm_esr.data.extended import AddedItems, ExtendedDataset
from llm_esr.data.items import item_texts, read_items
from llm_esr.doors import warn
from llm_esr.files import is_there, key_of
from llm_esr.models import SequentialEncoder
from llm_esr.models.extending import extend_model, refuse_ids_alone
from llm_esr.retrieval import nearest
from llm_esr.semantics.alignment import vectors_with_ids
from llm_esr.semantics.new_items import encoded_vectors, given_vectors, warn_of_zeros, with_ids
from llm_esr.semantics.projection import Projection
from llm_esr.serving.extensions import checked_name, free_name, store_addition
from llm_esr.tables.formats import open_sources
from llm_esr.tables.row_report import lines_of

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.serving.recommender import Recommender

_SHOWN = 5
_KNOW_NEW = {"text", "text-max"}  # scorers without a network that give an item a score that nobody met


def add_to_model(
    model: Recommender, items: Any, vectors: Any, name: str | None
) -> tuple[SequentialEncoder | None, ExtendedDataset]:
    """See `Recommender.add_items`: the network and the data set that know the new items, also in the folder."""
    data, folder, network = model.data, model.folder, model.model
    if network is None and not _KNOW_NEW & {model.name, *(model.blend or ())}:
        raise ValueError(
            f"{model.name} knows items by who met them, so it has nothing to say of new ones; add them to a model that "
            "reads texts, such as llm-esr, text or neighbours"
        )
    if network is not None and not isinstance(network, SequentialEncoder):
        raise ValueError(f"{model.name} is a {type(network).__name__}; only a SequentialEncoder can gain items")
    if network is not None:
        refuse_ids_alone(network, model.name)
    taken = [part.name for part in data.added] if isinstance(data, ExtendedDataset) else []
    name = free_name(folder, taken) if name is None else checked_name(name)
    if name in taken:
        raise ValueError(f"{model.name} has an addition '{name}' already; take another name (--name)")
    added = make_addition(data, items, vectors, name)
    extended = ExtendedDataset(data, [added])
    grown = None if network is None else extended_network(network, extended, folder)
    if folder is not None:
        extended = ExtendedDataset(data, [store_addition(folder, data, added)])
    return grown, extended


def make_addition(data: Dataset, items: Any, vectors: Any, name: str) -> AddedItems:
    """New items with their vectors and nearest items, in memory.

    Args:
        data: the data set that the model knows, with item vectors; perhaps extended before.
        items: their table, a path or a frame, with the columns of the items table that `prepare` read; None: the items
            are those of `vectors`, without texts.
        vectors: see `given_vectors`; None: the encoder of the data set makes them from the texts.
        name: what the addition is called.

    Raises:
        FileNotFoundError: a file that is not there, or a data set without item vectors.
        ValueError: no item, items that the model knows, or vectors that do not fit.
    """
    own = data.item_embeddings
    if own is None:
        raise FileNotFoundError(
            f"{data.folder} has no item_embeddings.npy, by which new items would be known; run `llm-esr embed` first"
        )
    table, n_rows = _read_table(data, items, vectors)
    known = [one for one in table["item_id"].to_list() if one in data.item_index]
    if known:
        shown = ", ".join(repr(one) for one in known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
        raise ValueError(
            f"{len(known):,} of the {table.height:,} new items are in the catalogue already ({shown}); give new ones"
        )
    texts = table.drop("source_row")
    if vectors is None:
        nothing = np.zeros((table.height, 0), np.float32)
        draft = AddedItems(name, "", texts, nothing, nothing.astype(np.int32), nothing)
        made_mE: NDArray[Any] = encoded_vectors(ExtendedDataset(data, [draft]), data.n_items)
    else:
        made_mE = given_vectors(vectors, data, table["item_id"], table["source_row"], n_rows)
    made_mE = np.ascontiguousarray(made_mE, dtype=own.dtype)
    if not np.isfinite(made_mE).all():
        raise ValueError(f"the vectors of the new items hold numbers too large for {own.dtype}; scale them")
    warn_of_zeros(table["item_id"], made_mE)
    prepared_IE = np.asarray(own[: data.n_prepared_items])
    count = IndexConfig().similar_items if data.similar_items is None else data.similar_items.shape[1]
    rows_mK, cosines_mK = nearest(prepared_IE, min(count, len(prepared_IE)), queries=made_mE)
    neighbours_mK = np.where(rows_mK < 0, -1, rows_mK + 1).astype(np.int32)
    key = key_of([name, table["item_id"].to_list(), texts.rows(), sha256(made_mE.tobytes()).hexdigest()])
    return AddedItems(name, key, texts, made_mE, neighbours_mK, cosines_mK)


def _read_table(data: Dataset, items: Any, vectors: Any) -> tuple[pl.DataFrame, int | None]:
    """`item_id`, `source_row` and the text columns of the new items, and the rows of their table."""
    if items is None and vectors is None:
        raise ValueError("add_items: give a table of items, or vectors with ids; got neither")
    names = [*data.text_columns]
    names += [data.title_column] if data.title_column is not None and data.title_column not in names else []
    if items is None:
        ids, _ = vectors_with_ids(with_ids(vectors), data)
        nowhere = pl.Series([None] * len(ids), dtype=pl.Int64)
        frame = pl.DataFrame({"item_id": ids.cast(pl.String), "source_row": nowhere})
        return frame.with_columns(pl.lit(None, dtype=pl.String).alias(one) for one in names), None
    config = DataConfig.model_validate(data.metadata["config"])
    config = config.model_copy(
        update={"format": "auto", "text_columns": data.text_columns, "title_column": data.title_column}
    )
    id_names = (config.user_column, config.items_id_column or config.item_column)
    rows = item_texts(read_items(open_sources(items, "auto", "items", id_names, config.source), config), config)
    assert rows.report is not None
    if rows.report.read > rows.report.kept:
        warn("; ".join(line.strip() for line in lines_of(rows.report.as_dict(), "new items")))
    return rows.frame.select("item_id", "source_row", *names), rows.n_rows


def extended_network(model: SequentialEncoder, data: ExtendedDataset, folder: Path | None) -> SequentialEncoder:
    """A network with rows for the added items.

    Args:
        model: knows the items before them.
        data: all items.
        folder: the model's, whose projection a table that borrows nothing starts from.
    """
    config = model.config
    starts_mD = None
    path = None if folder is None else folder / "projection.safetensors"
    if not config.borrow and path is not None and is_there(path) and data.item_embeddings is not None:
        starts_mD = Projection.load(path).transform(data.item_embeddings[model.n_items :])
    return extend_model(model, data, starts_mD)
