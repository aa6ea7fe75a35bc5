"""The dual-view model of LLM-ESR (arXiv 2405.20646, section 3): one module over a list of item views.

Shapes: B users, T tokens, S sequences, V views, D width, C = V x D channels, I items, n some items, E text width.

    items --views--> vectors --scale, position, dropout--> interaction --> backbone --> one vector a token

With the collaborative view alone and no interaction this is plain SASRec.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from llm_esr.config import ModelConfig
from llm_esr.models.cross_attention import CrossAttention
from llm_esr.models.sasrec import SASRec
from llm_esr.models.tokens import Tokens
from llm_esr.models.views import CollaborativeView, SemanticView

if TYPE_CHECKING:
    from llm_esr.loading import Sequences

_CHUNK = 16_384


class DualView(nn.Module):
    """Item views, an interaction between them, and a backbone that reads each view's sequence.

    Args:
        config: the `model` section.
        n_items: I.
        semantic_table: text embeddings [I, E], row = id - 1; needed where `config.views` has `semantic`.
        initial_table: [I, D], what the collaborative table starts from with `collaborative_init: pca`.

    """

    def __init__(
        self,
        config: ModelConfig,
        n_items: int,
        semantic_table: Tensor | None = None,
        initial_table: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.n_items = n_items
        self.views = nn.ModuleDict()
        for view in config.views:
            if view == "semantic":
                if semantic_table is None or len(semantic_table) != n_items:
                    came = "none" if semantic_table is None else f"{len(semantic_table)} rows"
                    raise ValueError(f"the semantic view needs one vector for each of {n_items} items, got {came}")
                self.views[view] = SemanticView(config, semantic_table)
            else:
                self.views[view] = CollaborativeView(config, n_items, initial_table)
        self.positions = nn.Embedding(config.max_len + 1, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.interaction = CrossAttention(config) if config.interaction == "cross-attention" else None
        n_backbones = 1 if config.share_backbone else len(config.views)
        self.backbones = nn.ModuleList(SASRec(config) for _ in range(n_backbones))
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and not name.endswith("table.weight") and not name.endswith("semantic.table"):
                nn.init.xavier_normal_(parameter)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.positions.weight.device

    @property
    def n_views(self) -> int:
        """V."""
        return len(self.views)

    def item_vectors(self, items_n: Tensor) -> Tensor:
        """Ids in 1..I, [n] -> the views' raw vectors side by side, [n, C]."""
        return torch.cat([view(items_n) for view in self.views.values()], dim=1)

    def hidden(self, vectors_TC: Tensor, tokens: Tokens, kept_S: Tensor | None = None) -> Tensor:
        """Each token's item vector, [T, C] -> each token's state, [T, C], or that of the tokens `kept_S`, [S, C]."""
        x_VTD = vectors_TC.view(len(tokens), self.n_views, self.config.width).transpose(0, 1)
        x_VTD = self.dropout(x_VTD * math.sqrt(self.config.width) + self.positions(tokens.positions_T))
        if self.interaction is not None:
            x_VTD = self.interaction(x_VTD, tokens)
        if len(self.backbones) == 1:
            x_VTD = self.backbones[0](x_VTD, tokens, kept_S)
        else:
            x_VTD = torch.cat([f(x_VTD[v, None], tokens, kept_S) for v, f in enumerate(self.backbones)])
        return x_VTD.transpose(0, 1).reshape(x_VTD.shape[1], -1)

    def forward(self, tokens: Tokens, kept_S: Tensor | None = None) -> Tensor:
        """The state of every token, [T, C], or of `kept_S`; each distinct item goes through its views once."""
        distinct_n, index_T = torch.unique(tokens.items_T, return_inverse=True)
        return self.hidden(nn.functional.embedding(index_T, self.item_vectors(distinct_n)), tokens, kept_S)

    def encode(self, sequences: Sequences) -> Tensor:
        """Each sequence's user vector `u_last`, [S, C]: the state of its newest token."""
        tokens = Tokens(sequences, self.device)
        states_SC: Tensor = self(tokens, tokens.last_S)
        return states_SC

    def item_matrix(self) -> Tensor:
        """All items' vectors, [I, C], row = id - 1; the score of an item is its dot product with `u_last`."""
        ids = torch.arange(1, self.n_items + 1, device=self.device)
        return torch.cat([self.item_vectors(chunk) for chunk in torch.split(ids, _CHUNK)])
