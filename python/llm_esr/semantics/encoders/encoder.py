"""What every encoder gives: vectors of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EmbedConfig


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


@dataclass(frozen=True)
class EncoderKind:
    """How encoders of one kind are named, recognised in the key of a stage, and made."""

    usage: str  # how a setting names one, for messages: `lsa`, `file:PATH`
    # What the key of a stage needs to know of the encoder behind the colon: its name, its files by checksum.
    identity: Callable[[str], dict[str, str]]
    make: Callable[[str, EmbedConfig], Encoder] | None  # None: vectors are read from a file, no text is encoded
