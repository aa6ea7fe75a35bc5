"""Every file of golden vectors in every layout that its backbone has: LLM-ESR's and those of LLMEmb's second stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden_vectors import golden_files, method_files, parity_files
from llmemb_case import LLMEmbCase
from paper_case import Case

from llm_esr.attention import choice

# How a case is computed: padding as tokens, as the authors do, or flat with the pseudo-key: rows by length (as on the
# CPU), the loader's rows with a sequence in each, or all sequences in one row. GRU4Rec runs over its padding.
LAYOUTS = ("tokens", "flat", "by-length", "rows", "one-row")


_FIXTURES = {"case": golden_files, "taught_case": parity_files, "llmemb_case": lambda: method_files("llmemb")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    layouts = getattr(metafunc.module, "ONLY", LAYOUTS)
    for fixture, files in _FIXTURES.items():
        if fixture in metafunc.fixturenames:
            pairs = [(file, layout) for file in files() for layout in layouts if _fits(file, layout)]
            metafunc.parametrize(fixture, pairs, ids=[f"{f.stem}-{layout}" for f, layout in pairs], indirect=True)


def _fits(file: Path, layout: str) -> bool:
    with np.load(file, allow_pickle=False) as arrays:
        return layout == "tokens" or json.loads(str(arrays["config"]))["backbone"] != "gru4rec"


@pytest.fixture
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Each file of golden vectors, in each layout that its backbone has."""
    return _opened(request, monkeypatch)


@pytest.fixture
def taught_case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Those of LLM-ESR alone, whose students have teachers."""
    return _opened(request, monkeypatch)


@pytest.fixture
def llmemb_case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Those of LLMEmb's second stage alone."""
    return _opened(request, monkeypatch)


def _opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    file, layout = request.param
    monkeypatch.setattr(choice, "forced", layout if layout in ("flat", "by-length") else "rows")
    with np.load(file, allow_pickle=False) as arrays:
        kind = LLMEmbCase if json.loads(str(arrays["config"])).get("method") == "llmemb" else Case
        return kind(file.stem, layout, dict(arrays))
