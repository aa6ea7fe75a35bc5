"""Vectors that a file holds, in place of an encoder."""

from __future__ import annotations

from pathlib import Path

from llm_esr.files import checksum
from llm_esr.semantics.encoders.encoder import EncoderKind
from llm_esr.tables.parquet_parts import part_paths, parts_checksum

FILE_PREFIX = "file:"


def vectors_checksum(path: str | Path, argument: str) -> str:
    """The checksum of a file of vectors, or of a folder of Parquet parts.

    Raises:
        FileNotFoundError: neither; the message names the argument.
    """
    path = Path(path)
    if path.is_dir():
        return parts_checksum(path, part_paths(path, argument))
    if not path.is_file():
        raise FileNotFoundError(
            f"{argument}: {path} does not exist; expected a .npy, Parquet or safetensors file, or a folder of Parquet "
            "parts"
        )
    return checksum(path)


def _identity(path: str) -> dict[str, str]:
    return {"kind": "file", "checksum": vectors_checksum(path, "encoder")}


FILE = EncoderKind("file:PATH", _identity, None)
