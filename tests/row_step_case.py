"""What the tests of the step over rows share: small settings, and the terms of a configuration."""

from __future__ import annotations

import torch

import llm_esr
from llm_esr.training import build_loader
from llm_esr.training.terms import TERMS, Term, TermData, alignment
from llm_esr.world import World

SETTINGS = ["train.batch_size=16", "model.width=8", "model.dropout=0", "negatives.count=16", "model.max_len=12"]


def terms_of(
    data: llm_esr.Dataset, config: llm_esr.Config, device: str = "cpu", world: World | None = None
) -> list[Term]:
    """The terms of a configuration; its alignment is to vectors that are drawn, not to those of a trained model."""
    world = world or World()
    given = TermData(torch.device(device), build_loader(data, config, world), data, world=world)
    built = (build(config, given) for build in TERMS if build is not alignment.build)
    terms = [term for term in built if term is not None]
    if config.align.anchor is not None:
        anchors_ID = torch.randn(data.n_items, config.model.width, generator=torch.Generator().manual_seed(0))
        terms.append(alignment.Alignment(config, anchors_ID.to(device)))
    return terms
