"""The public doors: what nobody thought of leaves them as one error that asks for a report; warnings point outside."""

from __future__ import annotations

import functools
import itertools
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
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


_INSIDE = ContextVar("llm_esr_inside_a_door", default=False)
_AT_THE_COMMAND_LINE = ContextVar("llm_esr_at_the_command_line", default=False)
# Not within a path or a quoted text: `'--x'` is something that came from outside.
_OPTION = re.compile(r"(?<![\w/\\'\"=-])--(?P<name>[a-z][a-z0-9-]*)(?: (?P<value>[\w.:-]*\w(?!\|)|''))?")
_ALONE = re.compile(r"--[a-z][a-z0-9-]*")
_DEPTH, _TEXTS = 4, 10_000  # how deep and how far arguments are looked through, where an error is raised
_SWITCHES = {
    "overwrite": "overwrite=True",
    "keep-seen": "keep_seen=True",
    "keep-all": "keep_all=True",
    "with-histories": "with_histories=True",
    "skip-unknown": "skip_unknown=True",
    "no-blend": "blend=False",
    "exact": "exact=True",
    "restart": "resume=False",
}
# `model.borrow (--borrow)`, `items=..., --items`: both ways to say it.
_SAID_TWICE = re.compile(
    r"(\b(?:[a-z]+\.)?([a-z_]+)(?:=[^\s,)]+)?)(?: \(--([a-z-]+)(?: [A-Z]\w*)?\)|, --([a-z-]+)(?=\)))"
)
_VALUES = {"temporal", "leave-one-out", "none", "exact", "first", "all", "sasrec", "cpu", "auto", "attributes",
           "ms", "us", "ns", "s", "onnx", "torch"}  # fmt: skip


class UnforeseenError(RuntimeError):
    """An error that should have been a clear message; its cause is the one that was raised."""


class Terminated(KeyboardInterrupt):
    """As Ctrl-C, but by SIGTERM: what a scheduler or `docker stop` sends."""


def door(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a public function raise what its page says, and for all else an `UnforeseenError` that asks for a report.

    What the caller's own code raises, a callback or an iterator, goes through as it is.
    """

    @functools.wraps(call)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        outermost = not _INSIDE.get()
        token = _INSIDE.set(True)
        try:
            return call(*args, **kwargs)
        except (ValueError, FileNotFoundError) as error:
            # What the command line calls is said in its words; whoever calls from Python is told what to write there.
            if outermost and not _AT_THE_COMMAND_LINE.get() and len(error.args) == 1:
                given = set(_texts((args, kwargs)))
                error.args = tuple(
                    in_words_of_python(one, given) if isinstance(one, str) else one for one in error.args
                )
            raise
        except (UnforeseenError, *_EXPECTED):
            raise
        except BaseException as error:  # also a panic, which is no `Exception`
            if _is_callers(error) or type(error).__name__ == "OutOfMemoryError":
                raise
            shown = ", ".join([*map(_short, args), *(f"{name}={_short(value)}" for name, value in kwargs.items())])
            name = f"{call.__module__.partition('.')[0]}.{call.__qualname__}"
            said = " ".join(str(error).split())[:300] or "no message"
            raise UnforeseenError(
                f"{name}({shown}): {type(error).__name__}: {said}; this should have been a clear message: please "
                "report it with the traceback"
            ) from error
        finally:
            _INSIDE.reset(token)

    return guarded


@contextmanager
def at_the_command_line() -> Iterator[None]:
    """Errors keep the command line's words while the block runs."""
    token = _AT_THE_COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _AT_THE_COMMAND_LINE.reset(token)


def in_words_of_python(message: str, given: Iterable[str] = ()) -> str:
    """A message that names options and commands of the command line, with the arguments and functions that they are.

    `--overwrite` becomes `overwrite=True`, `--set model.width=64` `width=64`, `--split temporal` `split='temporal'`,
    `llm-esr index` `llm_esr.index`.

    Args:
        message: the error's.
        given: texts that the caller gave, ids and paths, which stay as they are.
    """
    # Longest first: one may be a part of another.
    kept = sorted((text for text in given if _looks_like_ours(text)), key=lambda text: (-len(text), text))
    for place, text in enumerate(kept):
        message = message.replace(repr(text), f"\0{place}r\0")
        if not _ALONE.fullmatch(text):  # an id `--overwrite`: unquoted, it is the remedy's own
            message = message.replace(text, f"\0{place}t\0")
    message = _in_words_of_python(message)
    for place, text in enumerate(kept):
        message = message.replace(f"\0{place}r\0", repr(text)).replace(f"\0{place}t\0", text)
    return message


def _looks_like_ours(text: str) -> bool:
    return "--" in text or "`" in text


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    """The texts and paths in what a caller gave; also the folders of our own objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Path):
        yield str(value)
    elif isinstance(value, Mapping | list | tuple | set | frozenset) and depth < _DEPTH:
        parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
        for part in itertools.islice(parts, _TEXTS):
            yield from _texts(part, depth + 1)
    elif isinstance(folder := getattr(value, "__dict__", {}).get("folder"), Path):
        yield str(folder)


def _in_words_of_python(message: str) -> str:
    if message.startswith("--set "):
        return message.replace("--set ", "overrides: ", 1).replace("--set ", "")
    # A whole line of the shell, `llm-esr prepare FILE --out FOLDER`, stays what it is.
    parts = message.split("`")
    parts[::2] = map(_arguments, parts[::2])
    parts[1::2] = [re.sub(r"^llm-esr (\w+)$", r"llm_esr.\1", part) for part in parts[1::2]]
    return "`".join(parts)


def _arguments(text: str) -> str:
    text = _SAID_TWICE.sub(lambda found: found[1] if found[2] == _name(found[3] or found[4]) else found[0], text)
    text = re.sub(r"(=\S+) \(--[a-z-]+(?: [^)]*)?\)", r"\1", text)
    text = re.sub(r"--set (?:[a-z_]+\.)?([a-z_]+)=([\w.-]+)", _setting, text)
    text = re.sub(
        r"\(--([a-z][a-z0-9-]*)\)",
        lambda found: f"({_SWITCHES.get(found[1]) or _argument_of(found[1]) + '=...'})",
        text,
    )
    return _OPTION.sub(_argument, text)


def _argument_of(option: str) -> str:
    """The argument of Python that an option is."""
    return {"history": "histories", "user": "users"}.get(option, _name(option))


def _name(option: str) -> str:
    return option.replace("-", "_")


def _setting(found: re.Match[str]) -> str:
    return f"{found[1]}={_as_value(found[2])}"


def _argument(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    if name in _SWITCHES:
        return _SWITCHES[name] + (f" {value}" if value else "")
    argument = _argument_of(name)
    if value is None:
        return argument
    # A word behind an option is its value where it is one that settings have, or stands for one.
    if value == "''":
        return f"{argument}=''"
    if value.isupper() or value in _VALUES or ":" in value or value.replace(".", "").isdigit():
        return f"{argument}={_as_value(value)}"
    return f"{argument} {value}"


def _as_value(text: str) -> str:
    return text if text.isupper() or re.fullmatch(r"[\d.]+|True|False|None", text) else repr(text)


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
