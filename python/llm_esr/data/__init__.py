"""From raw tables to a data set folder, and the folder opened."""

from llm_esr.data.convert import convert
from llm_esr.data.dataset import Dataset
from llm_esr.data.prepare import prepare, prepare_key

__all__ = ["Dataset", "convert", "prepare", "prepare_key"]
