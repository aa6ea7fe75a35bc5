"""A training step on a large catalogue: lazy updates of the item table beside dense ones."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable

import torch
from measuring import Results, Row, alternating, median_ratio, rate_of
from our_loader import endless
from workload import Size, Workload, make_workload

from llm_esr.config import load_config
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.training import build_loader
from llm_esr.training.averaging import AveragedModel
from llm_esr.training.optimizer import build_optimizer, clip_gradients, lazy_table
from llm_esr.training.step import compute_losses, total_loss
from llm_esr.training.terms import TermData, build_terms

SECTION = "tables"
TITLE = "Large catalogues"
THREADS = 2
STEPS = 3
CATALOGUES = (30_000, 1_000_000)


def about(size: Size) -> str:
    return (
        f"A training step of the preset `sasrec` (width 64): forward, backward, clipping, Adam, averaged weights, with "
        "`train.table_updates` lazy beside dense, on the usual users with catalogues of "
        f"{' and '.join(f'{n:,}' for n in _catalogues(size))} items. Lazy updates are another algorithm (rows stand "
        "still until they are met), so the two do not learn the same weights; docs/quality.md compares their quality."
    )


def measure(size: Size) -> Results:
    rows = []
    for n_items in _catalogues(size):
        work = make_workload(size.users, n_items, size.mean_length, 1)
        rates = {updates: rate_of(stepper(work, size, updates), THREADS) for updates in ("lazy", "dense")}
        found = alternating(rates, size.repeats)
        rows.append(
            Row(SECTION, f"lazy updates, {n_items:,} items", statistics.median(found["lazy"]), "steps/s", THREADS,
                "dense updates", statistics.median(found["dense"]), median_ratio(found["lazy"], found["dense"]))
        )  # fmt: skip
    return Results(rows)


def _catalogues(size: Size) -> tuple[int, ...]:
    return CATALOGUES if size.items >= CATALOGUES[0] else (size.items,)


def stepper(work: Workload, size: Size, updates: str) -> Callable[[], int]:
    """A few steps a call, as the training loop does them."""
    config = load_config("sasrec", [f"train.table_updates={updates}", f"model.max_len={min(size.max_len, 50)}"])
    torch.manual_seed(0)
    model = SequentialEncoder(config.model, ModelData(work.n_items))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the advice to be lazy is what is measured here
        table = lazy_table(model, config)
    optimizer = build_optimizer(model, config, table)
    averaged = AveragedModel(model, config.train.averaging, table) if config.train.averaging else None
    batches = endless(build_loader(work, config))  # type: ignore[arg-type]
    terms = build_terms(config, TermData(model.device))

    def run() -> int:
        for _ in range(STEPS):
            loss = total_loss(compute_losses(model, next(batches), terms), terms)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            clip_gradients(model.parameters(), config.train.clip_norm or 5.0)
            if averaged is not None:
                averaged.before_step()
            optimizer.step()
            if averaged is not None:
                averaged.update()
        return STEPS

    return run
