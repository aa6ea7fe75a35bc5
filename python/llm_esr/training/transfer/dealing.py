"""Head users and head items, dealt out over the steps of an epoch in an order of the epoch's own."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llm_esr import _native
from llm_esr.world import World


class Dealing:
    """Each member comes once an epoch (with `shortest` at most once).

    Args:
        members: int64 [n].
        steps: ranking batches of an epoch.
        how: `all`: spread evenly over all steps. `shortest`: n // (steps - 1) + 1 a step, as in the authors' code, so
            that the epoch is over before the ranking batches are.
        owner: names the order: another number, another order. 0 is that of the students.
        seed: of the training.
        world: who shares a step; default: one process.

    Raises:
        ValueError: `shortest` with a single ranking batch.

    """

    def __init__(
        self,
        members: NDArray[np.int64],
        steps: int,
        how: Literal["all", "shortest"],
        *,
        owner: int,
        seed: int,
        world: World | None = None,
    ) -> None:
        if how == "shortest" and steps < 2:
            raise ValueError(
                f"transfer.steps shortest deals head users and items over all ranking batches but one, and there is "
                f"{steps}; lower train.batch_size, or set transfer.steps to all"
            )
        self._members, self._owner, self._seed = members, owner, seed
        self._each = len(members) // (steps - 1) + 1 if how == "shortest" else None
        self._steps, self._world = steps, world or World()
        self._order: tuple[int, NDArray[np.int64]] | None = None

    @property
    def most_steps(self) -> int | None:
        """Steps after which all are dealt out, where the epoch ends with them; None: all ranking batches run."""
        return None if self._each is None else -(-len(self._members) // self._each)

    def of(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The members of a step, or this rank's share of them; the same whatever was asked before."""
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, _native.shuffled(self._members, self._owner, self._seed, epoch))
        order = self._order[1]
        if self._each is not None:
            dealt = order[step * self._each : (step + 1) * self._each]
        else:
            dealt = order[len(order) * step // self._steps : len(order) * (step + 1) // self._steps]
        return dealt[self._world.share(len(dealt))]
