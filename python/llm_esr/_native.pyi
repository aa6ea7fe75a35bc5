"""Types of the Rust extension."""

from os import PathLike
from typing import Any, TypeAlias, final

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

_SequenceArrays: TypeAlias = tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]
]

@final
class SequenceStore:
    """A data folder's interactions, memory-mapped, checked and shareable."""

    def __new__(cls, folder: str | PathLike[str], n_items: int) -> SequenceStore: ...
    @property
    def n_users(self) -> int: ...
    @property
    def n_items(self) -> int: ...
    def training_counts(self) -> NDArray[np.uint32]: ...

@final
class Batcher:
    """Makes the batches of any epoch."""

    def __new__(
        cls,
        store: SequenceStore,
        *,
        seed: int,
        batch_size: int,
        max_len: int,
        layout: str,
        similar_users: int,
        negatives: str | None,
        n_negatives: int,
        exponent: float | None,
        whole_catalogue: bool,
        smoothing: float,
        smoothing_temperature: float,
        rank: int,
        world_size: int,
        shuffle: bool,
    ) -> Batcher: ...
    @property
    def n_students(self) -> int: ...
    @property
    def n_steps(self) -> int: ...
    def start(self, epoch: int, step: int, threads: int, ahead: int) -> BatchStream: ...

@final
class BatchStream:
    """An epoch under way."""

    def next(self) -> RawBatch | None: ...
    def close(self) -> None: ...

@final
class RawBatch:
    """One batch's buffers; when the last array made from them is gone they return to the loader's pool."""

    @property
    def epoch(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def users(self) -> NDArray[np.int64]: ...
    @property
    def showings(self) -> NDArray[np.int8]: ...
    @property
    def students(self) -> _SequenceArrays: ...
    @property
    def teachers(self) -> _SequenceArrays: ...
    @property
    def teacher_index(self) -> NDArray[np.int64]: ...
    @property
    def negatives(self) -> NDArray[np.int32]: ...
    @property
    def collision(self) -> NDArray[np.bool_]: ...

def build_sequences(
    items: NDArray[np.int32], offsets: NDArray[np.int64], max_len: int, layout: str
) -> _SequenceArrays: ...
def sample_candidates(
    store: SequenceStore, users: NDArray[np.int64], split: int, n: int, seed: int
) -> NDArray[np.int32]: ...
