"""Vectors that a file holds, in place of an encoder."""

from __future__ import annotations

from pathlib import Path

from llm_esr.files import checksum
from llm_esr.semantics.encoders.encoder import EncoderKind

FILE_PREFIX = "file:"


def existing_file(path: str | Path, argument: str) -> Path:
    """`path` if it is a file; else a `FileNotFoundError` that names the argument."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{argument}: {path} does not exist; expected a .npy, Parquet or safetensors file")
    return Path(path)


def _identity(path: str) -> dict[str, str]:
    return {"kind": "file", "checksum": checksum(existing_file(path, "encoder"))}


FILE = EncoderKind("file:PATH", _identity, None)
