"""Batches for training: sequences, negatives and similar users, prepared by Rust threads."""

from llm_esr.loading.loader import Batch, BatchLoader, sample_candidates
from llm_esr.loading.sequences import Sequences, build_sequences

__all__ = ["Batch", "BatchLoader", "Sequences", "build_sequences", "sample_candidates"]
