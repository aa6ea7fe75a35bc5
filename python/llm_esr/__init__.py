"""LLM-ESR: sequential recommendation for the long tail.

The stages are functions, `llm_esr.prepare`, `embed`, `index`, `train`; `llm_esr.run` does them all for a grid of
models and seeds, and skips what is fresh. `llm_esr.Recommender` evaluates and recommends. Each is imported when it
is first asked for, so that `import llm_esr` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that holds it; the types stand at the end of the file.
_HOMES = {
    "BatchLoader": "llm_esr.loading",
    "Config": "llm_esr.config",
    "Dataset": "llm_esr.data",
    "LoaderOptions": "llm_esr.loading",
    "Popularity": "llm_esr.scoring",
    "Recommender": "llm_esr.serving",
    "Report": "llm_esr.evaluation",
    "Run": "llm_esr.pipeline",
    "UnforeseenError": "llm_esr.doors",
    "convert": "llm_esr.published",
    "demo": "llm_esr.pipeline",
    "doctor": "llm_esr.pipeline",
    "embed": "llm_esr.semantics",
    "export_model": "llm_esr.serving.export",
    "index": "llm_esr.retrieval",
    "load_config": "llm_esr.config",
    "prepare": "llm_esr.data",
    "run": "llm_esr.pipeline",
    "simulate": "llm_esr.simulation",
    "train": "llm_esr.training",
    "tune": "llm_esr.pipeline.search",
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
    from llm_esr.data import Dataset as Dataset
    from llm_esr.data.prepare import prepare as prepare
    from llm_esr.doors import UnforeseenError as UnforeseenError
    from llm_esr.evaluation import Report as Report
    from llm_esr.loading import BatchLoader as BatchLoader
    from llm_esr.loading import LoaderOptions as LoaderOptions
    from llm_esr.pipeline import Run as Run
    from llm_esr.pipeline import run as run
    from llm_esr.pipeline.demo import demo as demo
    from llm_esr.pipeline.doctor import doctor as doctor
    from llm_esr.pipeline.search.tune import tune as tune
    from llm_esr.published.convert import convert as convert
    from llm_esr.retrieval.index import index as index
    from llm_esr.scoring import Popularity as Popularity
    from llm_esr.semantics.embed import embed as embed
    from llm_esr.serving import Recommender as Recommender
    from llm_esr.serving.export import export_model as export_model
    from llm_esr.simulation import simulate as simulate
    from llm_esr.training.train import train as train
