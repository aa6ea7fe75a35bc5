"""The network: item views, their interaction, and a backbone."""

from llm_esr.models.encoder import SequentialEncoder
from llm_esr.models.storage import load_model

__all__ = ["SequentialEncoder", "load_model"]
