"""The user vectors of a stored model, for the stage `index`: made only where neighbours have to be found anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_esr.files import given_path
from llm_esr.models.storage import read_model_json, weights_checksum
from llm_esr.retrieval import UserVectors
from llm_esr.serving.model_folders import check_data, find_model
from llm_esr.serving.recommender import Recommender

if TYPE_CHECKING:
    from llm_esr.config import IndexConfig
    from llm_esr.data import Dataset


def collaborative_vectors(data: Dataset, config: IndexConfig) -> UserVectors | None:
    """The user vectors of `index.model`; None where `index.users_by` reads none, or names no model.

    Raises:
        FileNotFoundError: no model there.
        ValueError: a model without a network, an unfinished one, or one of other data.

    """
    if config.users_by == "text" or config.model is None:
        return None
    folder = find_model(given_path(config.model))
    record = read_model_json(folder)
    if "scorer" in record:
        raise ValueError(
            f"index.model: {folder} is the scorer {record['name']}, which has no network and so no user vectors; name "
            "a trained model"
        )
    if not record["finished"]:
        raise ValueError(f"index.model: the training in {folder} is not finished; finish it first, or name another")
    check_data(folder, record, data)

    def compute() -> NDArray[np.float32]:
        return Recommender.load(folder, data=data, blend=False, extensions=False).user_vectors()

    return UserVectors(weights_checksum(folder), compute)
