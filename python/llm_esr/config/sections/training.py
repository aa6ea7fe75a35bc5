"""The sections of a training: what it learns from, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_esr.config.sections.section import Section

Layout = Literal["packed", "padded"]


class NegativesConfig(Section):
    """Which items stand against the target."""

    kind: Literal["shared", "own", "in-batch"] = Field(
        "shared",
        description="One set for the whole step, a set for each target, or the step's own targets (count, distribution "
        "and catalogue do not matter then).",
    )
    count: int = Field(512, ge=1, description="Negatives of a set.")
    distribution: Literal["uniform", "popularity"] = Field("uniform", description="How negatives are drawn.")
    exponent: float = Field(1.0, ge=0, description="Power of the training count, for popularity.")
    catalogue: Literal["training", "all"] = Field(
        "all",
        description="What is drawn from. all: an item that training never meets still has to be pushed down, or it "
        "outranks what was learnt.",
    )
    log_q_correction: bool = Field(
        False,
        description="Take the log of how often an item is drawn from a negative's score: the sampled softmax stands "
        "for the full one.",
    )


class SmoothingConfig(Section):
    """Semantic smoothing: a target is now and then replaced by one of its nearest items."""

    probability: float = Field(0.0, ge=0, le=1, description="How likely a target is replaced.")
    temperature: float = Field(0.1, gt=0, description="Nearest items are drawn by softmax(score / temperature).")


class AugmentationConfig(Section):
    """Sequence augmentation: now and then a student's sequence is cropped, masked in part or reordered in part."""

    probability: float = Field(
        0.5, ge=0, le=1, description="That a student is changed in an epoch, in one of the ways that are on."
    )
    crop: float = Field(0.0, ge=0, le=1, description="Share of the sequence that is kept; 0: off.")
    mask: float = Field(0.0, ge=0, le=1, description="Share of the items replaced by the mask token; 0: off.")
    reorder: float = Field(0.0, ge=0, le=1, description="Share of the sequence that is shuffled; 0: off.")

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return self.probability > 0 and max(self.crop, self.mask, self.reorder) > 0


class DistillConfig(Section):
    """Self-distillation from similar users."""

    weight: float = Field(0.0, ge=0, description="Weight of the distillation loss; 0: no distillation.")
    form: Literal["kd", "cl", "cosine"] = Field(
        "kd", description="The paper's mean squared error, its contrastive form, or one minus the cosine."
    )
    temperature: float = Field(1.0, gt=0, description="Of the contrastive form, cl.")
    similar_users: int = Field(10, ge=1, description="Teachers of a student.")
    teacher_weights: Literal["even", "similarity"] = Field(
        "even",
        description="What each teacher weighs in the mean. similarity: softmax(cosine / distill.teacher_temperature) "
        "over the student's teachers.",
    )
    teacher_temperature: float = Field(
        0.1, gt=0, description="Of teacher_weights similarity; the lower, the more the most similar users weigh."
    )
    teacher_dropout: bool = Field(False, description="Whether live teachers have dropout, as in the authors' code.")
    teachers: Literal["live", "stored"] = Field(
        "live",
        description="live: similar users are encoded in each step, as in the paper. stored: the vectors of all users "
        "are refreshed from the averaged weights; users with one training item do not train.",
    )
    refresh_steps: int | None = Field(
        None, ge=1, description="Steps between two refreshes of stored teachers; null: once an epoch."
    )
    student_pass: Literal["once", "twice"] = Field(
        "once", description="twice: distilled from a second forward pass with its own dropout."
    )
    from_epoch: int = Field(0, ge=0, description="The first epoch with distillation, counted from 0.")


