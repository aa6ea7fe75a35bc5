"""Vectors that say nothing, and vectors that a narrow type would lose."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.data import Dataset
from llm_esr.semantics.variety import variety_of


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    rows = [(f"u{user}", f"i{(user + place) % 12}") for user in range(12) for place in range(4)]
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": ["t"] * 12})
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    return llm_esr.prepare(frame, items=items, out=tmp_path / "data")


def embed(data: Dataset, vectors: np.ndarray, **settings: str) -> np.ndarray:
    path = data.folder.parent / "v.npy"
    np.save(path, vectors)
    made = llm_esr.embed(data, f"file:{path}", progress=False, **settings).item_embeddings
    assert made is not None
    return np.array(made)


UNIT = np.eye(12, dtype=np.float32)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.ones((12, 3)), "the item vectors say little: all are equal"),
        (np.zeros((12, 3)), "all are zero"),
        (UNIT[[0] * 8 + [1, 2, 3, 4]], "5 of 12 different, one stands 8 times"),
        (np.vstack([np.zeros((7, 12)), UNIT[:5]]), "6 of 12 different, 7 all zero, one stands 7 times"),
    ],
)
def test_vectors_that_say_little_are_warned_of(data: Dataset, vectors: np.ndarray, said: str) -> None:
    with pytest.warns(UserWarning, match=said):
        embed(data, vectors)


def test_vectors_that_differ_are_not(data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed(data, UNIT[[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]])
    with pytest.raises(SystemExit):
        main(["embed", str(data.folder), "--item-embeddings", str(data.folder.parent / "v.npy")])
    assert "item vectors: 6 of 12 different" in capsys.readouterr().out


def test_counting_by_numpy() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, (9000, 3)).astype(np.float16) * np.float16(1)
    found = variety_of(vectors)
    rows, counts = np.unique(vectors + 0, axis=0, return_counts=True)
    assert (found.distinct, found.largest) == (len(rows), counts.max())
    assert found.zero == int((vectors == 0).all(axis=1).sum())


@pytest.mark.parametrize("size", [1e-9, 1e-8, 3e-7])
def test_a_vector_that_float16_would_lose_is_an_error_with_its_item(data: Dataset, size: float) -> None:
    vectors = UNIT + 0.1
    vectors[5] *= size
    with pytest.raises(ValueError, match=r"vector of row 5 \('i5'\) has the length .*, too small for float16"):
        embed(data, vectors, dtype="float16")
    np.testing.assert_array_equal(embed(data, vectors, dtype="float32"), vectors)


def test_zeros_that_were_zeros_stay(data: Dataset) -> None:
    vectors = UNIT.copy()
    vectors[3] = 0
    np.testing.assert_array_equal(embed(data, vectors, dtype="float16"), vectors)
