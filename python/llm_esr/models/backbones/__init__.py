"""Backbones: one file each, one line in the table of `llm_esr.config.parts`."""

from llm_esr.models.backbones.interface import Backbone

__all__ = ["Backbone"]
