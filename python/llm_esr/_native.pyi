"""Types of the Rust extension."""

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
