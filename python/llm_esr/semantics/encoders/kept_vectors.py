"""Vectors that were paid for, kept row by row until a stage is done: a killed stage asks for none of them twice.

A file of records behind a header line; a record is the text's SHA-256, a CRC-32 and the vector. What a kill cut short
or a disk damaged is asked for again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

_MOST_WIDE = 1 << 16
_MOST_HEADER = 4096  # bytes


class KeptVectors:
    """Vectors by the text that they are of.

    Args:
        path: the file; made where it is not there.
        maker: who makes the vectors; a file of another one starts anew.

    """

    def __init__(self, path: Path, maker: str) -> None:
        self.path, self.maker = path, maker
        self._places: dict[bytes, int] = {}
        self._file: IO[bytes] | None = None
        self.width: int | None = None
        if path.exists():
            self._read()

    def __enter__(self) -> KeptVectors:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; it goes where nothing went wrong."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if kind is None:
            self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        """Texts that have a vector."""
        return len(self._places)

    def __contains__(self, text: str) -> bool:
        """Whether a text has a vector."""
        return _digest(text) in self._places

    def add(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep the vectors [n, E] of n texts; they are on the disk when this returns."""
        if self._file is None:
            self._start(vectors.shape[1])
        assert self._file is not None
        self._file.seek(0, os.SEEK_END)
        for text, vector in zip(texts, vectors, strict=True):
            digest, body = _digest(text), vector.astype("<f4").tobytes()
            self._places[digest] = self._file.tell()
            self._file.write(digest + zlib.crc32(digest + body).to_bytes(4, "little") + body)
        self._file.flush()
        os.fsync(self._file.fileno())

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts that have one, [n, E]."""
        assert self._file is not None and self.width is not None
        found = np.empty((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            self._file.seek(self._places[_digest(text)] + 36)
            found[row] = np.frombuffer(self._file.read(4 * self.width), dtype="<f4")
        return found

    def _start(self, width: int) -> None:
        self.width = width
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w+b")
        self._file.write(json.dumps({"maker": self.maker, "width": width}).encode() + b"\n")

    def _read(self) -> None:
        """Take over the whole records of an earlier process; cut off what follows the last of them."""
        file = self.path.open("r+b")
        width = self._width_of(file.readline(_MOST_HEADER))
        if width is None:
            file.close()
            return  # another maker's, or no header: `_start` begins anew
        size, start = 36 + 4 * width, file.tell()
        while len(record := file.read(size)) == size:
            if zlib.crc32(record[:32] + record[36:]) != int.from_bytes(record[32:36], "little"):
                break
            self._places[record[:32]] = start
            start += size
        file.truncate(start)
        self._file, self.width = file, width

    def _width_of(self, header: bytes) -> int | None:
        try:
            found = json.loads(header)
        except ValueError:
            return None
        if not isinstance(found, dict) or found.get("maker") != self.maker:
            return None
        width = found.get("width")
        return width if isinstance(width, int) and 0 < width <= _MOST_WIDE else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
