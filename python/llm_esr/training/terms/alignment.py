"""The alignment term: item vectors are drawn towards those of a trained model (LLMEmb, arXiv 2409.19925, stage 2).

Shapes: T tokens, M tokens with a target, n aligned rows, I items, C channels of all views, D width of the model.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config
from llm_esr.loading.staging import to_device
from llm_esr.semantics.soft_targets import masked_infonce, soft_target_loss
from llm_esr.training.forward import Forward
from llm_esr.training.other_models import open_other
from llm_esr.training.terms.term import Term, TermData


class Alignment(Term):
    """The contrastive loss between the anchors of a step's items and the vectors that the semantic view gives them.

    Args:
        config: the section `align` is read.
        anchors_ID: the trained model's item vectors, row = id - 1; read, never written.

    """

    name: ClassVar[str] = "alignment"

    def __init__(self, config: Config, anchors_ID: Tensor) -> None:
        settings = config.align
        self.weight, self.over = settings.weight, settings.over
        self.loss, self.temperature = settings.loss, settings.temperature
        self.anchors_ID = anchors_ID

    def __call__(self, forward: Forward) -> Tensor:
        """Mean over the aligned rows."""
        ids_n, vectors_nC = self._rows(forward)
        if len(ids_n) == 0:
            return vectors_nC.sum() * 0.0
        if forward.model.n_views > 1:
            by_view = dict(zip(forward.model.views, vectors_nC.chunk(forward.model.n_views, dim=1), strict=True))
            vectors_nC = by_view["semantic"]
        places_n = to_device(ids_n.astype(np.int64) - 1, vectors_nC.device)
        anchors_nD = self.anchors_ID.index_select(0, places_n).to(vectors_nC.dtype)
        if self.loss == "infonce":
            return masked_infonce(anchors_nD, vectors_nC, self.temperature, places_n[:, None] == places_n)
        return soft_target_loss(anchors_nD, vectors_nC, self.temperature)

    def _rows(self, forward: Forward) -> tuple[NDArray[np.int32], Tensor]:
        """The items that are aligned, ids [n], and their vectors, [n, C]."""
        tokens = forward.tokens
        if self.over == "inputs":
            read = np.flatnonzero((tokens.items > 0) & (tokens.items <= forward.model.n_items))
            return tokens.items[read], forward.vectors_TC.index_select(0, to_device(read, forward.vectors_TC.device))
        ids_M, vectors_MC = tokens.targets[tokens.targets > 0], forward.target_vectors()
        if self.over == "targets":
            return ids_M, vectors_MC
        ids_n, first_n = np.unique(ids_M, return_index=True)
        return ids_n, vectors_MC.index_select(0, to_device(first_n, vectors_MC.device))


@torch.no_grad()
def build(config: Config, given: TermData) -> Alignment | None:
    """The term of the section `align`; None where it has no anchor or its weight is 0.

    Raises:
        FileNotFoundError: no model where `align.anchor` says.
        ValueError: a model of other data or another width, or neither data set nor folder to find it by.

    """
    if config.align.anchor is None or not config.align.weight:
        return None
    if given.data is None or given.folder is None:
        raise ValueError("align.anchor is opened for a training's data and folder: TermData.data and folder are needed")
    opened = open_other("align.anchor", config.align.anchor, given.data, given.folder, config.train.seed)
    anchors_ID = opened.model.item_vectors(torch.arange(1, opened.model.n_items + 1))
    if anchors_ID.shape[1] != config.model.width:
        raise ValueError(
            f"align.anchor: the item vectors of {opened.folder} are {anchors_ID.shape[1]} wide and model.width is "
            f"{config.model.width}; give both models the same width, the anchor one view alone"
        )
    return Alignment(config, anchors_ID.to(given.device))
