"""TF-IDF with truncated SVD, for where there is no language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EmbedConfig
from llm_esr.semantics.encoders.encoder import EncoderKind

_SEED = 0


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


def _identity(_: str) -> dict[str, str]:
    return {"name": "lsa"}


def _make(_: str, config: EmbedConfig) -> LsaEncoder:
    return LsaEncoder(config.lsa_dimensions)


LSA = EncoderKind("lsa", _identity, _make)
