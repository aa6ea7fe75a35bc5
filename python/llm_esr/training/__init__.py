"""Training: losses, the loop, checkpoints."""

from llm_esr.training.build import build_loader, build_model
from llm_esr.training.callbacks import Callback, TerminalProgress
from llm_esr.training.freshness import is_finished, with_limits_as_trained
from llm_esr.training.loggers import MLflow, TensorBoard, WeightsAndBiases
from llm_esr.training.terms import Term, TermData, build_terms
from llm_esr.training.train import default_folder, train
from llm_esr.training.trainer import EpochReport, StepReport, Trainer

__all__ = [
    "Callback",
    "EpochReport",
    "MLflow",
    "StepReport",
    "TensorBoard",
    "Term",
    "TermData",
    "TerminalProgress",
    "Trainer",
    "WeightsAndBiases",
    "build_loader",
    "build_model",
    "build_terms",
    "default_folder",
    "is_finished",
    "train",
    "with_limits_as_trained",
]
