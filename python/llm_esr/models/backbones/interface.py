"""A backbone reads each view's sequence of item vectors and gives a state for each token.

Shapes: V views, T tokens, S sequences, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from llm_esr.attention import Tokens
from llm_esr.config import ModelConfig


class Backbone(nn.Module):
    """A backbone; built as `NAME(config)`. What it states about itself stands in `llm_esr.config.parts`.

    Attributes:
        drops_inputs: whether the encoder drops out its inputs.

    """

    drops_inputs: bool = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def forward(self, x_VTD: Tensor, tokens: Tokens, last_only: bool = False) -> Tensor:
        """[V, T, D] -> [V, T, D]; with `last_only` the newest tokens' outputs alone, [V, S, D]."""
        raise NotImplementedError

    def empty_state(self) -> Tensor:
        """The state of a sequence without items, [D]."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Called after the encoder has drawn all weights; for what is drawn otherwise."""
