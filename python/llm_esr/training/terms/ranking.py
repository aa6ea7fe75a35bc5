"""The ranking term: the target against negatives or the catalogue, for all views together and perhaps each alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config
from llm_esr.models import SequentialEncoder
from llm_esr.training.catalogue_softmax import MetItems, catalogue_softmax
from llm_esr.training.forward import Forward
from llm_esr.training.loss_choice import settle_loss
from llm_esr.training.losses import RANKING_LOSSES, ranking
from llm_esr.training.terms.term import Prepared, Term, TermData

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.loading import Batch


class Ranking(Term):
    """`losses.ranking` of the tokens with a target.

    Args:
        loss: a name of `RANKING_LOSSES`.
        view_weight: weight of each view's own loss.
        log_q_I: the loader's `log_q` on the model's device, where negatives are corrected for how often they are drawn.
        negatives: `negatives.kind`.

    """

    name: ClassVar[str] = "ranking"

    def __init__(
        self, loss: str, view_weight: float, log_q_I: Tensor | None = None, *, negatives: str = "shared"
    ) -> None:
        self.loss = RANKING_LOSSES[loss]
        if negatives == "in-batch":
            self.whole_step = "negatives.kind in-batch"
        elif loss == "bce" and negatives == "shared":
            # The mean over negatives is over those that no student met, whose number is no share of the targets'.
            self.whole_step = "train.loss bce with negatives.kind shared"
        self.view_weight = view_weight
        self.log_q_I = log_q_I

    def __call__(self, forward: Forward) -> Tensor:
        """Mean over the tokens with a target."""
        return ranking(
            self.loss,
            forward.target_states(),
            forward.target_vectors(),
            forward.negative_vectors(),
            forward.masked_negatives(),
            forward.model.n_views,
            self.view_weight,
            None if self.log_q_I is None else log_counts(self.log_q_I, forward.items.negatives_N),
            self._profile_scores(forward),
        )

    def count(self, forward: Forward) -> int:
        """The tokens with a target."""
        return targets_of(forward)

    @staticmethod
    def _profile_scores(forward: Forward) -> tuple[Tensor, Tensor] | None:
        """What the text profile adds to the scores of targets [M] and negatives [M, N]; None without one."""
        profiles_ME = forward.target_profiles()
        if profiles_ME is None:
            return None
        assert forward.model.profile is not None
        texts = forward.model.profile.texts
        items = forward.items
        negative = texts[items.negatives_N]
        negative_MN = profiles_ME @ negative.T if negative.dim() == 2 else (negative @ profiles_ME[..., None])[..., 0]
        return (profiles_ME * texts[items.targets_M]).sum(dim=1), negative_MN


class CatalogueRanking(Term):
    """`catalogue_softmax` of the tokens with a target: what a student met in training is in no denominator.

    Neither is an item that nobody met in training. It is never a target, so it could only lose there: its text would
    be learnt to be a bad one, and whoever recommends it later would find it below everything else.

    Args:
        view_weight: weight of each view's own loss.
        data: whose training sequences are left out.

    """

    name: ClassVar[str] = "ranking"
    reads_catalogue = True

    def __init__(self, view_weight: float, data: Dataset) -> None:
        self.view_weight = view_weight
        self.data = data
        met_I = np.asarray(data.training_counts)[1:] > 0
        self.ranked = None if met_I.all() else RankedItems.of(met_I)

    def prepare(self, batch: Batch, model: SequentialEncoder) -> Prepared:
        """What the students met in training."""
        students = batch.students
        student_M = np.repeat(np.arange(len(students)), np.diff(students.offsets))[students.targets > 0]
        items, offsets = self.data.histories(batch.users, "train")
        if self.ranked is not None:
            items = self.ranked.ids(items)
        if model.device.type == "cpu":
            return Prepared(MetItems.of(items, offsets, student_M, model.device))
        return Prepared(MetItems.in_rows(items, offsets, student_M))

    def __call__(self, forward: Forward) -> Tensor:
        """Mean over the tokens with a target."""
        states_MC, vectors_IC = forward.target_states(), forward.catalogue_vectors()
        if len(states_MC) == 0:
            return states_MC.sum() * 0.0
        model = forward.model
        profiles_ME = forward.target_profiles()
        texts_IE = None if model.profile is None else model.profile.texts[1:-1]
        targets_M = forward.items.inverse_M
        if self.ranked is not None:
            vectors_IC, targets_M = self.ranked.rows(vectors_IC), self.ranked.columns(targets_M)
            texts_IE = None if texts_IE is None else self.ranked.texts(texts_IE)
        met = forward.inputs_of(self)

        def loss(states: Tensor, vectors: Tensor) -> Tensor:
            return catalogue_softmax(states, vectors, targets_M, met, profiles_ME, texts_IE)

        total = loss(states_MC, vectors_IC)
        if self.view_weight and model.n_views > 1:
            views = zip(states_MC.chunk(model.n_views, dim=1), vectors_IC.chunk(model.n_views, dim=1), strict=True)
            for states_MD, vectors_ID in views:
                total = total + self.view_weight * loss(states_MD, vectors_ID)
        return total

    def count(self, forward: Forward) -> int:
        """The tokens with a target."""
        return targets_of(forward)


def targets_of(forward: Forward) -> int:
    """The tokens of a step with a target, counted in memory."""
    return int((forward.batch.students.targets > 0).sum())


class RankedItems:
    """The items that training met, K of I, numbered from 0 without gaps."""

    def __init__(self, items_K: NDArray[np.int64], column_I: NDArray[np.int64]) -> None:
        self._id_I = np.concatenate([np.zeros(1, np.int32), (column_I + 1).astype(np.int32)])
        self._items_K, self._column_I = torch.from_numpy(items_K), torch.from_numpy(column_I)
        self._texts: Tensor | None = None

    @classmethod
    def of(cls, met_I: NDArray[np.bool_]) -> RankedItems:
        """From whether training met each item, bool [I]."""
        return cls(np.flatnonzero(met_I).astype(np.int64), np.cumsum(met_I, dtype=np.int64) - 1)

    def rows(self, values_IC: Tensor) -> Tensor:
        """Those of the ranked items, [K, C]."""
        self._items_K = self._items_K.to(values_IC.device)
        return values_IC.index_select(0, self._items_K)

    def texts(self, texts_IE: Tensor) -> Tensor:
        """`rows` of what never changes, looked up once."""
        if self._texts is None:
            self._texts = self.rows(texts_IE)
        return self._texts

    def columns(self, columns_M: Tensor) -> Tensor:
        """The new columns of ranked items, from the old ones."""
        self._column_I = self._column_I.to(columns_M.device)
        return self._column_I.index_select(0, columns_M)

    def ids(self, ids_T: NDArray[np.int32]) -> NDArray[np.int32]:
        """`columns`, of ids and in memory."""
        return self._id_I[ids_T]


def log_counts(log_q_I: Tensor, negatives: Tensor) -> Tensor:
    """The logarithm of how often a target meets each negative's item in the mean, as `negatives`, [N] or [M, N]."""
    return log_q_I[negatives] + math.log(max(negatives.shape[-1], 1))


def build(config: Config, given: TermData) -> Term:
    """The term of `train.loss`, `train.view_loss` and `negatives.log_q_correction`.

    Raises:
        ValueError: the softmax over the whole catalogue without a data set.

    """
    if given.data is not None:
        config = settle_loss(config, given.data.n_items)
    if config.train.loss in ("softmax", "auto"):
        if given.data is None:
            raise ValueError(
                f"train.loss {config.train.loss} leaves out what a user met in training: TermData.data is needed"
            )
        return CatalogueRanking(config.train.view_loss, given.data)
    log_q = given.loader.log_q if config.negatives.log_q_correction and given.loader is not None else None
    log_q_I = None if log_q is None else torch.from_numpy(log_q).to(given.device)
    return Ranking(config.train.loss, config.train.view_loss, log_q_I, negatives=config.negatives.kind)
