"""A step that several ranks share: their gradients together are those of the whole batch in one process.

    losses of a share, means over n of N things --times n / N--> backward --sum over ranks--> the batch's gradients

Each term has an n and N of its own (`Term.count`), so it does not matter that one rank has long histories and another
short ones, or none. What is logged is added up with the gradients, and is the same on all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from llm_esr.files.checkpoint import load_random, random_tensors, with_prefix
from llm_esr.training.optimizer import touched_rows
from llm_esr.world import World

if TYPE_CHECKING:
    from llm_esr.training.forward import Forward
    from llm_esr.training.terms import Term


def by_share(
    losses: dict[str, Tensor], forward: Forward, terms: Sequence[Term], world: World, told: Sequence[bool]
) -> tuple[dict[str, Tensor], bool, list[bool]]:
    """Losses that add up over ranks.

    Args:
        losses: of this rank's share of the step, by name.
        forward: of the share.
        terms: of the step.
        world: who shares it.
        told: what this rank has to say beside, as many things on all ranks.

    Returns:
        the losses; whether any rank has one; of each thing in `told` whether any rank says so.

    """
    # Over rows the loss of a share without students has no gradient.
    losses = {name: loss for name, loss in losses.items() if loss.requires_grad}
    counts = [term.count(forward) if term.name in losses else 0 for term in terms]
    totals = world.sums(np.array([*counts, len(losses), *told], np.int64))
    shares = {term.name: n / max(int(total), 1) for term, n, total in zip(terms, counts, totals, strict=False)}
    scaled = {name: loss * shares[name] for name, loss in losses.items()}
    return scaled, bool(totals[len(counts)]), [bool(said) for said in totals[len(counts) + 1 :]]


@torch.no_grad()
def add_gradients(parameters: Sequence[nn.Parameter], table: Tensor | None, values: Tensor, world: World) -> None:
    """Put the sums over ranks in the place of all gradients and of `values`.

    Args:
        parameters: all that are trained, in one order on all ranks. One that no rank has a gradient of stays without.
        table: the one whose gradient is sparse; None: none.
        values: what is added up on the way, [n], float32.
        world: who adds.

    """
    have = world.sums(np.array([parameter.grad is not None for parameter in parameters], np.int64))
    dense = []
    for parameter, count in zip(parameters, have, strict=True):
        if not count:
            continue
        if parameter is table:
            _add_rows(parameter, world)
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dense.append(parameter.grad)
    world.add([*dense, values])


def _add_rows(table: nn.Parameter, world: World) -> None:
    rows_r = touched_rows(table)
    if rows_r is None:
        rows_r = torch.empty(0, dtype=torch.int64, device=table.device)
        values_rD = table.new_empty(0, table.shape[1])
    else:
        assert table.grad is not None
        values_rD = table.grad.values()
    rows_r, values_rD = world.added_rows(rows_r, values_rD)
    table.grad = torch.sparse_coo_tensor(rows_r[None], values_rD, table.shape, is_coalesced=True)


def draw_apart(seed: int, world: World, *, step: int = 0) -> None:
    """Let each rank draw other numbers; rank 0 draws what one process would.

    Args:
        seed: of the training.
        world: the ranks.
        step: where a training goes on with more ranks than it had.

    """
    if not world.is_first:
        (drawn,) = np.random.SeedSequence([seed, world.rank, step]).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn))


def random_of_all(device: torch.device, world: World) -> dict[str, Tensor]:
    """The states of the ranks' generators, for a checkpoint; rank 0's have the names that one process gives them."""
    found = {}
    for name, state in random_tensors(device).items():
        for rank, tensor in enumerate(world.gathered(state)):
            found[name if rank == 0 else f"ranks/{rank}/{name}"] = tensor
    return found


def load_random_of(device: torch.device, tensors: dict[str, Tensor], seed: int, step: int, world: World) -> None:
    """Put back this rank's state; a rank that the checkpoint does not have draws anew, from `seed` and `step`."""
    own = tensors if world.is_first else with_prefix(f"ranks/{world.rank}", tensors)
    if own:
        load_random(device, own)
    else:
        draw_apart(seed, world, step=step)
