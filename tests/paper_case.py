"""The golden vectors of the authors' code as this package's models and batches.

Shapes: B users, L positions, K similar users, S sequences.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from step_losses import step_losses

from llm_esr.config import Config
from llm_esr.models import ModelData, SequentialEncoder


@dataclass
class Case:
    """One file of golden vectors, computed in one layout."""

    name: str
    layout: str
    arrays: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        self.given: dict[str, Any] = json.loads(str(self.arrays["config"]))
        self.config = self._config()
        self.renamed = names(self.config)

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def _config(self) -> Config:
        return Config.model_validate(self._settings())

    def _settings(self) -> dict[str, Any]:
        given = self.given
        backbone = given["backbone"]
        plain = {"causal": False, "mask_padding_keys": False, "padding_row": "trained"}
        return {
            "model": plain | {
                "backbone": backbone,
                "views": ["collaborative", "semantic"],
                "interaction": "cross-attention" if given["cross_attention"] else "none",
                "block": "paper",
                "width": given["hidden_size"],
                "max_len": given["max_len"],
                "position_rows": given["max_len"] + 100,
                "blocks": given["num_blocks"],
                "heads": given["num_heads"],
                "feed_forward": 1,
                "dropout": given["dropout"],
                "collaborative_init": "pca",
                "train_semantic_table": not given["freeze_llm"],
                "padding": "tokens" if self.layout == "tokens" else "none",
            },
            "distill": {
                "weight": given["alpha"],
                "form": given["align"],
                "similar_users": given["sim_users"],
                "student_pass": "twice",
                "teacher_dropout": True,
            },
            "negatives": {"kind": "own", "count": 1},
            "train": {
                "loss": "bce",
                "layout": "padded" if self.layout == "tokens" else "packed",
                "sequence": "without-last",
                "targets": "last" if backbone == "gru4rec" else "every",
                "learning_rate": given["lr"],
                "clip_norm": None,
                "item_regularisation": given["beta"] if given["item_reg"] else 0.0,
            },
        }  # fmt: skip

    def model(self, state: str = "init") -> SequentialEncoder:
        """A model with the weights of `init` or `final`."""
        n_items, width = self.given["num_items"], self.given["hidden_size"]
        model = SequentialEncoder(
            self.config.model, ModelData(n_items, self.item_vectors(state), torch.zeros(n_items, width))
        )
        # The adapter as two layers: the golden gradients are float32, and follow that order of sums to the last digits.
        model.views["semantic"].collapses = False
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.golden(state, name))
        return model

    def item_vectors(self, state: str) -> torch.Tensor:
        """The items' text vectors, [I, E]."""
        return torch.from_numpy(self[f"{state}/llm_item_emb.weight"])[1:-1].clone()

    def golden(self, kind: str, name: str) -> torch.Tensor:
        """The authors' array for one of our parameters."""
        theirs, part = self.renamed[name]
        array = torch.from_numpy(self[f"{kind}/{theirs}"])
        if part is not None:
            array = array.chunk(3)[part]
        return array.squeeze(2) if array.dim() == 3 else array

    def batch(self, step: int) -> Any:
        """The batch of a step as the loader would give it."""
        seq, pos, neg, positions = (self[f"batch{step}/{k}"] for k in ("seq", "pos", "neg", "positions"))
        if pos.ndim == 1:  # GRU4Rec: one target a user, at the newest place
            targets = np.zeros_like(seq)
            targets[:, -1] = pos
            negatives = neg
        else:
            targets = pos
            negatives = neg[pos > 0][:, None]
        return SimpleNamespace(
            students=self.sequences(seq, positions, targets),
            negatives=negatives.astype(np.int32),
            collision=None,
            **self.teachers(step),
        )

    def teachers(self, step: int) -> dict[str, Any]:
        """What a batch holds of the similar users of its students."""
        similar = self[f"batch{step}/sim_seq"]
        n_users, k, length = similar.shape
        positions = self[f"batch{step}/sim_positions"]
        return {
            "teachers": self.sequences(similar.reshape(-1, length), positions.reshape(-1, length)),
            "teacher_index": np.arange(n_users * k).reshape(n_users, k),
        }

    def sequences(self, seq: np.ndarray, positions: np.ndarray, targets: np.ndarray | None = None) -> Any:
        """[S, L] arrays as `Sequences`."""
        targets = np.zeros_like(seq) if targets is None else targets
        real = np.ones_like(seq, bool) if self.layout == "tokens" else seq > 0
        n_tokens = int(real.sum())
        slots = np.full(seq.shape, -1, np.int32)
        slots[real] = np.arange(n_tokens)
        if self.layout == "one-row":
            slots = np.concatenate([np.arange(n_tokens), [-1, -1]]).astype(np.int32)[None]
        return Packed(
            items=seq[real].astype(np.int32),
            positions=positions[real].astype(np.int32),
            targets=targets[real].astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum(real.sum(1))]).astype(np.int64),
            slots=slots,
        )

    def inputs(self, part: str) -> Any:
        """The sequences of an evaluation; BERT4Rec's lose the leftmost slot and end in a mask token."""
        seq, positions = self[f"{part}/seq"], self[f"{part}/positions"]
        if self.config.model.reads_mask_tokens:
            mask = np.full((len(seq), 1), self.given["num_items"] + 1, seq.dtype)
            seq = np.concatenate([seq[:, 1:], mask], axis=1)
            positions = np.concatenate([positions[:, 1:], positions[:, -1:] + 1], axis=1)
        return self.sequences(seq, positions)

    def losses(self, model: SequentialEncoder, step: int) -> dict[str, torch.Tensor]:
        """Forward pass of a step."""
        return step_losses(model, self.batch(step), self.config)


