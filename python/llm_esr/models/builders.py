"""The parts of a model, built by the names of a configuration (`llm_esr.config.parts` has the tables)."""

from __future__ import annotations

import importlib
from typing import TypeVar

from llm_esr.config import ModelConfig
from llm_esr.config.parts import BACKBONES, INTERACTIONS, NO_INTERACTION, VIEWS
from llm_esr.models.backbones import Backbone
from llm_esr.models.interactions import Interaction
from llm_esr.models.views import ModelData, View

_T = TypeVar("_T")


def build_view(name: str, config: ModelConfig, data: ModelData) -> View:
    """The item view of a name."""
    return _class(VIEWS[name].builder, View)(config, data)


def build_interaction(config: ModelConfig) -> Interaction | None:
    """The interaction of `model.interaction`, if any."""
    if config.interaction == NO_INTERACTION:
        return None
    return _class(INTERACTIONS[config.interaction].builder, Interaction)(config)


def build_backbone(config: ModelConfig) -> Backbone:
    """The backbone of `model.backbone`."""
    return _class(BACKBONES[config.backbone].builder, Backbone)(config)


def _class(builder: str, kind: type[_T]) -> type[_T]:
    """The class that a line of a table names."""
    module, _, name = builder.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, type) and issubclass(found, kind), f"{builder} is no {kind.__name__}"
    return found
