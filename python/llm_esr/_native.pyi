"""Types of the Rust extension."""

from os import PathLike
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__version__: str

@final
class ExactIndex:
    """Exact search by cosine over a copy of the vectors at unit length."""

    def __new__(cls, vectors: NDArray[Any], threads: int = 0) -> ExactIndex: ...
    def search_rows(self, start: int, stop: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int: ...

@final
class TableReader:
    """A CSV, TSV (layout `csv`, `tsv`) or headerless `user item` file (`pairs`), read chunk after chunk; gzip too."""

    def __new__(cls, path: str | PathLike[str], *, layout: str) -> TableReader: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def delimiter(self) -> str: ...
    def read(
        self, rows: int, columns: list[str]
    ) -> tuple[NDArray[np.int64], list[list[str]], list[tuple[int, int, str, str]]] | None:
        """Up to `rows` records: physical lines, the columns' fields, malformed ones (line, last line, text, reason)."""