class Packed(SimpleNamespace):
    """Looks like `llm_esr.loading.Sequences`."""

    def __len__(self) -> int:
        return len(self.offsets) - 1


def names(config: Config) -> dict[str, tuple[str, int | None]]:
    """Our parameter's name -> the authors', and which third of a joint matrix it is."""
    known: dict[str, tuple[str, int | None]] = {
        "views.semantic.table": ("llm_item_emb.weight", None),
        "views.collaborative.table.weight": ("id_item_emb.weight", None),
        "positions.weight": ("pos_emb.weight", None),
        "backbones.0.weight_ih": ("backbone.gru.weight_ih_l0", None),
        "backbones.0.weight_hh": ("backbone.gru.weight_hh_l0", None),
    }
    for kind in ("weight", "bias"):
        known[f"views.semantic.first.{kind}"] = (f"adapter.0.{kind}", None)
        known[f"views.semantic.second.{kind}"] = (f"adapter.1.{kind}", None)
        known[f"backbones.0.last_norm.{kind}"] = (f"backbone.last_layernorm.{kind}", None)
        for view, theirs in enumerate(("llm2id", "id2llm")):
            ours = f"interaction.towards.{view}"
            known[f"{ours}.output.{kind}"] = (f"{theirs}.linear_output.{kind}", None)
            for ours_part, their_part in (("query", "q"), ("key", "k"), ("value", "v")):
                known[f"{ours}.{ours_part}.{kind}"] = (f"{theirs}.linear_{their_part}.{kind}", None)
        for i in range(config.model.blocks):
            block = f"backbones.0.blocks.{i}"
            known[f"{block}.attention_norm.{kind}"] = (f"backbone.attention_layernorms.{i}.{kind}", None)
            known[f"{block}.forward_norm.{kind}"] = (f"backbone.forward_layernorms.{i}.{kind}", None)
            known[f"{block}.expand.{kind}"] = (f"backbone.forward_layers.{i}.conv1.{kind}", None)
            known[f"{block}.contract.{kind}"] = (f"backbone.forward_layers.{i}.conv2.{kind}", None)
            known[f"{block}.attention.output.{kind}"] = (f"backbone.attention_layers.{i}.out_proj.{kind}", None)
            for part, name in enumerate(("query", "key", "value")):
                joint = f"backbone.attention_layers.{i}.in_proj_{kind}"
                known[f"{block}.attention.{name}.{kind}"] = (joint, part)
    return known
