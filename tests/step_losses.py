"""The losses of one step, as the trainer computes them."""

from __future__ import annotations

from torch import Tensor

from llm_esr.config import Config
from llm_esr.data import Dataset
from llm_esr.loading import Batch
from llm_esr.models import SequentialEncoder
from llm_esr.training import TermData, build_terms
from llm_esr.training.step import compute_losses, total_loss


def step_losses(
    model: SequentialEncoder, batch: Batch, config: Config, data: Dataset | None = None
) -> dict[str, Tensor]:
    """Each term by name, and their weighted sum as `total`."""
    terms = build_terms(config, TermData(model.device, data=data))
    losses = compute_losses(model, batch, terms)
    return {**losses, "total": total_loss(losses, terms)}