class TrainConfig(Section):
    """The training."""

    seed: int = Field(42, ge=0, le=2**63 - 1, description="Of everything that is drawn.")
    start_from: str | None = Field(
        None,
        description="A trained model's folder, or a run's; its weights are taken where name and shape agree. "
        "preset:NAME: the model of that name and this seed in the same run, trained first where it is not there.",
    )
    epochs: int = Field(100, ge=1, description="Epochs at most.")
    batch_size: int = Field(80, ge=1, description="Students of a step.")
    loss: Literal["auto", "sampled-softmax", "softmax", "bce"] = Field(
        "sampled-softmax",
        description="The ranking loss. softmax: over the whole catalogue, what the user met in training left out; "
        "the section `negatives` does not matter then. auto: softmax up to 30,000 items, beyond them sampled-softmax "
        "with at least 4,096 shared negatives; the log and model.json say which.",
    )
    view_loss: float = Field(0.0, ge=0, description="Weight of the ranking loss of each view alone.")
    item_regularisation: float = Field(
        0.0, ge=0, description="Weight of the contrastive loss between an item's two views."
    )
    sequence: Literal["whole", "without-last"] = Field(
        "whole",
        description="What a student reads of its training sequence; whole: the last item is read but has no target. "
        "BERT4Rec always trains on masked items of the whole sequence.",
    )
    least_items: int = Field(
        1,
        ge=1,
        description="Training items of a student at least; without-last has users of one item else, who learn "
        "nothing but what is distilled.",
    )
    targets: Literal["every", "last"] = Field("every", description="Which positions predict the next item.")
    mask_probability: float = Field(0.6, gt=0, le=1, description="Of BERT4Rec's random masking pass.")
    learning_rate: float = Field(1e-3, gt=0, description="Of Adam.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="Of Adam: decay a step of the mean squared gradient.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled, as AdamW has it.")
    clip_norm: float | None = Field(5.0, gt=0, description="Limit of the gradients' norm; null: none.")
    table_updates: Literal["dense", "lazy"] = Field(
        "dense",
        description="Adam and averaged weights of the item table: all rows in every step, or only the rows that a step "
        "meets, whose moments and weight decay stand still in between: another algorithm, for tables of some 100,000 "
        "items and more.",
    )
    averaging: float = Field(0.0, ge=0, lt=1, description="Decay a step of the averaged weights; 0: none.")
    patience: int = Field(6, ge=1, description="Epochs without a better validation NDCG@10 before the training ends.")
    evaluate_every: int = Field(1, ge=1, description="Epochs between two validations.")
    validation_users: int = Field(20_000, ge=1, description="Users of a validation at most.")
    validation_candidates: int | None = Field(
        None, ge=1, description="Early stopping by so many sampled items; null: the whole catalogue."
    )
    validation_ties: Literal["expected", "strict"] = Field(
        "expected", description="As evaluate.ties, for early stopping."
    )
    layout: Layout = Field("packed", description="Several sequences in a row, or one.")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of the forward pass.")


class CheckpointConfig(Section):
    """When the state of a training is saved."""

    every_steps: int = Field(1000, ge=1, description="Steps between two checkpoints.")


class RuntimeConfig(Section):
    """Where and how fast a training runs; never part of a key, as it changes no result."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    step: Literal["auto", "rows", "flat"] = Field(
        "auto",
        description="How a training step holds sequences. rows: right-padded, in one copy, prepared ahead, for a GPU. "
        "flat: token after token, for a CPU. auto: rows on CUDA. Models that read padding are always flat.",
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads of torch and our kernels; 0: what torch finds.")
    loader_threads: int = Field(1, ge=1, le=256, description="Threads that prepare batches.")
    rank_timeout: float = Field(
        1800.0,
        gt=0,
        le=86_400,
        description="Seconds that a process which torchrun started waits for the others before it gives up.",
    )
    keep_memory: bool = Field(
        True, description="On the CPU: what a step frees stays with the process until the training ends."
    )
    checkpoint_minutes: float | None = Field(
        5.0,
        gt=0,
        description="Minutes between two checkpoints at most, whatever checkpoint.every_steps; null: any.",
    )
    tensorboard: bool = Field(False, description="Write TensorBoard events (extra tensorboard).")
