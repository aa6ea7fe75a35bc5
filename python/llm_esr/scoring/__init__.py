"""What gives scores of the whole catalogue: the network, and scorers that need no training.

Evaluation and serving stand on it.
"""

from llm_esr.scoring.network import NetworkScorer, SequenceModel
from llm_esr.scoring.popularity import Popularity
from llm_esr.scoring.scorer import Scorer
from llm_esr.scoring.table import UNTRAINED, build_untrained

__all__ = ["UNTRAINED", "NetworkScorer", "Popularity", "Scorer", "SequenceModel", "build_untrained"]
