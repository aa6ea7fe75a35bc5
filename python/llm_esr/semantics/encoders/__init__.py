"""Encoders: text in, vectors out; and the table of their kinds."""

from __future__ import annotations

from llm_esr.config import EmbedConfig
from llm_esr.semantics.encoders.encoder import Encoder, EncoderKind
from llm_esr.semantics.encoders.endpoint import ENDPOINT, EndpointEncoder
from llm_esr.semantics.encoders.files import FILE, FILE_PREFIX, vectors_checksum
from llm_esr.semantics.encoders.lsa import LSA, LsaEncoder
from llm_esr.semantics.encoders.sentence_transformers import SENTENCE_TRANSFORMERS, SentenceEncoder

__all__ = [
    "ENCODERS",
    "FILE_PREFIX",
    "Encoder",
    "EncoderKind",
    "EndpointEncoder",
    "LsaEncoder",
    "SentenceEncoder",
    "encoder_identity",
    "make_encoder",
    "vectors_checksum",
]

ENCODERS: tuple[EncoderKind, ...] = (LSA, SENTENCE_TRANSFORMERS, ENDPOINT, FILE)


def make_encoder(name: str, config: EmbedConfig) -> Encoder:
    """The encoder called `lsa`, `sentence-transformers:NAME_OR_FOLDER` or `openai:MODEL@URL`.

    Raises:
        ValueError: an unknown name, or that of a file, which encodes no texts.
        ImportError: sentence-transformers or httpx is not installed.
        FileNotFoundError: a model folder that does not exist.
        ConnectionError: a hub name that can be had neither from the cache nor from the hub.
    """
    kind, argument = _kind_of(name)
    if kind.make is None:
        raise _unknown(name)
    return kind.make(argument, config)


def encoder_identity(name: str) -> dict[str, str]:
    """What the key of a stage needs to know of an encoder: its name, and the files of a local one by checksum.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: a local encoder that does not exist.
    """
    kind, argument = _kind_of(name)
    return kind.identity(argument)


def _kind_of(name: str) -> tuple[EncoderKind, str]:
    """The kind of an encoder, and what follows the colon of its name."""
    start, colon, argument = name.partition(":")
    for kind in ENCODERS:
        own, own_colon, _ = kind.usage.partition(":")
        if (start, colon) == (own, own_colon) and bool(argument) == bool(colon):
            return kind, argument
    raise _unknown(name)


def _unknown(name: str) -> ValueError:
    return ValueError(f"encoder '{name}' is unknown; expected one of: {', '.join(kind.usage for kind in ENCODERS)}")
