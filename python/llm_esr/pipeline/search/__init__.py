"""`tune`: a search over settings with Optuna, each trial a training on the same data, judged on validation."""

from llm_esr.pipeline.search.result import TrialResult, Tuning
from llm_esr.pipeline.search.tune import tune

__all__ = ["TrialResult", "Tuning", "tune"]
