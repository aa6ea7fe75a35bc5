"""The user branch of MELT: T_U learns on head users to turn a short cut of a history into the whole.

    L_u = mean over head users and channels of w_u (T_U(f(last R items)) - f(last L items))^2

Shapes: n head users of a step, C channels of all views.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config
from llm_esr.doors import warn
from llm_esr.loading.contexts import newest, recent_cuts
from llm_esr.loading.staging import send
from llm_esr.models import SequentialEncoder
from llm_esr.training.forward import Forward
from llm_esr.training.terms.term import Prepared, Term, TermData
from llm_esr.training.transfer.branches import encoded, progress_of, squared_distance, target_states, weights_for
from llm_esr.training.transfer.curriculum import user_weights
from llm_esr.training.transfer.dealing import Dealing
from llm_esr.training.transfer.groups import HeadAndTail
from llm_esr.training.weights import Weights
from llm_esr.world import World

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.loading import Batch

_OWNER = 1  # of the order in which head users are dealt out


class UserTransfer(Term):
    """The term.

    Args:
        config: the sections `transfer`, `model` and `train` are read.
        data: whose training sequences are read.
        groups: who is head.
        steps: ranking batches of an epoch.
        world: who shares them.
        longest: the longest cut, 1 or more.

    """

    name: ClassVar[str] = "user_transfer"

    def __init__(
        self, config: Config, data: Dataset, groups: HeadAndTail, steps: int, longest: int, world: World
    ) -> None:
        self.settings, self.data, self.groups, self.longest = config.transfer, data, groups, longest
        self.weight = self.settings.user_weight
        self.seed, self.epochs, self.max_len = config.train.seed, config.train.epochs, config.model.max_len
        self.dealing = Dealing(groups.head_users, steps, self.settings.steps, owner=_OWNER, seed=self.seed, world=world)
        self.most_steps = self.dealing.most_steps

    def before_epoch(self, epoch: int, weights: Weights) -> None:
        """Tell the model which histories are scored as tail users'."""
        assert weights.model.transfer is not None
        scored = self.groups.tail_user if self.settings.score_tail_users else -1.0
        weights.model.transfer.tail_user.fill_(scored)

    def prepare(self, batch: Batch, model: SequentialEncoder) -> Prepared:
        """The step's head users: cuts of their histories, and the whole ones."""
        users_n = self.dealing.of(batch.epoch, batch.step)
        if not len(users_n):
            return Prepared()
        histories = self.data.histories(users_n, "train")
        cuts_n = recent_cuts(users_n, self.longest, seed=self.seed, epoch=batch.epoch)
        cut, whole = model.sequences(*newest(histories, cuts_n)), model.sequences(*histories)
        given = {"weights": weights_for(model, self.weights_of(users_n, batch.epoch))}
        return Prepared(given, (cut,), (whole,)) if self.settings.detach_targets else Prepared(given, (cut, whole))

    def __call__(self, forward: Forward) -> Tensor | None:
        """Mean over the step's head users; None where it has none."""
        given = forward.inputs_of(self)
        if given is None:
            return None
        assert forward.model.transfer is not None
        still = self.settings.detach_targets
        whole_nC = forward.encoded_still(self) if still else forward.encoded(self, 1)
        return squared_distance(forward.model.transfer.users(forward.encoded(self)), whole_nC, given["weights"])

    def count(self, forward: Forward) -> int:
        """The step's head users."""
        return len(self.dealing.of(forward.batch.epoch, forward.batch.step))

    def weights_of(self, users_n: NDArray[np.int64], epoch: int) -> NDArray[np.float64] | None:
        """What each head user weighs in an epoch, [n]; None: all 1."""
        if self.settings.curriculum == "none":
            return None
        lengths_n = self.groups.lengths[users_n]
        return user_weights(lengths_n, self.groups.tail_user, self.max_len, progress_of(epoch, self.epochs))

    def loss(
        self,
        model: SequentialEncoder,
        users_n: NDArray[np.int64],
        cuts_n: NDArray[np.int64],
        weights_n: NDArray[np.float64] | None,
    ) -> Tensor:
        """The loss of given head users, newest items that they show, and weights; a scalar with gradients."""
        assert model.transfer is not None
        histories = self.data.histories(users_n, "train")
        whole_nC = target_states(model, histories, stands_still=self.settings.detach_targets)
        mapped_nC = model.transfer.users(encoded(model, newest(histories, cuts_n)))
        return squared_distance(mapped_nC, whole_nC, send(weights_for(model, weights_n), mapped_nC.device))


def build(config: Config, given: TermData) -> UserTransfer | None:
    """The term of `transfer.user_weight`; None without it, and where no history is short enough to be cut to.

    Raises:
        ValueError: tail histories that fill the window, or none that can be cut as the authors do.

    """
    if not (config.model.transfer and config.transfer.user_weight):
        return None
    assert given.data is not None and given.loader is not None, "a training has both"
    groups = HeadAndTail.of(given.data, config)
    if not groups.tail_user < config.model.max_len - 1:
        raise ValueError(
            f"transfer: tail users have up to {groups.tail_user:g} items and the model reads {config.model.max_len}, "
            "so no history is longer than theirs; raise model.max_len, raise transfer.head_share, or set "
            "transfer.user_weight to 0"
        )
    longest = math.floor(groups.tail_user)
    if config.transfer.recent == "below-tail":
        longest -= 1
        if longest < 1:
            raise ValueError(
                f"transfer.recent below-tail: tail users have up to {groups.tail_user:g} items, expected 2 or more; "
                "set transfer.recent to up-to-tail, or lower transfer.head_share"
            )
    if longest < 1 or not len(groups.head_users):
        warn(
            f"transfer: no head user's history can be cut to a tail user's (up to {groups.tail_user:g} items); "
            "training without the user branch"
        )
        return None
    return UserTransfer(config, given.data, groups, len(given.loader), longest, given.world)
