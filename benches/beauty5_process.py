"""How long a training epoch of LLM-ESR on beauty5 takes, and waits for its loader.

`python benches/beauty5_process.py DATA llm-esr` trains one epoch of the preset with the package's own loop, without
validation, and prints one JSON object: seconds of each epoch and of all, seconds inside `next(loader)`, steps. With
`--lists FILE` it writes the ten best items of every user with a test item: of the last (averaged) weights.
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

import numpy as np
import torch

from llm_esr import Dataset
from llm_esr.config import load_config
from llm_esr.evaluation import rankable_users
from llm_esr.loading import Batch, BatchLoader
from llm_esr.models import SequentialEncoder
from llm_esr.scoring import NetworkScorer
from llm_esr.scoring.lists import top_k
from llm_esr.training.terms import TermData, build_terms
from llm_esr.training.train import build_loader, build_model
from llm_esr.training.trainer import Trainer


class Waited:
    """A loader that adds up the time spent inside `next`; everything else is the loader's."""

    def __init__(self, loader: BatchLoader, most_steps: int | None) -> None:
        self.loader, self.most_steps = loader, most_steps
        self.epochs: list[float] = []
        self.waited, self.steps = 0.0, 0

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
        self.epochs.append(time.perf_counter() - began)


def write_lists(model: SequentialEncoder, data: Dataset, path: Path, length: int = 10) -> None:
    """The best items of every user with a test item, int32 [n, length]; earlier items are in no list."""
    users, _ = rankable_users(data, "test")
    scorer = NetworkScorer(model, "sasrec")
    lists = []
    for part in np.array_split(users, 1 + len(users) // 512):
        histories = data.histories(part, "test")
        lists.append(top_k(scorer.scores(*histories), length, histories)[0])
    np.save(path, np.concatenate(lists))


def main() -> None:
    """Train and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("preset", help="or a YAML file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="end the epoch early")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="a setting, KEY=VALUE")
    parser.add_argument("--lists", type=Path, help="where to write lists for the test")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = Dataset.open(given.data)
    fixed = [f"train.epochs={given.epochs}", "runtime.device=cpu", "checkpoint.every_steps=1000000"]
    config = load_config(given.preset, [*fixed, *given.set])
    loader = Waited(build_loader(data, config), given.steps)
    model, _ = build_model(data, config)
    terms = build_terms(config, TermData(model.device, loader, data))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, loader, config, Path(folder), terms=terms).fit()  # type: ignore[arg-type]
    if given.lists:
        write_lists(model, data, given.lists)
    seconds = {"seconds": sum(loader.epochs), "epochs": loader.epochs}
    print(json.dumps({**seconds, "waited": loader.waited, "steps": loader.steps}))


if __name__ == "__main__":
    main()
