"""Our training step in the paper's computation, and its weights under the authors' names."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from our_loader import endless, our_loader
from peers import Dense
from sameness import in_rows
from torch import Tensor
from workload import Size, Workload

from llm_esr.attention.choice import takes_right_padded
from llm_esr.config import Config, load_config
from llm_esr.loading import Batch, BatchLoader
from llm_esr.loading.staging import Packed
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.training.row_forward import RowInputs, row_inputs
from llm_esr.training.step import compute_losses, total_loss
from llm_esr.training.terms import TermData, build_terms

Given = tuple[Batch, Packed[RowInputs] | None]
PRESETS = {"paper": "paper-sasrec", "corrected": "corrected"}


def step_config(size: Size, *, mode: str = "paper", dropout: float = 0.5) -> Config:
    """`paper`, or `corrected`: the same architecture with its defects mended."""
    model = [f"model.width={size.width}", f"model.max_len={size.max_len}", f"model.dropout={dropout}"]
    if mode == "paper":
        model.append(f"model.position_rows={size.max_len + 100}")
    teachers = [f"distill.similar_users={size.similar_users}", f"train.batch_size={size.batch_size}"]
    return load_config(PRESETS[mode], [*model, *teachers])


def step_loader(work: Workload, size: Size, config: Config, threads: int = 0) -> BatchLoader:
    """The batches that the configuration trains on."""
    shown = {"sequence": config.train.sequence, "threads": threads}
    return our_loader(work, size, similar_users=size.similar_users, **shown)


def text_embeddings(size: Size, n_items: int) -> Tensor:
    """[I, E], unit length, the same at every call."""
    table = torch.from_numpy(np.random.default_rng(1).standard_normal((n_items, size.text_width), np.float32))
    table /= table.norm(dim=1, keepdim=True)  # in place: peak memory is measured
    return table


def make_model(size: Size, config: Config, table: Tensor) -> SequentialEncoder:
    """A fresh model; its collaborative table starts from random numbers in place of a PCA."""
    torch.manual_seed(0)
    return SequentialEncoder(config.model, ModelData(len(table), table, 0.1 * torch.randn(len(table), size.width)))


def optimizer_of(model: torch.nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    """Adam; AdamW without decay is the same, and what our training loop uses."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if fused:
        return torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0, fused=True)
    return torch.optim.Adam(trained, lr=1e-3)


@dataclass
class OurStep:
    """Forward, backward, optimizer."""

    model: SequentialEncoder
    config: Config
    precision: str = "float32"

    def __post_init__(self) -> None:
        self.optimizer = optimizer_of(self.model, fused=True)
        self.terms = build_terms(self.config, TermData(self.model.device))

    def batches(self, loader: BatchLoader) -> Iterator[Given]:
        """Epoch after epoch; where the device takes rows, each batch with them, packed ahead by another thread."""
        if not (self.model.reads_right_padded and takes_right_padded(self.model.device)):
            yield from ((batch, None) for batch in endless(loader))
        device = self.model.device
        for epoch in itertools.count():
            loader.set_epoch(epoch)
            yield from loader.prepared(lambda batch: Packed(row_inputs(batch, self.model, self.terms), device))

    def __call__(self, given: Batch | Given) -> float:
        return float(self.forward_and_back(given))

    def forward_and_back(self, given: Batch | Given) -> Tensor:
        """A step whose loss stays on the device, so that nobody waits for it."""
        batch, packed = given if isinstance(given, tuple) else (given, None)
        inputs, device = None if packed is None else packed.sent(), self.model.device.type
        half = self.precision != "float32"
        with torch.autocast(device, dtype=getattr(torch, self.precision)) if half else nullcontext():
            loss = total_loss(compute_losses(self.model, batch, self.terms, inputs), self.terms)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


def dense(batch: Batch, max_len: int) -> Dense:
    """Our batch as the left-padded rows that the authors' step reads, the same negatives included."""
    students, teachers = batch.students, batch.teachers
    assert teachers is not None and batch.teacher_index is not None
    negatives = np.zeros_like(students.targets)
    negatives[students.targets > 0] = batch.negatives[:, 0]
    rows = [in_rows(students, values, max_len) for values in (students.items, students.positions, students.targets)]
    rows.append(in_rows(students, negatives, max_len))
    for values in (teachers.items, teachers.positions):
        rows.append(in_rows(teachers, values, max_len)[batch.teacher_index])
    return Dense(torch.from_numpy(batch.users), *(torch.from_numpy(array).long() for array in rows))


def authors_state(model: SequentialEncoder) -> dict[str, Tensor]:
    """Our weights by the names of `AuthorsModel`."""
    ours = {name: tensor.detach() for name, tensor in model.named_parameters()}
    names = {
        "id_item_emb.weight": "views.collaborative.table.weight",
        "pos_emb.weight": "positions.weight",
    }
    for kind in ("weight", "bias"):
        names |= {
            f"adapter.{i}.{kind}": f"views.semantic.{layer}.{kind}" for i, layer in enumerate(("first", "second"))
        }
        names[f"backbone.last_layernorm.{kind}"] = f"backbones.0.last_norm.{kind}"
        for view, towards in enumerate(("llm2id", "id2llm")):
            names[f"{towards}.linear_output.{kind}"] = f"interaction.towards.{view}.output.{kind}"
            if kind == "weight":
                for part in ("query", "key", "value"):
                    names[f"{towards}.linear_{part[0]}.weight"] = f"interaction.towards.{view}.{part}.weight"
        for i in range(model.config.blocks):
            theirs, block = "backbone.{}." + f"{i}", f"backbones.0.blocks.{i}"
            names[f"{theirs.format('attention_layernorms')}.{kind}"] = f"{block}.attention_norm.{kind}"
            names[f"{theirs.format('forward_layernorms')}.{kind}"] = f"{block}.forward_norm.{kind}"
            names[f"{theirs.format('forward_layers')}.conv1.{kind}"] = f"{block}.expand.{kind}"
            names[f"{theirs.format('forward_layers')}.conv2.{kind}"] = f"{block}.contract.{kind}"
            names[f"{theirs.format('attention_layers')}.out_proj.{kind}"] = f"{block}.attention.output.{kind}"
    state = {theirs: ours[name] for theirs, name in names.items()}
    for i in range(model.config.blocks):
        attention = f"backbones.0.blocks.{i}.attention"
        for kind in ("weight", "bias"):
            joint = torch.cat([ours[f"{attention}.{part}.{kind}"] for part in ("query", "key", "value")])
            state[f"backbone.attention_layers.{i}.in_proj_{kind}"] = joint
            if kind == "weight":
                for conv in ("conv1", "conv2"):
                    name = f"backbone.forward_layers.{i}.{conv}.weight"
                    state[name] = state[name][..., None]
    return state
