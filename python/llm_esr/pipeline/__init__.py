"""Whole runs: `run` for models and seeds, `tune` for settings, `demo` on simulated data, `doctor` for installations."""

from llm_esr.pipeline.demo import demo
from llm_esr.pipeline.doctor import Finding, doctor
from llm_esr.pipeline.reports import evaluate_folder
from llm_esr.pipeline.run_folder import ModelId, RunFolder
from llm_esr.pipeline.runs import Run, run
from llm_esr.pipeline.search import TrialResult, Tuning, tune

__all__ = [
    "Finding",
    "ModelId",
    "Run",
    "RunFolder",
    "TrialResult",
    "Tuning",
    "demo",
    "doctor",
    "evaluate_folder",
    "run",
    "tune",
]
