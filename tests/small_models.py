"""Untrained networks on the tiny data set, as recommenders: what export and hub are tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import llm_esr
from llm_esr.config import Config
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.serving import Recommender

BLEND = {"text-max": 2.0, "text": 1.0, "transitions": 0.3, "co-occurrence": 4.0, "log-popularity": -0.1}


def model_on(
    data: llm_esr.Dataset, blend: dict[str, float] | None = None, folder: Path | None = None, **settings: Any
) -> Recommender:
    base = {"width": 8, "max_len": 6, "blocks": 1, "fusion": "sum", "text_profile": 1.0}
    config = Config.model_validate({"model": base | settings})
    torch.manual_seed(1)
    encoder = SequentialEncoder(config.model, ModelData(data.n_items, torch.from_numpy(np.array(data.item_embeddings))))
    return Recommender(encoder.eval(), data, "small", 42, config, folder, blend=blend, exact=True)
