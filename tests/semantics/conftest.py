"""A tiny shop with texts, made anew for each test."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llm_esr.data import prepare

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e", "f"],
        "title": ["red running shoes", "blue running shoes", "espresso cup", "milk jug", "  ", "tent"],
        "brand": ["Norvik", None, "Almont", "Almont", "Breton", ""],
    }
)
EVENTS = {
    "u1": ["a", "b", "c", "d"],
    "u2": ["b", "a", "d", "c"],
    "u3": ["c", "d", "c", "a", "f"],
    "u4": ["e", "f", "a"],
    "u5": ["d"],
}


def interactions(events):
    rows = [(user, item, step) for user, items in events.items() for step, item in enumerate(items)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture
def events():
    return EVENTS


@pytest.fixture
def make_shop(tmp_path):
    """Prepare a data set from a user -> items mapping."""

    def make(events=EVENTS, items=ITEMS, name="shop", **options):
        return prepare(interactions(events), items=items, out=tmp_path / name, **options)

    return make


@pytest.fixture
def shop(make_shop):
    return make_shop()


@pytest.fixture(scope="session")
def scft():
    """The golden vectors of LLMEmb's stage 1."""
    own = Path(__file__).parents[1] / "fixtures" / "methods"
    folder = Path(os.environ.get("LLM_ESR_METHOD_VECTORS") or own)
    with np.load(folder / "llmemb_scft.npz", allow_pickle=False) as arrays:
        return dict(arrays)
