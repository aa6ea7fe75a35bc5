"""Encoders give the same vector for the same text, and say what is missing."""

import sys
import types

import numpy as np
import pytest

from llm_esr.config import EmbedConfig
from llm_esr.semantics.encoders import LsaEncoder, encoder_identity, make_encoder

TEXTS = [
    f"{a} {b} simulated"
    for a in ("red", "blue", "green", "grey", "pink")
    for b in ("cup", "jug", "tent", "shoe", "sock")
]


def fitted(texts=TEXTS, dimensions=8):
    encoder = LsaEncoder(dimensions)
    encoder.fit(texts)
    return encoder


def test_lsa_places_like_texts_together_at_unit_length():
    encoder = fitted()
    vectors = encoder.encode(["red cup", "cup red", "red jug", "grey sock"])
    assert vectors.shape == (4, encoder.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    scores = vectors[0] @ vectors.T
    assert scores[1] == pytest.approx(1, abs=1e-5)
    assert scores[2] > scores[3] + 0.1


def test_lsa_is_the_same_every_time_and_for_every_chunk():
    whole = fitted().encode(TEXTS)
    encoder = fitted()
    np.testing.assert_array_equal(whole, np.concatenate([encoder.encode(TEXTS[:7]), encoder.encode(TEXTS[7:])]))


def test_lsa_gives_a_text_without_a_known_word_no_direction():
    assert (fitted().encode(["zebra", "", "simulated"]) == 0).all()  # a word of every text tells nothing


def test_lsa_takes_what_directions_a_small_catalogue_has():
    assert fitted(["red cup", "blue jug"], 128).width == 2
    assert fitted(["simulated cup"] * 30, 128).width == 2  # words of every text, where there are no others
    for texts in (["", "  "], ["same same"] * 3):
        with pytest.raises(ValueError, match="fewer than two different words"):
            fitted(texts)


def test_encoders_are_named_in_errors():
    with pytest.raises(
        ValueError, match="encoder 'word2vec' is unknown; expected one of: lsa, sentence-transformers:NAME"
    ):
        make_encoder("word2vec", EmbedConfig())
    with pytest.raises(ValueError, match="encoder 'word2vec' is unknown"):
        encoder_identity("word2vec")
    with pytest.raises(FileNotFoundError, match=r"folder \./nowhere does not exist"):
        make_encoder("sentence-transformers:./nowhere", EmbedConfig())
    with pytest.raises(FileNotFoundError, match=r"encoder: none\.npy does not exist"):
        encoder_identity("file:none.npy")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-esr\[text\]'"):
        make_encoder("sentence-transformers:all-MiniLM-L6-v2", EmbedConfig())


def test_a_hub_that_does_not_answer_is_explained(monkeypatch):
    def unreachable(*_args, local_files_only, **_settings):
        assert local_files_only  # no minutes of trying again
        raise OSError("We couldn't connect to the hub\nand so on")

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=unreachable))
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:1")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConnectionError, match=r"'all-Mini' could not be had .*couldn't connect to the hub\); .*folder"):
        make_encoder("sentence-transformers:all-Mini", EmbedConfig())


def test_the_identity_of_a_local_model_is_its_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    name = f"sentence-transformers:{tmp_path}"
    before = encoder_identity(name)
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert encoder_identity(name) != before
    assert encoder_identity("sentence-transformers:all-MiniLM-L6-v2") == {
        "name": "sentence-transformers:all-MiniLM-L6-v2"
    }


def test_a_folder_without_a_model_is_explained(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(ValueError, match="is not a sentence-transformers model"):
        make_encoder(f"sentence-transformers:{tmp_path}", EmbedConfig())


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "embed.device 'gpu': expected auto, cpu, cuda, cuda:1 or mps"),
        ("cpu:9", "embed.device cpu:9: torch finds 1 of them here"),
        ("cuda:99", "embed.device cuda:99: torch finds .* here; use --set embed.device=cpu or auto"),
    ],
)
def test_a_device_that_is_not_there_is_named_and_not_the_model(device: str, message: str) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ValueError, match=message):
        make_encoder("sentence-transformers:some/model", EmbedConfig(device=device))
