"""Encoders: text in, vectors out; a language model, or TF-IDF with truncated SVD where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EmbedConfig
from llm_esr.files import checksum

SENTENCE_PREFIX = "sentence-transformers:"
FILE_PREFIX = "file:"
KNOWN = "lsa, sentence-transformers:NAME_OR_FOLDER, file:PATH"
_SEED = 0


class Encoder(Protocol):
    """Turns texts into float32 vectors of one width; the same text always gets the same vector."""

    label: str  # how the encoder is named in the files it made

    def fit(self, texts: Sequence[str]) -> None:
        """See the item prompts once, before anything is encoded."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors `[len(texts), width]` of unit length (zero for a text without a known word)."""


class LsaEncoder:
    """Latent semantic analysis: TF-IDF and truncated SVD, fitted on the item prompts; no download, no LLM.

    Words in over 95 % of the prompts (a template's own, `unknown`) are left out where others remain.
    """

    label = "lsa (no LLM)"

    def __init__(self, dimensions: int = 128) -> None:
        self._dimensions = dimensions
        self._words: Any = None
        self._svd: Any = None

    def fit(self, texts: Sequence[str]) -> None:
        """Learn words, weights and directions from the item prompts."""
        # Here, for it takes a second that only this encoder needs.
        from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415

        settings = {"sublinear_tf": True, "token_pattern": r"(?u)\b\w+\b", "max_features": 200_000, "dtype": np.float32}
        counts = None
        for most in (0.95, 1.0):
            self._words = TfidfVectorizer(max_df=most, **settings)
            try:
                counts = self._words.fit_transform(texts)
            except ValueError:  # scikit-learn's word for: no word is left
                continue
            if counts.shape[1] >= 2:
                break
        if counts is None or counts.shape[1] < 2:
            raise ValueError(
                "the item texts hold fewer than two different words; give vectors: encoder='file:VECTORS.npy'"
            )
        width = min(self._dimensions, *counts.shape)
        self._svd = TruncatedSVD(width, algorithm="randomized", n_iter=7, random_state=_SEED)
        with np.errstate(invalid="ignore"):  # shares of a variance that is zero where all texts are alike
            self._svd.fit(counts)

    @property
    def width(self) -> int:
        """Numbers in a vector: the dimensions asked for, or as many as the texts have."""
        return int(self._svd.components_.shape[0])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length; zero for a text without a known word."""
        vectors = np.asarray(self._svd.transform(self._words.transform(texts)), dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        # Without a known word nothing but rounding is left: that is no direction.
        unit: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)
        return unit


class SentenceEncoder:
    """A sentence-transformers model, from the hub by name or from a local folder; vectors of unit length."""

    def __init__(self, model: str, *, batch_size: int = 64, device: str = "auto") -> None:
        self.label = SENTENCE_PREFIX + model
        self._batch_size = batch_size
        self._model = _load_sentence_model(model, None if device == "auto" else device)

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn: the model is given."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        # The method was renamed in sentence-transformers 5.
        method = getattr(self._model, "get_embedding_dimension", None)
        return int(method() if method is not None else self._model.get_sentence_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length."""
        vectors = self._model.encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)


def make_encoder(name: str, config: EmbedConfig) -> Encoder:
    """The encoder called `lsa` or `sentence-transformers:NAME_OR_FOLDER`.

    Raises:
        ValueError: an unknown name.
        ImportError: sentence-transformers is not installed.
        FileNotFoundError: a model folder that does not exist.
        ConnectionError: a hub name that can be had neither from the cache nor from the hub.
    """
    if name == "lsa":
        return LsaEncoder(config.lsa_dimensions)
    if name.startswith(SENTENCE_PREFIX) and len(name) > len(SENTENCE_PREFIX):
        model = name.removeprefix(SENTENCE_PREFIX)
        return SentenceEncoder(model, batch_size=config.batch_size, device=config.device)
    raise ValueError(f"encoder '{name}' is unknown; expected one of: {KNOWN}")


def encoder_identity(name: str) -> dict[str, str]:
    """What the key of a stage needs to know of an encoder: its name, and the files of a local one by checksum.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: a local encoder that does not exist.
    """
    if name.startswith(FILE_PREFIX):
        return {"kind": "file", "checksum": checksum(existing_file(name.removeprefix(FILE_PREFIX), "encoder"))}
    if name.startswith(SENTENCE_PREFIX):
        model = name.removeprefix(SENTENCE_PREFIX)
        if _is_folder(model):
            files = sorted(path for path in _existing_folder(model).rglob("*") if path.is_file())
            return {str(path.relative_to(model)): checksum(path) for path in files}
    elif name != "lsa":
        raise ValueError(f"encoder '{name}' is unknown; expected one of: {KNOWN}")
    return {"name": name}


def existing_file(path: str | Path, argument: str) -> Path:
    """`path` if it is a file; else a `FileNotFoundError` that names the argument."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{argument}: {path} does not exist; expected a .npy, Parquet or safetensors file")
    return Path(path)


def _is_folder(model: str) -> bool:
    return Path(model).exists() or model.startswith((".", "/", "~", "\\")) or model.count("/") > 1


def _existing_folder(model: str) -> Path:
    if not Path(model).is_dir():
        raise FileNotFoundError(f"encoder: folder {model} does not exist; expected a saved sentence-transformers model")
    return Path(model)


def _load_sentence_model(model: str, device: str | None) -> Any:
    if _is_folder(model):
        _existing_folder(model)
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - an extra
    except ImportError:
        raise ImportError(
            f"encoder '{SENTENCE_PREFIX}{model}' needs sentence-transformers; install it with: "
            "pip install 'llm-esr[text]'"
        ) from None
    # Without the hub only the cache is asked: the hub's client would try again for minutes.
    from_cache = not _is_folder(model) and not _hub_answers()
    try:
        return SentenceTransformer(model, device=device, local_files_only=from_cache)
    except Exception as error:  # the hub's client raises a dozen types, by version
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if _is_folder(model):
            raise ValueError(f"encoder: {model} is not a sentence-transformers model: {first_line}") from error
        raise ConnectionError(
            f"encoder: model '{model}' could not be had from the Hugging Face hub ({first_line}); "
            f"check the name and the network, or give a folder with the model: {SENTENCE_PREFIX}/path/to/model"
        ) from error


def _hub_answers() -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the proxy can tell
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True
