"""An interaction lets the views of an item sequence look at each other.

Shapes: V views, T tokens, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from llm_esr.attention import Tokens
from llm_esr.config import ModelConfig


class Interaction(nn.Module):
    """An interaction; built as `NAME(config)`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def forward(self, x_VTD: Tensor, tokens: Tokens) -> Tensor:
        """[V, T, D] -> [V, T, D]."""
        raise NotImplementedError
