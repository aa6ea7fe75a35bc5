"""Similar users and nearest items: engines that find them, and the files that training reads."""

from llm_esr.retrieval.engines import ENGINES
from llm_esr.retrieval.index import index, index_fresh, index_key, neighbours_match
from llm_esr.retrieval.neighbours import nearest

__all__ = ["ENGINES", "index", "index_fresh", "index_key", "nearest", "neighbours_match"]
