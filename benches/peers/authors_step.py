"""LLM-ESR over SASRec as its authors compute it, in plain torch: left-padded rows, every token through everything.

Written from the method's description (arXiv 2405.20646 and what the golden vectors in `tests/fixtures/parity` show);
the layers carry the names of those vectors. Similar users are encoded like students, with gradients that are then
thrown away, and the student is encoded twice.

Shapes: B users, L positions, K similar users, D width, E width of the text embeddings, H heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from peers import Dense

_FAR_BELOW = -(2.0**32)


class CrossAttention(nn.Module):
    """One view's queries over the other's keys and values; padding keys are far below, later ones are seen."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(width, width, bias=False)
        self.linear_k = nn.Linear(width, width, bias=False)
        self.linear_v = nn.Linear(width, width, bias=False)
        self.linear_output = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, padding: Tensor) -> Tensor:
        n_users, length, width = queries.shape
        shape = (n_users, length, self.heads, width // self.heads)
        q = self.linear_q(queries).view(shape).transpose(1, 2)
        k = self.linear_k(keys).view(shape).transpose(1, 2)
        v = self.linear_v(keys).view(shape).transpose(1, 2)
        scores = torch.matmul(q, k.transpose(2, 3))
        scores = scores.masked_fill(padding[:, None, None, :], _FAR_BELOW) / math.sqrt(width // self.heads)
        mixed = torch.matmul(scores.softmax(dim=-1), v).transpose(1, 2).reshape(n_users, length, width)
        output: Tensor = self.linear_output(mixed)
        return output


class FeedForward(nn.Module):
    """Two convolutions of kernel size one, and the input on top."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, kernel_size=1)
        self.dropout1 = nn.Dropout(dropout)
        self.conv2 = nn.Conv1d(width, width, kernel_size=1)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.dropout1(self.conv1(x.transpose(1, 2))))
        output: Tensor = self.dropout2(self.conv2(inner)).transpose(1, 2) + x
        return output


class SASRec(nn.Module):
    """Blocks without a causal mask, in which padding keys take attention; padding is set to zero after each."""

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_layernorms = nn.ModuleList(nn.LayerNorm(width, eps=1e-8) for _ in range(blocks))
        self.attention_layers = nn.ModuleList(nn.MultiheadAttention(width, heads, dropout) for _ in range(blocks))
        self.forward_layernorms = nn.ModuleList(nn.LayerNorm(width, eps=1e-8) for _ in range(blocks))
        self.forward_layers = nn.ModuleList(FeedForward(width, dropout) for _ in range(blocks))
        self.last_layernorm = nn.LayerNorm(width, eps=1e-8)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        real = (~padding)[..., None]
        x = x * real
        layers = zip(
            self.attention_layernorms,
            self.attention_layers,
            self.forward_layernorms,
            self.forward_layers,
            strict=True,
        )
        for attention_norm, attention, forward_norm, feed_forward in layers:
            x = x.transpose(0, 1)
            queries = attention_norm(x)
            mixed, _ = attention(queries, x, x)
            x = (queries + mixed).transpose(0, 1)
            x = feed_forward(forward_norm(x)) * real
        output: Tensor = self.last_layernorm(x)
        return output


class AuthorsModel(nn.Module):
    """The dual view over SASRec, its losses included.

    Args:
        n_items: I.
        llm_table: text embeddings [I, E], row = id - 1; frozen.
        width: D.
        max_len: L.
        blocks: of the backbone.
        heads: of the backbone; the cross-attention has two.
        dropout: everywhere but in the cross-attention.
        alpha: weight of the distillation.

    """

    def __init__(
        self,
        n_items: int,
        llm_table: Tensor,
        *,
        width: int = 64,
        max_len: int = 200,
        blocks: int = 2,
        heads: int = 1,
        dropout: float = 0.5,
        alpha: float = 0.1,
    ) -> None:
        super().__init__()
        text_width = llm_table.shape[1]
        self.width, self.alpha = width, alpha
        table = torch.zeros(n_items + 2, text_width)
        table[1:-1] = llm_table
        self.llm_item_emb = nn.Embedding.from_pretrained(table, freeze=True)
        self.adapter = nn.Sequential(
            nn.Linear(text_width, text_width // 2),
            nn.Linear(text_width // 2, width),
        )
        self.id_item_emb = nn.Embedding(n_items + 2, width)
        self.pos_emb = nn.Embedding(max_len + 100, width)
        self.emb_dropout = nn.Dropout(dropout)
        self.llm2id = CrossAttention(width, 2)
        self.id2llm = CrossAttention(width, 2)
        self.backbone = SASRec(width, blocks, heads, dropout)
        self.ranking_loss = nn.BCEWithLogitsLoss()
        self.distillation_loss = nn.MSELoss()

    def item_vectors(self, items: Tensor) -> Tensor:
        """Raw vectors of both views, [..., 2 D]."""
        return torch.cat([self.id_item_emb(items), self.adapter(self.llm_item_emb(items))], dim=-1)

    def features(self, items: Tensor, positions: Tensor) -> Tensor:
        """The state at every place, [B, L, 2 D]."""
        padding = items == 0
        collaborative = self._tokens(self.id_item_emb(items), positions)
        semantic = self._tokens(self.adapter(self.llm_item_emb(items)), positions)
        mixed_collaborative = self.llm2id(semantic, collaborative, padding)
        mixed_semantic = self.id2llm(collaborative, semantic, padding)
        return torch.cat([self.backbone(mixed_collaborative, padding), self.backbone(mixed_semantic, padding)], dim=-1)

    def _tokens(self, vectors: Tensor, positions: Tensor) -> Tensor:
        dropped: Tensor = self.emb_dropout(vectors * math.sqrt(self.width) + self.pos_emb(positions))
        return dropped

    def teachers(self, items: Tensor, positions: Tensor) -> Tensor:
        """The mean over similar users of their newest state: [B, K, L] -> [B, 2 D]."""
        n_users, k, length = items.shape
        states = self.features(items.view(-1, length), positions.view(-1, length))[:, -1]
        return states.detach().view(n_users, k, -1).mean(dim=1)

    def forward(self, batch: Dense) -> Tensor:
        """The step's loss."""
        states = self.features(batch.items, batch.positions)
        positive = (states * self.item_vectors(batch.targets)).sum(dim=-1)
        negative = (states * self.item_vectors(batch.negatives)).sum(dim=-1)
        targeted = batch.targets > 0
        ranking = self.ranking_loss(positive[targeted], torch.ones_like(positive[targeted]))
        ranking = ranking + self.ranking_loss(negative[targeted], torch.zeros_like(negative[targeted]))
        assert batch.teacher_items is not None and batch.teacher_positions is not None
        student = self.features(batch.items, batch.positions)[:, -1]
        teacher = self.teachers(batch.teacher_items, batch.teacher_positions)
        total: Tensor = ranking + self.alpha * self.distillation_loss(student, teacher)
        return total
