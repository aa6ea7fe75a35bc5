"""Our loader with the settings that its peers have: one own negative a target, from the whole catalogue."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from workload import Size, Workload

from llm_esr.loading import Batch, BatchLoader

WAITING = 32  # more batches than background threads prepare ahead; taken before the clock starts


def our_loader(work: Workload, size: Size, **options: Any) -> BatchLoader:
    """Without similar users and background threads unless `options` ask for them."""
    common: dict[str, Any] = {"batch_size": size.batch_size, "max_len": size.max_len, "threads": 0}
    common |= {"negatives": "own", "n_negatives": 1, "catalogue": "all"}
    return BatchLoader(work, **{**common, **options})  # type: ignore[arg-type]


def endless(loader: BatchLoader) -> Iterator[Batch]:
    """Epoch after epoch."""
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from loader


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """Every array of a batch as the training step takes it: nothing may stay lazy."""
    sequences = [batch.students] if batch.teachers is None else [batch.students, batch.teachers]
    arrays = [batch.users, batch.negatives]
    arrays += [a for s in sequences for a in (s.items, s.positions, s.targets, s.offsets, s.slots)]
    return [torch.from_numpy(a) for a in arrays + ([] if batch.teacher_index is None else [batch.teacher_index])]


def take(batches: Iterator[Batch], steps: int) -> int:
    """Run through so many batches."""
    for batch in itertools.islice(batches, steps):
        tensors_of(batch)
    return steps
