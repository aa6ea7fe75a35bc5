"""The public doors: what nobody thought of leaves them as one error that asks for a report; warnings point outside."""

from __future__ import annotations

import functools
import sys
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What a caller may expect: mistakes in what was given, files, missing packages, memory, and the wish to stop.
_EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError, Warning,
             KeyboardInterrupt, SystemExit, GeneratorExit)  # fmt: skip
_PACKAGE = Path(__file__).resolve().parent
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class UnforeseenError(RuntimeError):
    """An error that should have been a clear message; its cause is the one that was raised."""


def door(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a public function raise what its page says, and for all else an `UnforeseenError` that asks for a report.

    What the caller's own code raises, a callback or an iterator, goes through as it is.
    """

    @functools.wraps(call)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return call(*args, **kwargs)
        except (UnforeseenError, *_EXPECTED):
            raise
        except BaseException as error:  # also a panic, which is no `Exception`
            if _is_callers(error) or type(error).__name__ == "OutOfMemoryError":
                raise
            given = ", ".join([*map(_short, args), *(f"{name}={_short(value)}" for name, value in kwargs.items())])
            name = f"{call.__module__.partition('.')[0]}.{call.__qualname__}"
            said = " ".join(str(error).split())[:300] or "no message"
            raise UnforeseenError(
                f"{name}({given}): {type(error).__name__}: {said}; this should have been a clear message: please "
                "report it with the traceback"
            ) from error

    return guarded


def warn(message: Warning | str) -> None:
    """Warn at the line outside this package that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _short(value: object) -> str:
    """An argument in a few words; a large one by its type."""
    if isinstance(value, str | int | float | bool | Path | None):
        text = repr(str(value)) if isinstance(value, Path) else repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    return type(value).__name__


def _is_callers(error: BaseException) -> bool:
    """Whether the innermost Python frame is neither ours nor a library's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    name = trace.tb_frame.f_code.co_filename
    if name.startswith("<frozen") or name in sys.builtin_module_names:
        return False
    path = str(Path(name).resolve())
    return not path.startswith((str(_PACKAGE), *_LIBRARIES))
