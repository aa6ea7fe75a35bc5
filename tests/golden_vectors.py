"""Where the golden vectors of the authors' code are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

_FIXTURES = Path(__file__).parent / "fixtures"


def own_or(own: float, other: float) -> float:
    """A tolerance for the repository's vectors, or one for those of a folder that a variable below names."""
    given = os.environ.get("LLM_ESR_PARITY") or os.environ.get("LLM_ESR_METHOD_VECTORS")
    return other if given else own


def parity_files() -> list[Path]:
    """Those of LLM-ESR, in the folder that `LLM_ESR_PARITY` names; default: tests/fixtures/parity."""
    return _files("LLM_ESR_PARITY", "parity")


def method_files(method: str) -> list[Path]:
    """Another method's, in the folder that `LLM_ESR_METHOD_VECTORS` names; default: tests/fixtures/methods."""
    return [file for file in _files("LLM_ESR_METHOD_VECTORS", "methods") if _method_of(file) == method]


def golden_files() -> list[Path]:
    """Those of every method that is trained as LLM-ESR is."""
    return [*parity_files(), *method_files("llmemb")]


def _files(variable: str, own: str) -> list[Path]:
    folder = Path(os.environ.get(variable) or _FIXTURES / own)
    files = sorted(folder.glob("*.npz"))
    if not files:
        # A wrong folder must not look like a passed test.
        raise pytest.UsageError(f"{folder} holds no .npz; let {variable} name a folder of golden vectors")
    return files


def _method_of(file: Path) -> str | None:
    """The method of a training's vectors; None for vectors of a part, which have no configuration."""
    with np.load(file, allow_pickle=False) as arrays:
        if "config" not in arrays:
            return None
        method: str | None = json.loads(str(arrays["config"])).get("method")
        return method
