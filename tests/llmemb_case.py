"""The golden vectors of LLMEmb's second stage as this package's models, batches and losses."""

from __future__ import annotations

from typing import Any

import torch
from paper_case import Case

from llm_esr.models import SequentialEncoder
from llm_esr.training import TermData, build_terms
from llm_esr.training.step import compute_losses, total_loss
from llm_esr.training.terms.alignment import Alignment


class LLMEmbCase(Case):
    """One file of golden vectors: the settings of `llmemb-paper` in place of LLM-ESR's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.renamed["views.semantic.mask"] = ("mask_embedding", None)

    def _settings(self) -> dict[str, Any]:
        given = self.given
        # What LLM-ESR has and LLMEmb has not.
        self.given = given | {"cross_attention": False, "align": "kd", "sim_users": 1, "beta": 0.0, "item_reg": False}
        values = super()._settings()
        values["model"] |= {
            "views": ["semantic"],
            "collaborative_init": "normal",
            "last_row": {"shifted": "shifted", "right": "own"}[given["last_row"]],
            "semantic_mask": "own",
        }
        values["distill"] = {"weight": 0.0}
        values["align"] = {
            "anchor": "the authors' SASRec",
            "over": "targets",
            "loss": "soft-targets",
            "weight": given["alpha"],
            "temperature": given["tau"],
        }
        return values

    def golden(self, kind: str, name: str) -> torch.Tensor:
        if name == "positions.weight" and self.given["backbone"] == "gru4rec":
            # Theirs has none; ours are there and never read.
            return torch.zeros(self.config.model.position_rows or 0, self.config.model.width)
        return super().golden(kind, name)

    def item_vectors(self, state: str) -> torch.Tensor:
        return torch.from_numpy(self["llm"])

    def teachers(self, step: int) -> dict[str, Any]:
        return {"teachers": None, "teacher_index": None}

    def alignment(self) -> Alignment:
        """The term, with the authors' anchors."""
        return Alignment(self.config, torch.from_numpy(self["anchor"]))

    def losses(self, model: SequentialEncoder, step: int) -> dict[str, torch.Tensor]:
        plain = self.config.model_copy(update={"align": self.config.align.model_copy(update={"anchor": None})})
        terms = [*build_terms(plain, TermData(model.device)), self.alignment()]
        losses = compute_losses(model, self.batch(step), terms)
        return {**losses, "total": total_loss(losses, terms)}
