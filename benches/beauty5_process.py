"""How long a training epoch of LLM-ESR on beauty5 waits for its loader.

`python benches/beauty5_process.py DATA llm-esr` trains one epoch of the preset with the package's own loop and prints
one JSON object: seconds of the epoch, seconds inside `next(loader)`, steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from llm_esr import Dataset
from llm_esr.config import load_config
from llm_esr.loading import Batch, BatchLoader
from llm_esr.training.terms import TermData, build_terms
from llm_esr.training.train import build_loader, build_model
from llm_esr.training.trainer import Trainer


class Waited:
    """A loader that adds up the time spent inside `next`; everything else is the loader's."""

    def __init__(self, loader: BatchLoader, most_steps: int | None) -> None:
        self.loader, self.most_steps = loader, most_steps
        self.seconds, self.waited, self.steps = 0.0, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        began = time.perf_counter()
        batches = itertools.islice(iter(self.loader), self.most_steps)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                break
            self.steps += 1
            yield batch
        self.seconds = time.perf_counter() - began


def main() -> None:
    """Train the epoch and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("preset", help="or a YAML file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="end the epoch early")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = Dataset.open(given.data)
    config = load_config(given.preset, ["train.epochs=1", "runtime.device=cpu", "checkpoint.every_steps=1000000"])
    loader = Waited(build_loader(data, config), given.steps)
    model, _ = build_model(data, config)
    terms = build_terms(config, TermData(model.device, loader, data))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, loader, config, Path(folder), terms=terms).fit()  # type: ignore[arg-type]
    print(json.dumps({"seconds": loader.seconds, "waited": loader.waited, "steps": loader.steps}))


if __name__ == "__main__":
    main()
