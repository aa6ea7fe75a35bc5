"""The softmax over the whole catalogue: ours beside torch over materialised scores, and beside its products."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from measuring import Results, Row, alternating, median_ratio, rate_of
from torch import Tensor
from workload import SMALL, Size

from llm_esr.training.catalogue_softmax import _SCORES, MetItems, catalogue_softmax
from llm_esr.training.loss_choice import SAMPLED

SECTION = "catalogue"
TITLE = "Softmax over the whole catalogue"
THREADS = 2
WIDTH, TEXTS = 128, 384
CROSSING = (6_000, 12_101, 25_000, 50_000, 100_000)  # items, beside 4,096 sampled ones


@dataclass(frozen=True)
class Case:
    """One step's states, items and what was met."""

    states_MC: Tensor
    vectors_IC: Tensor
    targets_M: Tensor
    met: MetItems
    masked_MI: Tensor
    profiles_ME: Tensor | None
    texts_IE: Tensor | None


def about(size: Size) -> str:
    return (
        f"Loss and all gradients of one step, width {WIDTH}, two threads, alone and with {TEXTS} text channels beside. "
        "`torch` makes all scores, masks what was met and takes cross_entropy; `products` are the matrix products "
        "alone, over the same chunks as ours. Losses and gradients are checked equal before. Ratios are within one "
        "run. "
        f"{SAMPLED:,} sampled are shared negatives in place of the catalogue, another loss: what `train.loss: auto` "
        "takes for large catalogues."
    )


def measure(size: Size) -> Results:
    shapes = [(560, 12_101), (560, 100_000)] if size is not SMALL else [(40, 300)]
    rows: list[Row] = []
    for count, items in shapes:
        for texts in (0, TEXTS if size is not SMALL else 16):
            case = make_case(count, items, texts)
            check(case)
            rows += compare(
                case, f"{count} targets, {items:,} items" + (f", {texts} text channels" if texts else ""), size
            )
    for items in CROSSING if size is not SMALL else (300,):
        rows.append(beside_sampled(make_case(900 if size is not SMALL else 40, items, 0), size))
    return Results(rows)


def beside_sampled(case: Case, size: Size) -> Row:
    count, items = len(case.states_MC), len(case.vectors_IC)
    found = alternating(
        {
            "whole": rate_of(lambda: int(ours(case) is not None), THREADS),
            "sampled": rate_of(lambda: int(sampled(case) is not None), THREADS),
        },
        size.repeats,
    )
    middle = {key: statistics.median(rates) for key, rates in found.items()}
    return Row(SECTION, f"{count} targets, {items:,} items", middle["whole"], "steps/s", THREADS,
               f"{SAMPLED:,} sampled", middle["sampled"], median_ratio(found["whole"], found["sampled"]))  # fmt: skip


def sampled(case: Case) -> tuple[Tensor, ...]:
    """The softmax over the target and shared negatives, with its gradients."""
    negatives_N = torch.randint(len(case.vectors_IC), (SAMPLED,))
    target_M1 = (case.states_MC * case.vectors_IC[case.targets_M]).sum(dim=1, keepdim=True)
    scores = torch.cat([target_M1, case.states_MC @ case.vectors_IC[negatives_N].T], dim=1)
    loss = F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))
    return torch.autograd.grad(loss, wanted(case))


def compare(case: Case, name: str, size: Size) -> list[Row]:
    def timed(work: Callable[[Case], object], times: int) -> Callable[[], float]:
        return rate_of(lambda: sum(work(case) is not None for _ in range(times)), THREADS)

    times = 3 if size is not SMALL else 1
    found = alternating(
        {"ours": timed(ours, times), "torch": timed(materialised, times), "products": timed(products, times)},
        size.repeats,
    )
    middle = {key: statistics.median(rates) for key, rates in found.items()}
    return [
        Row(SECTION, name, middle["ours"], "steps/s", THREADS, "torch, materialised scores", middle["torch"],
            median_ratio(found["ours"], found["torch"]), ">= 2"),
        Row(SECTION, name, middle["ours"], "steps/s", THREADS, "the products alone", middle["products"],
            median_ratio(found["ours"], found["products"]), ">= .74"),
    ]  # fmt: skip


def make_case(count: int, items: int, texts: int) -> Case:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    users = max(count // 5, 1)
    student_M = np.sort(rng.integers(0, users, count))
    lengths = rng.integers(3, 20, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    histories = rng.integers(1, items + 1, offsets[-1]).astype(np.int32)
    targets = torch.from_numpy(rng.integers(0, items, count))
    met = MetItems.of(histories, offsets, student_M, torch.device("cpu"))
    masked = torch.zeros(count, items, dtype=torch.bool)
    masked[met.pairs(0, count)] = True
    masked[torch.arange(count), targets] = False
    return Case(
        torch.randn(count, WIDTH, requires_grad=True),
        (0.1 * torch.randn(items, WIDTH)).requires_grad_(),
        targets,
        met,
        masked,
        torch.randn(count, texts, requires_grad=True) if texts else None,
        F.normalize(torch.randn(items, texts), dim=1) if texts else None,
    )


def wanted(case: Case) -> list[Tensor]:
    return [case.states_MC, case.vectors_IC] + ([] if case.profiles_ME is None else [case.profiles_ME])


def ours(case: Case) -> tuple[Tensor, ...]:
    loss = catalogue_softmax(case.states_MC, case.vectors_IC, case.targets_M, case.met, case.profiles_ME, case.texts_IE)
    return torch.autograd.grad(loss, wanted(case))


def materialised(case: Case) -> tuple[Tensor, ...]:
    scores_MI = case.states_MC @ case.vectors_IC.T
    if case.profiles_ME is not None and case.texts_IE is not None:
        scores_MI = scores_MI + case.profiles_ME @ case.texts_IE.T
    loss = F.cross_entropy(scores_MI.masked_fill(case.masked_MI, -torch.inf), case.targets_M)
    return torch.autograd.grad(loss, wanted(case))


@torch.no_grad()
def products(case: Case) -> Tensor:
    """The products of scores and gradients, over chunks as ours has them."""
    rows = max(32, _SCORES // len(case.vectors_IC))
    total_IC = torch.zeros_like(case.vectors_IC)
    for start in range(0, len(case.states_MC), rows):
        states = case.states_MC[start : start + rows]
        scores = states @ case.vectors_IC.T
        if case.profiles_ME is not None and case.texts_IE is not None:
            scores.addmm_(case.profiles_ME[start : start + rows], case.texts_IE.T)
            _ = scores @ case.texts_IE
        _ = scores @ case.vectors_IC
        total_IC.addmm_(scores.T, states)
    return total_IC


def check(case: Case) -> None:
    for one, other in zip(ours(case), materialised(case), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
