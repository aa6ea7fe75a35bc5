"""The text profile: what a history says in the space of the texts, compared with each item's text.

    profile_t = gamma (I + W)' sum_(j <= t) decay^(t - j + 1) e_j,   score of item i += profile_t . e_i

e is an item's text vector less the catalogue's mean, at unit length; gamma and W are trained (gamma from
`model.text_profile`, W from zero), e is not. It is causal, so one pass gives the profile at every token; it reads no
interactions of others, so it can be trained together with the network without leaking.

Shapes: T tokens, n items, I all items, E width of the text vectors, at most 384.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.attention import RightPadded, Tokens
from llm_esr.config import ModelConfig
from llm_esr.loading.staging import to_device

WIDEST = 384  # wider vectors are brought to their first so many principal components


class TextProfile(nn.Module):
    """The profile of each token's history, and the texts that it is compared with.

    Args:
        config: the `model` section.
        vectors_IE: the items' text vectors, row = id - 1.
        n_centred: the first so many are those of training, about whose mean the texts lie; None: all are.

    """

    texts: Tensor

    def __init__(self, config: ModelConfig, vectors_IE: Tensor, n_centred: int | None = None) -> None:
        super().__init__()
        self.decay = config.text_profile_decay
        # Rows are ids; padding and the mask token say nothing. Not part of the state dict: the data folder has it.
        self.register_buffer("texts", F.pad(centred_texts(vectors_IE, n_centred), (0, 0, 1, 1)), persistent=False)
        self.scale = nn.Parameter(torch.tensor(float(config.text_profile)))
        width = self.texts.shape[1]
        self.metric = nn.Parameter(torch.zeros(width, width)) if config.text_profile_metric else None

    @property
    def width(self) -> int:
        """E."""
        return int(self.texts.shape[1])

    def drawn(self) -> list[Tensor]:
        """The metric, which starts from zero."""
        return [] if self.metric is None else [self.metric]

    def forward(self, tokens: Tokens, rows: Tensor | None = None) -> Tensor:
        """The profile at each token, or at those of `rows`, [T, E]; the newest item of a history weighs `decay`."""
        sums_TE = self._decayed_sums(tokens)
        if rows is not None:
            sums_TE = sums_TE.index_select(0, rows)
        if self.metric is not None:
            sums_TE = sums_TE + sums_TE @ self.metric
        return self.scale * sums_TE

    @torch.no_grad()
    def _decayed_sums(self, tokens: Tokens) -> Tensor:
        """In log2(longest) passes over the flat tokens: after pass k each sum reaches back 2^k items.

        Over right-padded rows one product has all of them.
        """
        if isinstance(tokens, RightPadded):
            assert tokens.items_T is not None and tokens.decays_WW is not None, "made for a model with a profile"
            texts_SWE = self.texts.index_select(0, tokens.items_T).view(len(tokens.lengths), -1, self.width)
            return (tokens.decays_WW @ texts_SWE).flatten(0, 1)
        sums_TE = self.texts.index_select(0, to_device(tokens.items.astype(np.int64), tokens.device)) * self.decay
        starts = tokens.offsets[:-1].repeat(tokens.lengths)
        place_T = to_device(np.arange(len(tokens)) - starts, tokens.device)
        longest = int(tokens.lengths.max(initial=0))
        reach = 1
        while reach < longest:
            kept_T1 = (place_T[reach:] >= reach)[:, None]
            sums_TE = torch.cat([sums_TE[:reach], sums_TE[reach:] + self.decay**reach * kept_T1 * sums_TE[:-reach]])
            reach *= 2
        return sums_TE


def centred_texts(vectors_IE: Tensor, n_centred: int | None = None) -> Tensor:
    """Text vectors less their mean, at unit length, float32 [I, E]; at most `WIDEST` principal components of them.

    Args:
        vectors_IE: the vectors.
        n_centred: the first so many give mean and components, so that items behind them move no other; None: all.
    """
    if vectors_IE.is_meta:  # of shapes alone there is nothing to centre
        return vectors_IE.new_empty(len(vectors_IE), min(vectors_IE.shape[1], WIDEST), dtype=torch.float32)
    centred_IE = vectors_IE.double() - vectors_IE[:n_centred].double().mean(dim=0)
    if centred_IE.shape[1] > WIDEST:
        first_IE = centred_IE[:n_centred]
        _, directions = torch.linalg.eigh(first_IE.T @ first_IE)
        centred_IE = centred_IE @ directions[:, -WIDEST:]
    return F.normalize(centred_IE, dim=1).float()
