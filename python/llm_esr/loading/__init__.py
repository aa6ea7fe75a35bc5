"""Batches for training and sequences for everything else.

In: a data folder (`offsets.npy`, `items.npy`, `splits.npy`; where asked for `similar_users.npy`, `similar_items.npy`
and their scores). Out: one `Batch` a training step, as NumPy arrays. The work is done in Rust, without the GIL.
"""

from __future__ import annotations

from llm_esr._native import Batch, Sequences
from llm_esr.loading.batch_loader import BatchLoader
from llm_esr.loading.candidates import sample_candidates
from llm_esr.loading.options import Augmentation, LoaderOptions
from llm_esr.loading.sequences import build_sequences

__all__ = ["Augmentation", "Batch", "BatchLoader", "LoaderOptions", "Sequences", "build_sequences", "sample_candidates"]
