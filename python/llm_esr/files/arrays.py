"""`.npy` files opened without trust: whatever NumPy makes of a damaged header, it is one `ValueError`."""

from __future__ import annotations

import tokenize
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# What a header that is no dictionary any more makes NumPy's parser raise, beside what it promises.
_FOREIGN = (ValueError, EOFError, SyntaxError, TypeError, KeyError, AttributeError, tokenize.TokenError, OverflowError,
            MemoryError, RecursionError, UnicodeDecodeError)  # fmt: skip


def open_array(path: Path, mode: Literal["r", "c"] | None = "r", remedy: str = "make it again") -> NDArray[Any]:
    """An array of a `.npy` file, memory-mapped read-only (`r`), copy-on-write (`c`), or read whole (None).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole `.npy` file of numbers.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and a .npy file is expected; {remedy}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's notes on headers of Python 2
            array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (FileNotFoundError, PermissionError):
        raise
    except (*_FOREIGN, OSError) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path} is not a whole .npy array of numbers ({said}); {remedy}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} is an archive of several arrays (.npz); expected one array; {remedy}")
    return array
