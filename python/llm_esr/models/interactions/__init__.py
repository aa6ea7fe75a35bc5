"""Interactions of views: one file each, one line in the table of `llm_esr.config.parts`."""

from llm_esr.models.interactions.interface import Interaction

__all__ = ["Interaction"]
