"""Vectors that come from a file."""

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from llm_esr import semantics
from llm_esr.config import EmbedConfig


def embed(data, encoder=None, **settings):
    return semantics.embed(data, encoder, progress=False, **settings)


@pytest.mark.parametrize("kind", ["npy", "parquet", "safetensors"])
def test_vectors_from_a_file_find_their_items(make_shop, tmp_path, kind):
    shop = make_shop(min_item_count=2)  # leaves e out, so rows and ids part
    table = np.arange(24, dtype=np.float32).reshape(6, 4)
    path = tmp_path / f"vectors.{kind}"
    if kind == "npy":
        np.save(path, table)
    elif kind == "parquet":
        pl.DataFrame({"item_id": list("fedcba"), "vector": table[::-1].tolist()}).write_parquet(path)
    else:
        save_file({item: table[row] for row, item in enumerate("abcdef")}, path)
    data = embed(shop, f"file:{path}")
    rows = ["abcdef".index(item) for item in data.item_ids]
    np.testing.assert_array_equal(data.item_embeddings, table[rows])


def test_external_user_vectors_are_taken_as_they_are(shop, tmp_path):
    table = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.save(tmp_path / "users.npy", table)
    data = embed(shop, user_embeddings=tmp_path / "users.npy", config=EmbedConfig(dtype="float32"))
    np.testing.assert_array_equal(data.user_embeddings, table)


def test_a_file_cannot_encode_user_prompts(shop, tmp_path):
    np.save(tmp_path / "v.npy", np.zeros((6, 2), np.float32))
    with pytest.raises(ValueError, match="a file cannot encode prompts"):
        embed(shop, f"file:{tmp_path / 'v.npy'}", config=EmbedConfig(user_vectors="prompt"))


def test_vectors_that_no_model_can_use_are_refused_and_leave_nothing_behind(shop, tmp_path):
    table = np.ones((6, 2), np.float32)
    for value, message in ((np.nan, "item .d. .*not finite"), (1e6, "row 3 .*holds a number too large for float16")):
        table[3, 1] = value
        np.save(tmp_path / "v.npy", table)
        with pytest.raises(ValueError, match=message):
            embed(shop, f"file:{tmp_path / 'v.npy'}")
    assert not list(shop.folder.glob("item_embeddings*"))
