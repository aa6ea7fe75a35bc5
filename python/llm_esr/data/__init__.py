"""The data set: from clean columns to numbered, split interactions on disk."""

from llm_esr.data.dataset import Dataset
from llm_esr.data.prepare import prepare, prepare_key

__all__ = ["Dataset", "prepare", "prepare_key"]
