"""The training step in pytest-benchmark's table: ours only, since the authors' takes a minute and 14 GB."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from our_loader import endless
from our_step import OurStep, make_model, step_config, step_loader, text_embeddings
from workload import Size, Workload, usual

SIZE = Size.from_environment()


@pytest.fixture(scope="module")
def work() -> Workload:
    return usual(SIZE)


@pytest.mark.parametrize("mode", ["paper", "corrected"])
def test_step(benchmark: Any, work: Workload, mode: str) -> None:
    torch.set_num_threads(2)
    config = step_config(SIZE, mode=mode)
    step = OurStep(make_model(SIZE, config, text_embeddings(SIZE, work.n_items)), config)
    batches = endless(step_loader(work, SIZE, config))
    benchmark.pedantic(lambda: step(next(batches)), rounds=10, warmup_rounds=2)
    torch.set_num_threads(1)
