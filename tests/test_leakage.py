"""Nothing that training reads depends on the items held out for validation and test."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.config import EmbedConfig, load_config
from llm_esr.training import build_loader

SETTINGS = ["distill.similar_users=3", "index.similar_users=5", "train.batch_size=16", "negatives.count=8"]


def with_other_held_out_items(interactions: pl.DataFrame, item_ids: list[str]) -> pl.DataFrame:
    """Replace the last two items of every user who has three or more by others of the catalogue."""
    rng = np.random.default_rng(5)
    parts = []
    for part in interactions.partition_by("user_id", maintain_order=True):
        ordered = part.sort("timestamp", maintain_order=True)
        items = ordered["item_id"].to_list()
        if len(items) >= 3:
            for place in (-2, -1):
                items[place] = str(rng.choice([i for i in item_ids if i != items[place]]))
        parts.append(ordered.with_columns(pl.Series("item_id", items)))
    return pl.concat(parts)


def built(
    interactions: pl.DataFrame, items: pl.DataFrame, folder: Path, user_vectors: Literal["mean", "prompt"]
) -> llm_esr.Dataset:
    data = llm_esr.prepare(interactions, items=items, out=folder, keep_unseen_items=True)
    config = EmbedConfig(encoder="lsa", user_vectors=user_vectors, lsa_dimensions=16)
    llm_esr.embed(data, config=config, progress=False)
    llm_esr.index(data, k=5, progress=False)
    return llm_esr.Dataset.open(folder)


@pytest.mark.parametrize("user_vectors", ["mean", "prompt"])
@pytest.mark.parametrize("negatives", ["shared", "own"])
def test_replacing_every_held_out_item_changes_nothing_that_training_reads(
    user_vectors: Literal["mean", "prompt"],
    negatives: str,
    tmp_path: Path,
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    interactions, items = tiny_tables
    one = built(interactions, items, tmp_path / "one", user_vectors)
    changed = with_other_held_out_items(interactions, items["item_id"].to_list())
    other = built(changed, items, tmp_path / "other", user_vectors)
    assert not np.array_equal(one.items, other.items)

    assert np.array_equal(one.splits, other.splits)
    assert np.array_equal(one.training_counts, other.training_counts)
    assert np.array_equal(one.item_embeddings, other.item_embeddings)
    assert np.array_equal(one.user_embeddings, other.user_embeddings)
    assert np.array_equal(one.similar_users, other.similar_users)
    assert np.array_equal(one.similar_users_scores, other.similar_users_scores)
    assert np.array_equal(one.similar_items, other.similar_items)
    for preset in ("dual-view", "corrected"):
        config = load_config(preset, [*SETTINGS, f"negatives.kind={negatives}", "negatives.distribution=popularity"])
        for first, second in zip(build_loader(one, config), build_loader(other, config), strict=True):
            for part in ("items", "positions", "targets", "offsets", "slots"):
                assert np.array_equal(getattr(first.students, part), getattr(second.students, part))
                assert np.array_equal(getattr(first.teachers, part), getattr(second.teachers, part))
            assert np.array_equal(first.users, second.users)
            assert np.array_equal(first.negatives, second.negatives)
            assert np.array_equal(first.teacher_index, second.teacher_index)
            if first.collision is not None:
                assert np.array_equal(first.collision, second.collision)
