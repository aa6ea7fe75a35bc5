"""LLM-ESR: sequential recommendation for the long tail.

The stages are functions, `llm_esr.prepare`, `embed`, `index`, `train`; `llm_esr.run` does them all for a grid of
models and seeds, and skips what is fresh. `llm_esr.Recommender` evaluates and recommends. Each is imported when it
is first asked for, so that `import llm_esr` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that holds it.
_HOMES = {
    "BatchLoader": "llm_esr.loading",
    "Config": "llm_esr.config",
    "Dataset": "llm_esr.data",
    "Popularity": "llm_esr.scoring",
    "Recommender": "llm_esr.serving",
    "Report": "llm_esr.evaluation",
    "convert": "llm_esr.published",
    "demo": "llm_esr.pipeline",
    "doctor": "llm_esr.pipeline",
    "embed": "llm_esr.semantics",
    "index": "llm_esr.retrieval",
    "load_config": "llm_esr.config",
    "prepare": "llm_esr.data",
    "run": "llm_esr.pipeline",
    "simulate": "llm_esr.simulation",
    "train": "llm_esr.training",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  (every name is a string)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llm_esr' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


if TYPE_CHECKING:
    from llm_esr.config import Config as Config
    from llm_esr.config import load_config as load_config
