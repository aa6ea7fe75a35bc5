"""The window that a model reads of each history, as tensors of one size: what `build_sequences` does, for export.

Shapes: B histories, L items of the longest that is given (`max_len`), W tokens of a window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from llm_esr.config import ModelConfig


class Window(NamedTuple):
    """The tokens that are read.

    Attributes:
        items_BW: ids, int64; the mask token's where there is one, 0 where no item is.
        positions_BW: 1 for the oldest item, int64.
        tokens_BW: which places are tokens: items, the mask token, and padding where padding is tokens.
        real_BW: which are no padding.
        newest_B: the place of the newest token; 0 where there is none.
        lengths_B: tokens, padding left out.

    """

    items_BW: Tensor
    positions_BW: Tensor
    tokens_BW: Tensor
    real_BW: Tensor
    newest_B: Tensor
    lengths_B: Tensor

    @property
    def padding_is_tokens(self) -> bool:
        """Whether padding takes part as tokens."""
        return self.tokens_BW is not self.real_BW


def window_of(items_BL: Tensor, lengths_B: Tensor, config: ModelConfig, mask_token: int) -> Window:
    """The window of each history.

    Args:
        items_BL: ids, oldest first, int64; what lies beyond a history's length is not read.
        lengths_B: int64, at most `config.max_len`.
        config: the `model` section.
        mask_token: its id.

    """
    place_L = torch.arange(items_BL.shape[1], device=items_BL.device)
    items_BL = torch.where(place_L < lengths_B[:, None], items_BL, 0)
    if config.reads_mask_tokens:
        items_BL = torch.cat([items_BL, torch.zeros_like(items_BL[:, :1])], dim=1)
        place_L = torch.arange(items_BL.shape[1], device=items_BL.device)
        items_BL = torch.where(place_L == lengths_B[:, None], mask_token, items_BL)
        lengths_B = lengths_B + 1
    if config.padding == "tokens":
        return _padded_left(items_BL, lengths_B, config.max_len)
    # The mask token takes the place of the oldest item where the window is full; the others keep their positions.
    dropped_B = (lengths_B - config.max_len).clamp(min=0)
    real_BW = (place_L < lengths_B[:, None]) & (place_L >= dropped_B[:, None])
    return Window(
        items_BW=torch.where(real_BW, items_BL, 0),
        positions_BW=(place_L + 1).expand_as(items_BL),
        tokens_BW=real_BW,
        real_BW=real_BW,
        newest_B=(lengths_B - 1).clamp(min=0),
        lengths_B=lengths_B - dropped_B,
    )


def _padded_left(items_BL: Tensor, lengths_B: Tensor, width: int) -> Window:
    """The newest `width` tokens at the right end, item 0 at position 0 before them."""
    source_BW = torch.arange(width, device=items_BL.device) - width + lengths_B[:, None]
    real_BW = source_BW >= 0
    found_BW = items_BL.gather(1, source_BW.clamp(min=0))
    return Window(
        items_BW=torch.where(real_BW, found_BW, 0),
        positions_BW=torch.where(real_BW, source_BW + 1, 0),
        tokens_BW=torch.ones_like(real_BW),
        real_BW=real_BW,
        newest_B=torch.full_like(lengths_B, width - 1),
        lengths_B=lengths_B.clamp(max=width),
    )
