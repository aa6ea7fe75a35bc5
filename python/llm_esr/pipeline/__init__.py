"""Whole runs: `run` for a grid of models and seeds, `demo` on simulated data, `doctor` for what is installed."""

from llm_esr.pipeline.demo import demo
from llm_esr.pipeline.doctor import Finding, doctor
from llm_esr.pipeline.reports import evaluate_folder
from llm_esr.pipeline.run_folder import ModelId, RunFolder
from llm_esr.pipeline.runs import Run, run

__all__ = ["Finding", "ModelId", "Run", "RunFolder", "demo", "doctor", "evaluate_folder", "run"]
