"""Tail items' rows, computed from their contexts, and written in place of what was there.

    q_i <- T_I(mean over all contexts C of i of f(C)),   or of f(C) + T_U(f(C))

What T_I starts from is found here too, by least squares on the rows of head items.

Shapes: n items, N contexts, C channels of all views, D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.attention import Tokens
from llm_esr.loading.contexts import Contexts
from llm_esr.loading.staging import to_device
from llm_esr.models import SequentialEncoder
from llm_esr.training.weights import Weights

States = tuple[Tensor, NDArray[np.int64]]  # of some contexts, [N, C], and their items, [N]

_USERS = 2048  # whose histories are encoded at once
_RIDGE = 0.01
_CONTEXTS = 2048  # that are encoded at once, where each is a sequence of its own


@torch.no_grad()
def tail_rows(model: SequentialEncoder, contexts: Contexts, items_n: NDArray[np.int64], *, enhanced: bool) -> Tensor:
    """What T_I makes of some items' contexts, [n, D], without dropout.

    Args:
        model: with maps; its mode is left as it was.
        contexts: where they are read.
        items_n: ids, each with a context.
        enhanced: whether the user map is added to the contexts.

    """
    assert model.transfer is not None, "the caller has looked"
    rows_nD: Tensor = model.transfer.items(_inputs(model, contexts, items_n, enhanced))
    return rows_nD


def _inputs(model: SequentialEncoder, contexts: Contexts, items_n: NDArray[np.int64], enhanced: bool) -> Tensor:
    """What T_I is applied to, [n, C]."""
    assert model.transfer is not None
    was_training = model.training
    model.eval()
    means_nC = context_means(model, contexts, items_n)
    model.train(was_training)
    return model.transfer.enhanced(means_nC) if enhanced else means_nC


@torch.no_grad()
def fit_item_map(weights: Weights, contexts: Contexts, items_n: NDArray[np.int64], *, enhanced: bool) -> None:
    """Set T_I to the ridge regression from the contexts of items to their rows, in double precision on the CPU.

    The penalty is `_RIDGE` times the mean square of a centred input, for each item; the bias has none.

    Args:
        weights: what is trained; the averaged model gets the same map.
        contexts: where they are read.
        items_n: ids of head items, each with a context.
        enhanced: as of `tail_rows`.

    """
    if not len(items_n):
        return
    model = weights.model
    assert model.transfer is not None and model.item_table is not None
    inputs_nC = _inputs(model, contexts, items_n, enhanced).cpu().double()
    rows_nD = model.item_table(to_device(items_n, model.device)).cpu().double()
    input_C, row_D = inputs_nC.mean(dim=0), rows_nD.mean(dim=0)
    centred_nC = inputs_nC - input_C
    penalty = _RIDGE * float(centred_nC.square().sum()) / centred_nC.shape[1] + 1e-12
    squares_CC = centred_nC.T @ centred_nC + penalty * torch.eye(centred_nC.shape[1], dtype=torch.float64)
    map_CD = torch.linalg.solve(squares_CC, centred_nC.T @ (rows_nD - row_D))
    for one in (model, weights.evaluated()):
        assert one.transfer is not None
        one.transfer.items.weight.copy_(map_CD.T)
        one.transfer.items.bias.copy_(row_D - input_C @ map_CD)


@torch.no_grad()
def context_means(model: SequentialEncoder, contexts: Contexts, items_n: NDArray[np.int64]) -> Tensor:
    """The mean state of each item's contexts, [n, C]; two passes over the histories where the model allows it."""
    place_I = np.full(contexts.n_items + 1, -1)
    place_I[items_n] = np.arange(len(items_n))
    sums_nC: Tensor | None = None
    shares = _shared(model, contexts, place_I >= 0) if model.config.prefixes_agree else _apart(model, contexts, items_n)
    for states_NC, owners_N in shares:
        if sums_nC is None:
            sums_nC = states_NC.new_zeros(len(items_n), states_NC.shape[1])
        sums_nC.index_add_(0, to_device(place_I[owners_N], states_NC.device), states_NC)
    assert sums_nC is not None, "each item has a context"
    return sums_nC / to_device(contexts.counts(items_n), sums_nC.device)[:, None]


def _shared(model: SequentialEncoder, contexts: Contexts, wanted: NDArray[np.bool_]) -> Iterator[States]:
    for first in range(0, contexts.n_users, _USERS):
        found = contexts.pass_over(first, min(first + _USERS, contexts.n_users), wanted)
        if len(found.tokens):
            states_TC = model(Tokens(model.sequences(*found.histories), model.device))
            yield states_TC.index_select(0, to_device(found.tokens, model.device)), found.owners


def _apart(model: SequentialEncoder, contexts: Contexts, items_n: NDArray[np.int64]) -> Iterator[States]:
    owners_N, numbers_N = np.repeat(items_n, contexts.counts(items_n)), contexts.of(items_n)
    for first in range(0, len(numbers_N), _CONTEXTS):
        chosen = slice(first, first + _CONTEXTS)
        yield model.last_states(model.sequences(*contexts.read(numbers_N[chosen]))), owners_N[chosen]


@torch.no_grad()
def write_rows(
    weights: Weights, items_n: NDArray[np.int64], rows_nD: Tensor, *, keep: float, reset_moments: bool
) -> None:
    """Write rows [n, D] into the item table of a training's model, and the same into its averaged one.

    Args:
        weights: what is trained.
        items_n: ids.
        rows_nD: the rows.
        keep: share of the trained rows that stays.
        reset_moments: whether Adam's moments of these rows become zero.

    """
    index_n = to_device(items_n, rows_nD.device)
    table = weights.model.item_table
    assert table is not None, "the configuration asks for one"
    averaged = weights.evaluated().item_table
    assert averaged is not None
    rows_nD = torch.lerp(rows_nD.to(table.weight.dtype), table.weight[index_n], keep)
    for one in (table, averaged):
        one.weight[index_n] = rows_nD
    if reset_moments:
        for name, moment in weights.optimizer.state.get(table.weight, {}).items():
            if name != "step":
                moment[index_n] = 0
