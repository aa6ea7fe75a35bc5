"""Where the golden vectors of the authors' code are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def own_or(own: float, other: float) -> float:
    """A tolerance for the repository's vectors, or one for those of a folder that `LLM_ESR_PARITY` names."""
    return other if os.environ.get("LLM_ESR_PARITY") else own


def parity_files() -> list[Path]:
    """The golden vectors in the folder that `LLM_ESR_PARITY` names; default: tests/fixtures/parity."""
    folder = Path(os.environ.get("LLM_ESR_PARITY") or Path(__file__).parent / "fixtures" / "parity")
    files = sorted(folder.glob("*.npz"))
    if not files:
        # A wrong folder must not look like a passed test.
        raise pytest.UsageError(f"{folder} holds no .npz; let LLM_ESR_PARITY name a folder of golden vectors")
    return files
