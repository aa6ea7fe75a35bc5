"""The encoder of item sequences: one module over a list of item views.

Shapes: B users, T tokens, S sequences, V views, D width, C = V x D channels, I items, n some items.

    items --views--> vectors --scale, position, dropout--> interaction --> backbone --> one vector a token

With two views this is the dual-view model of LLM-ESR (arXiv 2405.20646, section 3); with the collaborative view alone
and no interaction it is plain SASRec, BERT4Rec or GRU4Rec.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_esr.attention import RightPadded, Tokens
from llm_esr.attention.choice import takes_right_padded
from llm_esr.attention.dropout import Dropout
from llm_esr.config import ModelConfig
from llm_esr.loading import build_sequences
from llm_esr.loading.staging import send, to_device
from llm_esr.models.backbones import Backbone
from llm_esr.models.builders import build_backbone, build_interaction, build_view
from llm_esr.models.text_profile import TextProfile
from llm_esr.models.transfer import Transfer
from llm_esr.models.views import ModelData, View

if TYPE_CHECKING:
    from llm_esr.loading import Sequences

_CHUNK = 16_384


class SequentialEncoder(nn.Module):
    """Item views, an interaction between them, and a backbone that reads each view's sequence.

    Args:
        config: the `model` section.
        data: the items, and what tables start from.

    """

    def __init__(self, config: ModelConfig, data: ModelData) -> None:
        super().__init__()
        self.config = config
        self.n_items = data.n_items
        self.views = nn.ModuleDict({view: build_view(view, config, data) for view in config.views})
        self.positions = nn.Embedding(config.position_rows or config.n_positions, config.width)
        self.dropout = Dropout(config.dropout)
        self.interaction = build_interaction(config)
        n_backbones = 1 if config.share_backbone else self.n_views
        self.backbones = nn.ModuleList(build_backbone(config) for _ in range(n_backbones))
        self.profile: TextProfile | None = None
        if config.text_profile:
            assert data.item_vectors is not None, "the caller gives the texts' vectors"
            self.profile = TextProfile(config, data.item_vectors, data.n_centred)
        self.transfer = Transfer(config, self.n_views * config.width) if config.transfer else None
        self._initialise()

    def _initialise(self) -> None:
        drawn = {id(parameter) for view in self._views() for parameter in view.drawn()}
        if self.profile is not None:
            drawn |= {id(parameter) for parameter in self.profile.drawn()}
        if self.transfer is not None:
            drawn |= {id(parameter) for parameter in self.transfer.drawn()}
        for parameter in self.parameters():
            if parameter.dim() > 1 and id(parameter) not in drawn:
                nn.init.xavier_normal_(parameter)
        for backbone in self._backbones():
            backbone.initialise()

    def _views(self) -> list[View]:
        return [view for view in self.views.values() if isinstance(view, View)]

    def _backbones(self) -> list[Backbone]:
        return [backbone for backbone in self.backbones if isinstance(backbone, Backbone)]

    @property
    def item_table(self) -> nn.Embedding | None:
        """The table with a trained row for each id, [I + 2, D], whose updates may be lazy; None without one."""
        return next((view.item_table for view in self._views() if view.item_table is not None), None)

    @property
    def max_len(self) -> int:
        """The newest items of a history that are read."""
        return self.config.max_len

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.positions.weight.device

    @property
    def n_views(self) -> int:
        """V, the sequences that are read side by side: one where the views are summed."""
        return 1 if self.config.fusion == "sum" else len(self.views)

    def item_vectors(self, items_n: Tensor) -> Tensor:
        """Ids [n] -> the views' raw vectors, side by side or summed, [n, C]."""
        vectors = [view(items_n) for view in self.views.values()]
        if self.config.fusion == "sum":
            return torch.stack(vectors).sum(dim=0) if len(vectors) > 1 else vectors[0]
        return torch.cat(vectors, dim=1)

    def hidden(self, vectors_TC: Tensor, tokens: Tokens, last_only: bool = False) -> Tensor:
        """Each token's item vector, [T, C] -> each token's state, [T, C], or that of the newest tokens, [S, C]."""
        if len(tokens) == 0:
            return vectors_TC
        x_VTD = self._inputs(vectors_TC.view(len(tokens), self.n_views, self.config.width).transpose(0, 1), tokens)
        if self.interaction is not None:
            x_VTD = self.interaction(x_VTD, tokens)
        if len(self.backbones) == 1:
            x_VTD = self.backbones[0](x_VTD, tokens, last_only)
        else:
            x_VTD = torch.cat([f(x_VTD[v, None], tokens, last_only) for v, f in enumerate(self.backbones)])
        return x_VTD.transpose(0, 1).reshape(x_VTD.shape[1], -1)

    def _inputs(self, x_VTD: Tensor, tokens: Tokens) -> Tensor:
        if tokens.row_width is not None:
            x_VTD = x_VTD.contiguous()  # one copy here, or one before each product
        if self.config.facts.uses_positions and tokens.row_width is not None:
            x_VTD = torch.add(self.positions(tokens.positions_T), x_VTD, alpha=math.sqrt(self.config.width))
        elif self.config.facts.uses_positions:
            x_VTD = x_VTD * math.sqrt(self.config.width) + self.positions(self._places(tokens))
        return self.dropout(x_VTD) if self._backbones()[0].drops_inputs else x_VTD

    def _places(self, tokens: Tokens) -> Tensor:
        if self.config.positions == "oldest-first":
            return tokens.positions_T
        ends_T = tokens.offsets[1:].repeat(tokens.lengths)
        return to_device(np.arange(len(tokens)) - ends_T + self.config.max_len, self.device)

    def user_vectors(self, last_SC: Tensor, tokens: Tokens) -> Tensor:
        """The states of the newest tokens, [S, C], with the state of no item at all where a sequence is empty."""
        if tokens.empty_S is None:
            return last_SC
        return self.states_or_empty(last_SC if len(tokens) else None, tokens.empty_S)

    def states_or_empty(self, last_SC: Tensor | None, empty_S: Tensor) -> Tensor:
        """States [S, C] with that of no item at all where `empty_S` says so; None: everywhere."""
        backbones = self._backbones()
        empty_C = torch.cat([backbones[v % len(backbones)].empty_state() for v in range(self.n_views)])
        if last_SC is None:
            return empty_C.expand(len(empty_S), -1)
        return torch.where(empty_S[:, None], empty_C, last_SC)

    def forward(self, tokens: Tokens, last_only: bool = False) -> Tensor:
        """Every token's state, [T, C], or the newest ones', [S, C]; each unique item goes through its views once."""
        unique_n, inverse_T = tokens.unique()
        return self.hidden(nn.functional.embedding(inverse_T, self.item_vectors(unique_n)), tokens, last_only)

    def encode(self, sequences: Sequences) -> Tensor:
        """Each sequence's user vector, [S, C]: the state of its newest token, with a profile [S, C + E] behind it."""
        tokens = self.tokens_of(sequences)
        users_SC = self.user_vectors(self(tokens, last_only=True), tokens)
        if self.transfer is not None:
            users_SC = self.transfer.scored(users_SC, tokens.met(self.n_items))
        return users_SC if self.profile is None else torch.cat([users_SC, self._last_profiles(tokens)], dim=1)

    def last_states(self, sequences: Sequences, vectors_TC: Tensor | None = None) -> Tensor:
        """The state of each sequence's newest token, [S, C]: `u_last` of the paper, without the text profile.

        Args:
            sequences: S sequences of T tokens.
            vectors_TC: the tokens' item vectors, where they are known.

        """
        if vectors_TC is None:
            tokens = self.tokens_of(sequences)
            return self.user_vectors(self(tokens, last_only=True), tokens)
        return self.newest_states(vectors_TC, Tokens(sequences, self.device))

    def newest_states(self, vectors_TC: Tensor, tokens: Tokens) -> Tensor:
        """As `last_states`, for tokens that are on the device."""
        return self.user_vectors(self.hidden(vectors_TC, tokens, last_only=True), tokens)

    @property
    def reads_right_padded(self) -> bool:
        """Whether the model reads right-padded rows; where padding is tokens, it stands on the left."""
        return self.config.padding != "tokens"

    def right_padded(self, *parts: Sequences) -> RightPadded:
        """Sequences as right-padded rows with all that this model asks of them, in memory; see `RightPadded`."""
        config = self.config
        padding_keys = not config.mask_padding_keys
        return RightPadded(
            parts,
            masked=padding_keys or not config.looks_back_only,
            window=config.max_len if padding_keys else None,
            newest_at=None if config.positions == "oldest-first" else config.max_len - 1,
            decay=None if self.profile is None else self.profile.decay,
            precise=self.profile is not None and self.profile.texts.dtype == torch.float64,
        )

    def tokens_of(self, sequences: Sequences) -> Tokens:
        """Sequences on the model's device, as it reads them fastest."""
        if self.reads_right_padded and takes_right_padded(self.device):
            return send(self.right_padded(sequences).with_items(), self.device)
        return Tokens(sequences, self.device)

    def _last_profiles(self, tokens: Tokens) -> Tensor:
        """The profile of each sequence, [S, E]; zeros for an empty one."""
        assert self.profile is not None
        if len(tokens) == 0:
            return torch.zeros(len(tokens.last_S), self.profile.width, device=self.device)
        profiles_SE: Tensor = self.profile(tokens, tokens.last_S)
        return profiles_SE if tokens.empty_S is None else profiles_SE * ~tokens.empty_S[:, None]

    def sequences(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Sequences:
        """Histories as this model reads them: cut to its length, with a mask token or padding where it wants them.

        Args:
            items: int32 [T], history after history, oldest first.
            offsets: int64 [S + 1].

        """
        config = self.config
        extras: dict[str, Any] = {}
        if config.reads_mask_tokens:
            extras["mask_token"] = self.n_items + 1
        if config.padding == "tokens":
            extras |= {"layout": "padded", "padding_tokens": True}
        return build_sequences(items, offsets, max_len=config.max_len, **extras)

    def item_matrix(self) -> Tensor:
        """All items' vectors, [I, C], row = id - 1; the score of an item is its dot product with what `encode` gives.

        With a text profile the items' texts stand behind them, [I, C + E].
        """
        ids = torch.arange(1, self.n_items + 1, device=self.device)
        vectors_IC = torch.cat([self.item_vectors(chunk) for chunk in torch.split(ids, _CHUNK)])
        return vectors_IC if self.profile is None else torch.cat([vectors_IC, self.profile.texts[1:-1]], dim=1)
