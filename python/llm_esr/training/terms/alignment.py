"""The alignment term: item vectors are drawn towards those of a trained model (LLMEmb, arXiv 2409.19925, stage 2).

Shapes: T tokens, M tokens with a target, n aligned rows, I items, C channels of all views, D width of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config
from llm_esr.loading.staging import Staged
from llm_esr.models import SequentialEncoder
from llm_esr.semantics.soft_targets import masked_infonce, soft_target_loss
from llm_esr.training.forward import Forward
from llm_esr.training.other_models import open_other
from llm_esr.training.terms.term import Prepared, Term, TermData

if TYPE_CHECKING:
    from llm_esr.loading import Batch


@dataclass(frozen=True)
class AlignedRows(Staged):
    """The items that a step aligns.

    Attributes:
        ids_n: in memory.
        places_n: id - 1, int64.
        chosen_n: which of the students' tokens or of the targets they are, int64; None: all targets.

    """

    ids_n: NDArray[np.int32]
    places_n: Tensor
    chosen_n: Tensor | None


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
        self.whole_step = f"align.loss {self.loss}"

    def prepare(self, batch: Batch, model: SequentialEncoder) -> Prepared:
        """The items that are aligned."""
        items, targets = batch.students.items, batch.students.targets
        ids_n, chosen_n = targets[targets > 0], None
        if self.over == "inputs":
            chosen_n = np.flatnonzero((items > 0) & (items <= model.n_items))
            ids_n = items[chosen_n]
        elif self.over == "distinct":
            ids_n, chosen_n = np.unique(ids_n, return_index=True)
        places_n = torch.from_numpy(ids_n.astype(np.int64) - 1)
        return Prepared(AlignedRows(ids_n, places_n, None if chosen_n is None else torch.from_numpy(chosen_n)))

    def __call__(self, forward: Forward) -> Tensor:
        """Mean over the aligned rows."""
        ids_n, vectors_nC = self._rows(forward)
        places_n = forward.inputs_of(self).places_n
        if len(ids_n) == 0:
            return vectors_nC.sum() * 0.0
        if forward.model.n_views > 1:
            by_view = dict(zip(forward.model.views, vectors_nC.chunk(forward.model.n_views, dim=1), strict=True))
            vectors_nC = by_view["semantic"]
        anchors_nD = self.anchors_ID.index_select(0, places_n).to(vectors_nC.dtype)
        if self.loss == "infonce":
            return masked_infonce(anchors_nD, vectors_nC, self.temperature, places_n[:, None] == places_n)
        return soft_target_loss(anchors_nD, vectors_nC, self.temperature)

    def _rows(self, forward: Forward) -> tuple[NDArray[np.int32], Tensor]:
        """The items that are aligned, ids [n], and their vectors, [n, C]."""
        given: AlignedRows = forward.inputs_of(self)
        vectors_nC = forward.vectors_TC if self.over == "inputs" else forward.target_vectors()
        if given.chosen_n is not None:
            vectors_nC = vectors_nC.index_select(0, given.chosen_n)
        return given.ids_n, vectors_nC


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
