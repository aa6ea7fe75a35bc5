"""GRU4Rec over flat sequences beside torch's own GRU over packed and over padded ones."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

import torch
from measuring import Results, Row, alternating, median_ratio, rate_of
from our_loader import our_loader
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence, pad_sequence
from workload import Size, Workload, full_rows, usual

from llm_esr.attention.tokens import Tokens
from llm_esr.config import load_config
from llm_esr.models.backbones.gru4rec import GRU4Rec

SECTION = "recurrent"
TITLE = "GRU4Rec"
THREADS = 2
STEPS = 4


def about(size: Size) -> str:
    return (
        f"Forward and backward of one recurrent layer, width {size.width}, over {size.batch_size} students' sequences: "
        "ours over flat tokens, longest sequences first, beside `torch.nn.GRU` over a `PackedSequence` and over "
        "sequences padded to the batch's longest. Outputs and gradients are checked equal before."
    )


def measure(size: Size) -> Results:
    rows = []
    for label, work in (("usual lengths", usual(size)), (f"full rows of {size.max_len}", full_rows(size))):
        runners = runners_of(work, size)
        check(runners)
        rates = {
            name: rate_of(lambda f=run: [f() for _ in range(STEPS)].__len__(), THREADS)  # type: ignore[misc]
            for name, run in runners.items()
        }
        found = alternating(rates, size.repeats)
        ours = found.pop("ours")
        rows += [
            Row(SECTION, f"GRU4Rec, {label}", statistics.median(ours), "steps/s", THREADS, peer,
                statistics.median(theirs), median_ratio(ours, theirs))
            for peer, theirs in found.items()
        ]  # fmt: skip
    return Results(rows)


Run = Callable[[], tuple[Tensor, Tensor]]


def runners_of(work: Workload, size: Size) -> dict[str, Run]:
    """Each gives the states of all tokens, [T, D], and the gradient of their squares' sum by the inputs, [T, D]."""
    batch = next(iter(our_loader(work, size)))
    lengths = torch.from_numpy(batch.students.offsets).diff().tolist()
    torch.manual_seed(0)
    inputs = torch.randn(sum(lengths), size.width)
    ours = GRU4Rec(load_config("gru4rec", [f"model.width={size.width}"]).model)
    theirs = nn.GRU(size.width, size.width, bias=False, batch_first=True)
    with torch.no_grad():
        for mine, their in ((ours.weight_ih, theirs.weight_ih_l0), (ours.weight_hh, theirs.weight_hh_l0)):
            mine.copy_(their)

    def ended(states: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        states.square().sum().backward()
        assert x.grad is not None
        return states.detach(), x.grad

    def flat() -> tuple[Tensor, Tensor]:
        x = inputs.clone().requires_grad_()
        return ended(ours(x[None], Tokens(batch.students))[0], x)

    def packed() -> tuple[Tensor, Tensor]:
        x = inputs.clone().requires_grad_()
        states, _ = theirs(pack_sequence(x.split(lengths), enforce_sorted=False))
        padded, _ = pad_packed_sequence(states, batch_first=True)
        return ended(real(padded), x)

    def padded() -> tuple[Tensor, Tensor]:
        x = inputs.clone().requires_grad_()
        return ended(real(theirs(pad_sequence(x.split(lengths), batch_first=True))[0]), x)

    def real(states: Tensor) -> Tensor:
        there = torch.arange(states.shape[1])[None] < torch.tensor(lengths)[:, None]
        return states[there]

    return {"ours": flat, "torch.nn.GRU, PackedSequence": packed, "torch.nn.GRU, padded": padded}


def check(runners: dict[str, Run]) -> None:
    """All give the same states and gradients."""
    found = [run() for run in runners.values()]
    for one, other in itertools.pairwise(found):
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
