"""What gives scores of the whole catalogue: the network, popularity; evaluation and serving stand on it."""

from llm_esr.scoring.popularity import Popularity
from llm_esr.scoring.scorer import ModelScorer, Scorer

__all__ = ["ModelScorer", "Popularity", "Scorer"]
