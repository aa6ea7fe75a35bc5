"""What a training is made of, built from a configuration: the model, the batches, the loss terms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llm_esr.config import Config
from llm_esr.files import verify_beside
from llm_esr.files.arrays import open_array
from llm_esr.loading import BatchLoader, LoaderOptions
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.storage import item_vectors
from llm_esr.models.views.borrowing import BorrowedRows
from llm_esr.semantics.projection import Projection, fit_projection
from llm_esr.training.loss_choice import settle_loss
from llm_esr.world import World

if TYPE_CHECKING:
    from llm_esr.data import Dataset


def build_model(data: Dataset, config: Config) -> tuple[SequentialEncoder, Projection | None]:
    """A fresh model, its weights drawn from `train.seed`, and the PCA that its collaborative table starts from.

    Raises:
        FileNotFoundError: the semantic view or PCA without item vectors.

    """
    vectors = _item_vectors(data, config)
    initial: Tensor | None = None
    projection: Projection | None = None
    if config.model.starts_from_vectors and config.model.collaborative_init == "stored":
        initial = _stored_table(data, config.model.width)
    elif config.model.starts_from_vectors:
        assert vectors is not None
        projection = fit_projection(vectors, config.model.width, config.model.embedding_norm)
        initial = torch.from_numpy(np.ascontiguousarray(projection.transform(vectors)))
    torch.manual_seed(config.train.seed)
    table = item_vectors(data.folder) if config.model.reads_vectors else None
    borrowed = _borrowed_rows(data, config)
    model_data = ModelData(data.n_items, table, initial, borrowed, mask_tokens=config.shows_mask_tokens)
    return SequentialEncoder(config.model, model_data), projection


def build_loader(data: Dataset, config: Config, world: World | None = None) -> BatchLoader:
    """The batches that the configuration asks for, or one rank's share of each."""
    world = world or World()
    config = settle_loss(config, data.n_items)
    negatives = config.negatives
    if config.train.loss == "bce" and negatives.kind == "shared" and negatives.count == 1:
        raise ValueError("one shared negative for a whole step teaches nothing; set negatives.kind to own or raise "
                         "negatives.count")  # fmt: skip
    options = LoaderOptions.from_config(config)
    # `index` keeps no more similar users than there are other users.
    options = replace(options, similar_users=min(options.similar_users, max(1, data.n_users - 1)))
    return BatchLoader(
        data, options, threads=config.runtime.loader_threads, rank=world.rank, world_size=world.world_size
    )


def _borrowed_rows(data: Dataset, config: Config) -> BorrowedRows | None:
    """What `model.borrow` mixes each item's row from."""
    if not config.model.borrow:
        return None
    neighbours, cosines = data.similar_items, data.similar_items_scores
    if neighbours is None or cosines is None:
        raise FileNotFoundError(
            f"{data.folder} has no similar_items.npy, whose items model.borrow lets a rare item borrow from; run "
            "`llm-esr index` first, or set model.borrow to 0"
        )
    counts = np.asarray(data.training_counts)[1:]
    return BorrowedRows.from_neighbours(
        np.asarray(neighbours), np.asarray(cosines), counts, config.model.borrow, config.model.borrow_temperature
    )


def _stored_table(data: Dataset, width: int) -> Tensor:
    """The table that `convert` kept, [I, D]."""
    path = data.folder / "pca_items.npy"
    if not path.exists():
        raise FileNotFoundError(
            f"{data.folder} has no pca_items.npy, which model.collaborative_init stored reads; `llm-esr convert` "
            "writes it from the authors' files, or take model.collaborative_init pca"
        )
    verify_beside(path, "run `llm-esr convert` again")
    table = open_array(path, None)
    if table.shape != (data.n_items, width):
        raise ValueError(
            f"{path} has shape {list(table.shape)}, expected [{data.n_items}, {width}]; set model.width to its width"
        )
    return torch.from_numpy(table.astype(np.float32))


def _item_vectors(data: Dataset, config: Config) -> Any:
    wanted = config.model.reads_vectors or (
        config.model.starts_from_vectors and config.model.collaborative_init == "pca"
    )
    if wanted and data.item_embeddings is None:
        raise FileNotFoundError(
            f"{data.folder} has no item_embeddings.npy, which the semantic view and model.collaborative_init pca read; "
            "run `llm-esr embed` first, or train the id-only model with --config sasrec"
        )
    return data.item_embeddings
