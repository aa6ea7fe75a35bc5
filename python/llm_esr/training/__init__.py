"""Training: losses, the loop, checkpoints."""

from llm_esr.training.callbacks import Callback, TensorBoard, TerminalProgress
from llm_esr.training.loop import EpochReport, StepReport, Trainer
from llm_esr.training.train import build_loader, build_model, default_folder, is_finished, train

__all__ = [
    "Callback",
    "EpochReport",
    "StepReport",
    "TensorBoard",
    "TerminalProgress",
    "Trainer",
    "build_loader",
    "build_model",
    "default_folder",
    "is_finished",
    "train",
]
