"""A trained model at work: recommendations for known users and for histories of people never seen."""

from llm_esr.serving.ids import read_user_ids
from llm_esr.serving.recommend import NothingLeft
from llm_esr.serving.recommender import Recommender

__all__ = ["NothingLeft", "Recommender", "read_user_ids"]
