"""Similar users and nearest items: engines that find them, and the files that training reads."""

from llm_esr.retrieval.engines import ENGINES
from llm_esr.retrieval.index import COMPARED_BY, index, index_fresh, index_key, neighbours_match, scores_match
from llm_esr.retrieval.neighbours import nearest
from llm_esr.retrieval.user_vectors import UserVectors

__all__ = [
    "COMPARED_BY",
    "ENGINES",
    "UserVectors",
    "index",
    "index_fresh",
    "index_key",
    "nearest",
    "neighbours_match",
    "scores_match",
]
