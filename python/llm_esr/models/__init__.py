"""The network: item views, their interaction, and a backbone."""

from llm_esr.models.encoder import SequentialEncoder
from llm_esr.models.storage import load_model
from llm_esr.models.views import ModelData

__all__ = ["ModelData", "SequentialEncoder", "load_model"]
