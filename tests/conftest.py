"""Fixtures that the whole suite shares: one tiny data set with texts, vectors and neighbours, made once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from golden_vectors import golden_files

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"

WORDS = ["red", "blue", "soft", "bright", "old", "small", "quiet", "sharp"]
THINGS = ["lamp", "chair", "brush", "cream", "kettle", "scarf"]


def tiny_frames(n_users: int = 60, n_items: int = 48, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Interactions and items of a made-up shop: each user keeps to few kinds of things, most have few items."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        start = int(rng.integers(n_items))
        for step in range(int(rng.integers(1, 12))):
            item = (start + 3 * step + int(rng.integers(3))) % n_items
            rows.append((f"u{user}", f"i{item}", 1_600_000_000 + 60 * step + user))
    items = [
        (f"i{k}", f"{WORDS[k % 8]} {THINGS[k % 6]} {k}", f"brand {k % 5}", f"a {WORDS[(k + 3) % 8]} {THINGS[k % 6]}")
        for k in range(n_items)
    ]
    return (
        pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"),
        pl.DataFrame(items, schema=["item_id", "title", "brand", "description"], orient="row"),
    )


@dataclass(frozen=True)
class ParityCase:
    """One file of golden vectors; tests/fixtures/parity/README.md says what the arrays are."""

    name: str
    arrays: dict[str, np.ndarray]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `parity_cases` once a file."""
    if "parity_cases" in metafunc.fixturenames:
        files = golden_files()
        metafunc.parametrize("parity_cases", files, ids=[file.stem for file in files], indirect=True)


@pytest.fixture
def parity_cases(request: pytest.FixtureRequest) -> ParityCase:
    """Each file of golden vectors in turn."""
    with np.load(request.param, allow_pickle=False) as arrays:
        return ParityCase(request.param.stem, dict(arrays))


@pytest.fixture(scope="session")
def tiny_tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """(interactions, items) of the tiny data set."""
    return tiny_frames()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data folder with vectors (lsa) and neighbours; read it, never write to it."""
    import llm_esr

    interactions, items = tiny_frames()
    folder = tmp_path_factory.mktemp("tiny") / "data"
    data = llm_esr.prepare(interactions, items=items, out=folder)
    llm_esr.embed(data, encoder="lsa", progress=False)
    llm_esr.index(data, k=10, progress=False)
    return folder


@pytest.fixture(scope="session")
def cold_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shop with a third of its items held out of training; read it, never write to it."""
    import llm_esr

    interactions, items = tiny_frames()
    folder = tmp_path_factory.mktemp("cold") / "data"
    data = llm_esr.prepare(interactions, items=items, out=folder, cold_items=0.3)
    llm_esr.embed(data, encoder="lsa", progress=False)
    llm_esr.index(data, k=5, progress=False)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the project; skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip(f"the real data sets are not beside the project (looked for {SHARED})")
    return SHARED


@pytest.fixture(autouse=True)
def _torch_keeps_its_threads() -> Iterator[None]:
    """`runtime.threads` holds for the whole process, and sums depend on it: no test hands it to the next."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)
