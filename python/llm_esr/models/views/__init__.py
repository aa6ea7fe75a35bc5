"""Item views: one file each, one line in the table of `llm_esr.config.parts`."""

from llm_esr.models.views.interface import ModelData, View

__all__ = ["ModelData", "View"]
