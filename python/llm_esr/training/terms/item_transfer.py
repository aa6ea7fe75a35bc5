"""The item branch of MELT: T_I learns on head items to turn few contexts into the item's row, and rewrites tail rows.

    L_i = mean over head items and D of w_i (T_I(mean over k contexts of f(C) + T_U(f(C))) - q_i)^2

Shapes: n head items of a step, N contexts, C channels of all views, D width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config
from llm_esr.loading.contexts import Contexts
from llm_esr.loading.staging import send
from llm_esr.models import SequentialEncoder
from llm_esr.training.forward import Forward
from llm_esr.training.terms.term import Prepared, Term, TermData
from llm_esr.training.transfer.branches import encoded, progress_of, squared_distance, weights_for
from llm_esr.training.transfer.curriculum import item_weights
from llm_esr.training.transfer.dealing import Dealing
from llm_esr.training.transfer.groups import HeadAndTail
from llm_esr.training.transfer.tail_rows import fit_item_map, tail_rows, write_rows
from llm_esr.training.weights import Weights
from llm_esr.world import World

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.loading import Batch

_OWNER = 2  # of the order in which head items are dealt out


class ItemTransfer(Term):
    """The term; at the start of each epoch it writes the tail items' rows anew.

    Args:
        config: the sections `transfer`, `model` and `train` are read.
        data: whose training sequences are read.
        groups: who is head.
        steps: ranking batches of an epoch.
        world: who shares them.

    Attributes:
        refreshed_epoch: the last epoch whose start was dealt with; -1: none.

    """

    name: ClassVar[str] = "item_transfer"

    def __init__(self, config: Config, data: Dataset, groups: HeadAndTail, steps: int, world: World) -> None:
        self.settings, self.groups = config.transfer, groups
        self.weight = self.settings.item_weight
        self.seed, self.epochs = config.train.seed, config.train.epochs
        self.contexts = Contexts(
            data,
            max_len=config.model.max_len,
            reversed=self.settings.reversed_contexts,
            holds_item=self.settings.context_item,
        )
        self.most = max(math.floor(groups.tail_item), 1)
        self.dealing = Dealing(groups.head_items, steps, self.settings.steps, owner=_OWNER, seed=self.seed, world=world)
        self.most_steps = self.dealing.most_steps
        self.enhanced = self.settings.refresh_input == "enhanced"
        self.refreshed_epoch = -1

    def before_epoch(self, epoch: int, weights: Weights) -> None:
        """Fit the map before the first epoch, and write the tail rows; once an epoch."""
        if self.refreshed_epoch == epoch:
            return
        self.refreshed_epoch = epoch
        if epoch == 0 and self.settings.fit_items:
            fit_item_map(weights, self.contexts, self._with_contexts(self.groups.head_items), enhanced=self.enhanced)
        first = self.settings.refresh_from
        if first is not None and epoch >= first:
            self.refresh(weights)

    def refresh(self, weights: Weights) -> None:
        """Write the row of every tail item that has a context."""
        tail = self.groups.tail_items
        chunk = self.settings.refresh_chunk or max(len(tail), 1)
        for start in range(0, len(tail), chunk):
            items_n = self._with_contexts(tail[start : start + chunk])
            if len(items_n):
                rows_nD = tail_rows(weights.evaluated(), self.contexts, items_n, enhanced=self.enhanced)
                keep, forget = self.settings.refresh_keep, self.settings.reset_moments
                write_rows(weights, items_n, rows_nD, keep=keep, reset_moments=forget)

    def _with_contexts(self, items_n: NDArray[np.int64]) -> NDArray[np.int64]:
        return items_n[self.contexts.counts(items_n) > 0]

    def prepare(self, batch: Batch, model: SequentialEncoder) -> Prepared:
        """The step's head items, and contexts drawn for each."""
        items_n = self._with_contexts(self.dealing.of(batch.epoch, batch.step))
        if not len(items_n):
            return Prepared()
        counts_n, numbers_N = self.contexts.draw(items_n, self.most, seed=self.seed, epoch=batch.epoch)
        given = self._given(model, items_n, counts_n, self.weights_of(items_n, batch.epoch))
        return Prepared(given, (model.sequences(*self.contexts.read(numbers_N)),))

    def __call__(self, forward: Forward) -> Tensor | None:
        """Mean over the step's head items; None where it has none."""
        given = forward.inputs_of(self)
        return None if given is None else self._distance(forward.model, forward.encoded(self), given)

    def count(self, forward: Forward) -> int:
        """The step's head items."""
        return len(self._with_contexts(self.dealing.of(forward.batch.epoch, forward.batch.step)))

    def weights_of(self, items_n: NDArray[np.int64], epoch: int) -> NDArray[np.float64] | None:
        """What each head item weighs in an epoch, [n]; None: all 1."""
        if self.settings.curriculum == "none":
            return None
        return item_weights(self.groups.counts[items_n], self.groups.tail_item, progress_of(epoch, self.epochs))

    def loss(
        self,
        model: SequentialEncoder,
        items_n: NDArray[np.int64],
        counts_n: NDArray[np.int64],
        numbers_N: NDArray[np.int64],
        weights_n: NDArray[np.float64] | None,
    ) -> Tensor:
        """The loss of given head items, contexts of each (so many, by their numbers), and weights."""
        given = send(self._given(model, items_n, counts_n, weights_n), model.device)
        return self._distance(model, encoded(model, self.contexts.read(numbers_N)), given)

    @staticmethod
    def _given(
        model: SequentialEncoder,
        items_n: NDArray[np.int64],
        counts_n: NDArray[np.int64],
        weights_n: NDArray[np.float64] | None,
    ) -> dict[str, Tensor | None]:
        """What `_distance` reads, in memory."""
        return {
            "items": torch.from_numpy(items_n),
            "counts": torch.from_numpy(counts_n),
            "owners": torch.from_numpy(np.repeat(np.arange(len(items_n)), counts_n)),
            "weights": weights_for(model, weights_n),
        }

    def _distance(self, model: SequentialEncoder, states_NC: Tensor, given: dict[str, Any]) -> Tensor:
        """Between what the maps make of the contexts' states and the items' rows."""
        assert model.transfer is not None and model.item_table is not None
        enhanced_NC = model.transfer.enhanced(states_NC)
        sums_nC = enhanced_NC.new_zeros(len(given["items"]), enhanced_NC.shape[1])
        sums_nC = sums_nC.index_add(0, given["owners"], enhanced_NC)
        mapped_nD = model.transfer.items(sums_nC / given["counts"][:, None])
        rows_nD = model.item_table(given["items"])
        return squared_distance(
            mapped_nD, rows_nD.detach() if self.settings.detach_targets else rows_nD, given["weights"]
        )

    def state(self) -> dict[str, Tensor]:
        """The last epoch whose start was dealt with."""
        return {"refreshed_epoch": torch.tensor(self.refreshed_epoch)}

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Put it back, so that a resume in mid-epoch does not refresh again."""
        self.refreshed_epoch = int(tensors["refreshed_epoch"])


def build(config: Config, given: TermData) -> ItemTransfer | None:
    """The term of `transfer.item_weight`; None without it."""
    if not (config.model.transfer and config.transfer.item_weight):
        return None
    assert given.data is not None and given.loader is not None, "a training has both"
    return ItemTransfer(config, given.data, HeadAndTail.of(given.data, config), len(given.loader), given.world)
