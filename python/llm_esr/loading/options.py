"""What the batches of a loader depend on, beside the data: the same options as the Rust core's, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from llm_esr.config import Layout
from llm_esr.loading.sequences import at_least

if TYPE_CHECKING:
    from llm_esr.config import Config

Sequence = Literal["whole", "without-last"]
Targets = Literal["every", "last"]
NegativeSampling = Literal["shared", "own", "in-batch"]
Distribution = Literal["uniform", "popularity"]
Catalogue = Literal["training", "all"]


@dataclass(frozen=True)
class Augmentation:
    """How students' sequences are changed on their way; a ratio of 0 is off (CL4SRec's operators, arXiv 2010.14395).

    In each epoch a student is changed with `probability`, in one of the ways that are on, all alike. What is changed is
    the window of the newest items, with `without-last` the last target too. Teachers stay as they are.

    Args:
        probability: how likely a student is changed.
        crop: keep a contiguous part, this share of the window but two items at least, as if nothing else had been met.
        mask: put the mask token `n_items + 1` in place of this share of the items that are read; targets stay.
        reorder: shuffle a contiguous part, this share of the window; each item's target is the one that follows then.

    """

    probability: float = 0.5
    crop: float = 0.0
    mask: float = 0.0
    reorder: float = 0.0

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return self.probability > 0 and max(self.crop, self.mask, self.reorder) > 0


class LoaderSettings(TypedDict, total=False):
    """The fields of `LoaderOptions` as keyword arguments."""

    seed: int
    batch_size: int
    max_len: int
    layout: Layout
    sequence: Sequence
    targets: Targets
    padding_tokens: bool
    mask_probability: float | None
    append_mask: bool
    augmentation: Augmentation | None
    similar_users: int
    negatives: NegativeSampling | None
    n_negatives: int
    distribution: Distribution
    exponent: float
    catalogue: Catalogue
    smoothing: float
    smoothing_temperature: float
    least_items: int
    shuffle: bool


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """The options of a `BatchLoader`.

    With `mask_probability` targets are masked items, of the whole training sequence, and an epoch is one permutation of
    (user, masking pass): in pass 0 each item is masked with that probability (80 % of those become the mask token
    `n_items + 1`, 10 % a uniform item, 10 % stay themselves), in pass 1 the last item alone, by the mask token. A step
    may hold a user twice, and a random pass may have no target.

    Args:
        seed: names all random streams.
        batch_size: students (masking passes) of a step, over all ranks; the last step of an epoch may have fewer.
        max_len: the newest items of a sequence that are read.
        layout: `packed` or `padded`; the tokens are the same.
        sequence: `whole`, or `without-last`: students and teachers read the training sequence without its last item,
            which is the last token's target; a user with one training item is an empty sequence. Masked students read
            the whole sequence either way.
        targets: `every` token that has a next item in training predicts it, or the `last` of them alone.
        padding_tokens: fill every sequence on the left up to `max_len` tokens with item 0, position 0 (layout `padded`
            alone). With `without-last` and targets `last` an empty sequence's last token predicts the one item.
        mask_probability: mask items with this probability; None: no items are masked.
        append_mask: end the sequences of pass 0 and of teachers in a mask token without target. In a window of
            `max_len` items the oldest makes room for it, and positions stay: 2 to `max_len + 1`.
        augmentation: crop, mask or reorder students' sequences (not with `mask_probability`); None: as they are.
        similar_users: teachers a student, from `similar_users.npy`; 0: none.
        negatives: `shared` (N for the whole step, with a mask of what each user met), `own` (N for each target,
            never an item of the user's training sequence nor the target), `in-batch` (the targets of the step, or of
            a rank's share of it, in token order, each as often as it is one; with the mask of `shared`), or None.
        n_negatives: N; `in-batch` has as many as there are targets.
        distribution: how negatives are drawn, `uniform` or by `popularity` in training.
        exponent: popularity's power of the training count.
        catalogue: draw from the items that `training` met, or from `all`.
        smoothing: probability that a target is replaced by one of its nearest items, from `similar_items.npy`.
        smoothing_temperature: neighbours are drawn by softmax(score / temperature).
        least_items: users with fewer training items are no students, whatever else would have them in.
        shuffle: False: by rising user number in every epoch.

    Raises:
        ValueError: a number out of range; the message names it. What depends on the data is checked by the loader.

    """

    seed: int = 42
    batch_size: int = 80
    max_len: int = 50
    layout: Layout = "packed"
    sequence: Sequence = "whole"
    targets: Targets = "every"
    padding_tokens: bool = False
    mask_probability: float | None = None
    append_mask: bool = False
    augmentation: Augmentation | None = None
    similar_users: int = 0
    negatives: NegativeSampling | None = "shared"
    n_negatives: int = 512
    distribution: Distribution = "uniform"
    exponent: float = 1.0
    catalogue: Catalogue = "all"
    smoothing: float = 0.0
    smoothing_temperature: float = 0.1
    least_items: int = 1
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.augmentation is None:
            object.__setattr__(self, "augmentation", Augmentation())
        for name, low in _LOWEST.items():
            object.__setattr__(self, name, at_least(name, getattr(self, name), low))
        sets = self.batch_size * self.max_len if self.negatives == "own" else 1
        if self.negatives in ("own", "shared") and sets * self.n_negatives > _MOST:
            raise ValueError(
                f"n_negatives (negatives.count) {self.n_negatives:,} for up to {sets:,} sets of a batch are "
                f"{sets * self.n_negatives:,} ids, more than {_MOST:,}; draw fewer, or share them"
            )

    @classmethod
    def from_config(cls, config: Config) -> LoaderOptions:
        """The batches that a training of this configuration is made from."""
        train, negatives, masks = config.train, config.negatives, config.model.reads_mask_tokens
        live_teachers = config.distill.weight > 0 and config.distill.teachers == "live"
        return cls(
            seed=train.seed,
            batch_size=train.batch_size,
            max_len=config.model.max_len,
            layout=train.layout,
            sequence=train.sequence,
            targets=train.targets,
            padding_tokens=config.model.padding == "tokens",
            mask_probability=train.mask_probability if masks else None,
            # Where nothing is left out, BERT4Rec's sequences end in the mask token that evaluation and serving append.
            append_mask=masks and train.sequence == "whole",
            augmentation=Augmentation(**config.augmentation.model_dump()),
            similar_users=config.distill.similar_users if live_teachers else 0,
            negatives=None if train.loss == "softmax" else negatives.kind,
            n_negatives=negatives.count,
            distribution=negatives.distribution,
            exponent=negatives.exponent,
            catalogue=negatives.catalogue,
            smoothing=config.smoothing.probability,
            smoothing_temperature=config.smoothing.temperature,
            least_items=train.least_items,
        )


_MOST = 1 << 31  # negatives of a batch: 8 GB of ids
_LOWEST = {"seed": 0, "batch_size": 1, "max_len": 1, "similar_users": 0, "n_negatives": 0, "least_items": 1}
