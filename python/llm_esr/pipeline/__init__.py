"""Whole runs: `run` for a grid of models and seeds, `demo` on simulated data, `doctor` for what is installed.

Each is imported when it is first asked for: what checks settings needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Finding": "doctor",
    "ModelId": "run_folder",
    "Run": "runs",
    "RunFolder": "run_folder",
    "demo": "demo",
    "doctor": "doctor",
    "evaluate_folder": "reports",
    "run": "runs",
}

__all__ = [*_HOMES]  # noqa: PLE0604  (every name is a string)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llm_esr.pipeline' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"llm_esr.pipeline.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    from llm_esr.pipeline.demo import demo as demo
    from llm_esr.pipeline.doctor import Finding as Finding
    from llm_esr.pipeline.doctor import doctor as doctor
    from llm_esr.pipeline.reports import evaluate_folder as evaluate_folder
    from llm_esr.pipeline.run_folder import ModelId as ModelId
    from llm_esr.pipeline.run_folder import RunFolder as RunFolder
    from llm_esr.pipeline.runs import Run as Run
    from llm_esr.pipeline.runs import run as run
