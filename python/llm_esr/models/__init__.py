"""The dual-view model and its parts."""

from llm_esr.models.dual_view import DualView
from llm_esr.models.storage import load_model
from llm_esr.models.tokens import Tokens

__all__ = ["DualView", "Tokens", "load_model"]
