"""The user encoder as a plain torch module over padded rows: what can be exported, in place of flat tokens and kernels.

Its layers are those of a trained `SequentialEncoder`, and its output equals `SequentialEncoder.encode`; the items'
vectors are computed once and kept as a table, so neither views nor texts are exported.

Shapes: B histories, L = max_len, W tokens of a window, A of them that ask (W, or the newest alone), V views, N = V x B
rows, D width, C = V x D channels, E width of a text profile, I items.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from llm_esr.attention import Attention
from llm_esr.attention.rows import attend
from llm_esr.models import SequentialEncoder
from llm_esr.models.backbones.blocks import Block
from llm_esr.models.backbones.gru4rec import GRU4Rec
from llm_esr.models.backbones.transformer import Transformer
from llm_esr.models.interactions.cross_attention import CrossAttention
from llm_esr.models.text_profile import TextProfile
from llm_esr.models.transfer import Transfer
from llm_esr.serving.export.window import Window, window_of

# The encoder's parts that have a form here, or are not needed once the items' vectors are known.
_KNOWN = {"views", "positions", "dropout", "interaction", "backbones", "profile", "transfer"}


class PaddedEncoder(nn.Module):
    """Histories as padded rows -> user vectors.

    Args:
        model: a trained network, on the CPU.

    Raises:
        ValueError: the network has a backbone or an interaction that cannot be exported.

    """

    vectors_RC: Tensor

    def __init__(self, model: SequentialEncoder) -> None:
        super().__init__()
        self.config = model.config
        self.n_views = model.n_views
        self.mask_token = model.n_items + 1
        if unknown := {name for name, _ in model.named_children()} - _KNOWN:
            raise ValueError(f"the encoder's {' and '.join(sorted(unknown))} cannot be exported yet")
        for part in (*model.backbones, model.interaction):
            if not isinstance(part, Transformer | GRU4Rec | CrossAttention | None):
                raise ValueError(
                    f"{type(part).__name__} has no form over padded rows, so it cannot be exported; write one in "
                    "llm_esr/serving/export/padded_encoder.py"
                )
        self.backbones = model.backbones
        self.interaction = model.interaction
        self.positions = model.positions
        with torch.inference_mode():
            vectors_RC = _vectors_by_id(model)
        # A clone that was not made in inference mode, which a module may hold.
        self.register_buffer("vectors_RC", vectors_RC.clone())
        self.profile: TextProfile | None = model.profile
        self.transfer: Transfer | None = model.transfer
        self.eval()

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """User vectors, float32 [B, C], with a text profile [B, C + E].

        Args:
            items: int64 [B, L], each row a history's newest items, oldest first, then anything, such as 0.
            lengths: int64 [B], items of each history; 0 for none, at most L.

        """
        window = window_of(items, lengths, self.config, self.mask_token)
        n_rows, width = window.items_BW.shape
        x_BWC = nn.functional.embedding(window.items_BW, self.vectors_RC)
        x_VBWD = x_BWC.view(n_rows, width, self.n_views, self.config.width).permute(2, 0, 1, 3)
        if self.config.facts.uses_positions:
            x_VBWD = x_VBWD * math.sqrt(self.config.width) + self.positions(self._places(window))
        if isinstance(self.interaction, CrossAttention):
            x_VBWD = _interact(self.interaction, x_VBWD, window)
        if len(self.backbones) == 1:
            last_VBD = _read(self.backbones[0], x_VBWD, window)
        else:
            last_VBD = torch.cat([_read(f, x_VBWD[v, None], window) for v, f in enumerate(self.backbones)])
        users_BC = last_VBD.transpose(0, 1).reshape(-1, self.vectors_RC.shape[1])
        if not (window.padding_is_tokens or self.config.reads_mask_tokens):
            known = [backbone for backbone in self.backbones if isinstance(backbone, Transformer | GRU4Rec)]
            empty_C = torch.cat([known[v % len(known)].empty_state() for v in range(self.n_views)])
            users_BC = torch.where(window.lengths_B[:, None] == 0, empty_C, users_BC)
        if self.transfer is not None:
            met_B = ((window.items_BW > 0) & (window.items_BW < self.mask_token)).sum(dim=1)
            is_tail_B = met_B <= self.transfer.tail_user
            users_BC = torch.where(is_tail_B[:, None], self.transfer.enhanced(users_BC), users_BC)
        return users_BC if self.profile is None else torch.cat([users_BC, _profiles(self.profile, window)], dim=1)

    def _places(self, window: Window) -> Tensor:
        """The position row of each token, int64 [B, W]."""
        if self.config.positions == "oldest-first":
            return window.positions_BW
        place_W = torch.arange(window.items_BW.shape[1], device=window.items_BW.device)
        slots_BW = place_W - window.newest_B[:, None] + self.config.max_len - 1
        return slots_BW.clamp(0, self.config.max_len - 1)  # outside: no token


def _vectors_by_id(model: SequentialEncoder) -> Tensor:
    """The vector of each id, [I + 2, C]: padding, the items, the mask token; zeros where the model does not read it."""
    n_items, config = model.n_items, model.config
    vectors_RC = torch.zeros(n_items + 2, model.n_views * config.width)
    items_IC = model.item_matrix()[:, : vectors_RC.shape[1]]
    vectors_RC[1:-1] = items_IC
    for row, is_read in ((0, config.padding == "tokens"), (n_items + 1, config.reads_mask_tokens)):
        if is_read:
            vectors_RC[row] = model.item_vectors(torch.tensor([row]))[0]
    return vectors_RC


def _read(backbone: nn.Module, x_VBWD: Tensor, window: Window) -> Tensor:
    """A backbone over each view's rows: the newest tokens' states, [V, B, D]."""
    if isinstance(backbone, GRU4Rec):
        return _recurrence(backbone, x_VBWD, window)
    assert isinstance(backbone, Transformer)
    real_BW1 = window.real_BW[..., None]
    x_VBWD = torch.where(real_BW1, x_VBWD, 0.0)
    blocks = [block for block in backbone.blocks if isinstance(block, Block)]
    for block in blocks[:-1]:
        x_VBWD = torch.where(real_BW1, _block(block, x_VBWD, window, newest_only=False), 0.0)
    x_VBD = _block(blocks[-1], x_VBWD, window, newest_only=True)[:, :, 0]
    # Nothing but padding: the newest token is padding, too.
    newest_is_real_B = window.real_BW.gather(1, window.newest_B[:, None])
    output_VBD: Tensor = backbone.last_norm(torch.where(newest_is_real_B, x_VBD, 0.0))
    return output_VBD


def _block(block: Block, x_VBWD: Tensor, window: Window, *, newest_only: bool) -> Tensor:
    """A self-attention block, [V, B, W, D] -> [V, B, A, D]."""
    given = block.attention_inputs(x_VBWD)
    padding = "seen" if block.padding_keys else "apart"
    mask_BAW = _mask(window, causal=block.causal, padding=padding)
    queries, residual = given.queries, given.residual
    if newest_only:
        queries, residual = _newest(queries, window), _newest(residual, window)
        mask_BAW = mask_BAW.gather(1, window.newest_B[:, None, None].expand(-1, 1, mask_BAW.shape[2]))
    # Without padding tokens, one key stands for all the padding of a full window.
    as_key = block.padding_keys and not window.padding_is_tokens
    counts_B = (block.max_len - window.lengths_B).float() if as_key else None
    mixed = _attend(block.attention, queries, given.memory, mask_BAW, counts_B, given.padding)
    return block.feed_forward(block.after_attention(residual, mixed))


def _interact(interaction: CrossAttention, x_VBWD: Tensor, window: Window) -> Tensor:
    """Each view looks at the other, [2, B, W, D] -> [2, B, W, D]."""
    mask_BWW = _mask(window, causal=interaction.causal, padding="unseen")
    mixed = []
    for view, attention in enumerate(interaction.towards):
        assert isinstance(attention, Attention)
        mixed.append(_attend(attention, x_VBWD[1 - view, None], x_VBWD[view, None], mask_BWW))
    mixed_VBWD = torch.cat(mixed)
    return x_VBWD + mixed_VBWD if interaction.residual else mixed_VBWD


def _attend(
    attention: Attention,
    queries_VBAD: Tensor,
    memory_VBWD: Tensor,
    mask_BAW: Tensor,
    counts_B: Tensor | None = None,
    padding_D: Tensor | None = None,
) -> Tensor:
    """Multi-head attention over rows, [V, B, A, D]; `counts_B` padding keys a row take part as one.

    `padding_D` is what they are made from; None: zeros.
    """
    n_views, n_rows, asking, width = queries_VBAD.shape
    queries_NAD = attention.query(queries_VBAD).reshape(-1, asking, width)
    memory = torch.cat([attention.key(memory_VBWD), attention.value(memory_VBWD)], dim=3)
    memory_NWE = memory.reshape(-1, memory.shape[2], 2 * width)
    mask_N1AW = mask_BAW.repeat(n_views, 1, 1)[:, None]
    pseudo = counts_NA = None
    if counts_B is not None:
        if padding_D is None:
            padding_D = attention.key.weight.new_zeros(attention.key.in_features)
        pseudo = tuple(layer(padding_D).view(attention.heads, 1, -1) for layer in (attention.key, attention.value))
        counts_NA = counts_B[:, None].expand(-1, asking).repeat(n_views, 1)
    mixed_NAD = attend(queries_NAD, memory_NWE, mask_N1AW, pseudo, counts_NA, heads=attention.heads, rate=0.0)
    output: Tensor = attention.output(mixed_NAD).view(n_views, n_rows, asking, width)
    return output


def _mask(window: Window, *, causal: bool, padding: str) -> Tensor:
    """Which token may look at which, bool [B, W, W]; see `llm_esr.attention.interface.Padding`.

    A place without a token looks at everything, so that no row of scores is wholly masked; nobody looks at it.
    """
    tokens_BW, real_BW = window.tokens_BW, window.real_BW
    mask_BWW = tokens_BW[:, None, :] | ~tokens_BW[:, :, None]
    if padding != "seen" and window.padding_is_tokens:
        exempt_BW = ~real_BW
        if padding == "unseen" and not causal:
            exempt_BW = ~real_BW.any(dim=1, keepdim=True).expand_as(real_BW)
        mask_BWW = mask_BWW & (real_BW[:, None, :] | exempt_BW[:, :, None])
    if not causal:
        return mask_BWW
    place_W = torch.arange(tokens_BW.shape[1], device=tokens_BW.device)
    return mask_BWW & (place_W[None, :] <= place_W[:, None])


def _newest(x_VBWD: Tensor, window: Window) -> Tensor:
    """What belongs to the newest token of each row, [V, B, 1, D]."""
    place = window.newest_B[None, :, None, None].expand(x_VBWD.shape[0], -1, 1, x_VBWD.shape[3])
    return x_VBWD.gather(2, place)


def _recurrence(backbone: GRU4Rec, x_VBWD: Tensor, window: Window) -> Tensor:
    """GRU4Rec over all places, read off at the newest token, [V, B, D]: later places do not matter."""
    gates_VBWG = x_VBWD @ backbone.weight_ih.T
    state_VBD = torch.zeros_like(x_VBWD[:, :, 0])
    states = []
    for place in range(x_VBWD.shape[2]):
        state_VBD = backbone.step(gates_VBWG[:, :, place], state_VBD)
        states.append(state_VBD)
    return _newest(torch.stack(states, dim=2), window)[:, :, 0]


def _profiles(profile: TextProfile, window: Window) -> Tensor:
    """The text profile at the newest token, [B, E]: `decay^age` of each item's text, the newest token's age being 1."""
    place_W = torch.arange(window.items_BW.shape[1], device=window.items_BW.device)
    age_BW = (window.newest_B[:, None] - place_W + 1).clamp(min=1)
    weights_BW = profile.decay ** age_BW.float()
    sums_BE = torch.einsum("bw,bwe->be", weights_BW, profile.texts[window.items_BW])
    if profile.metric is not None:
        sums_BE = sums_BE + sums_BE @ profile.metric
    return profile.scale * sums_BE
