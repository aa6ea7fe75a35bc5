"""From raw tables to a data set folder, and the folder opened."""

from llm_esr.data.dataset import Dataset
from llm_esr.data.prepare import prepare, prepare_key

__all__ = ["Dataset", "prepare", "prepare_key"]
