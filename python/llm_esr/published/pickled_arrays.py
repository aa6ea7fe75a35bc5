"""NumPy arrays out of pickle files, without unpickling.

The rule of this project is: no pickle. The paper's authors published their vectors as pickles, so this one reader
exists. Not even it uses the module `pickle`, which imports and calls what a file tells it to (a list of what may be
imported helps against that, but a small file can still make it reserve terabytes). Here `pickletools` only names the
file's opcodes, and a machine for some forty of them builds lists, tuples, numbers, texts and bytes. Of what a file may
import, the five names with which NumPy writes an array are known, as marks and not as the functions themselves; an
array is made from bytes whose number fits its shape. Everything else is an error that names what was asked for.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _Name(Enum):
    """What NumPy's pickles ask for; never called, only recognised."""

    RECONSTRUCT = "_reconstruct"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    FROMBUFFER = "_frombuffer"
    ENCODE = "encode"


# NumPy 2 renamed `numpy.core` to `numpy._core`; `_codecs.encode` carries the bytes of protocol 2 as a latin-1 text.
_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _Name.FROMBUFFER,
    ("numpy._core.numeric", "_frombuffer"): _Name.FROMBUFFER,
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    ("_codecs", "encode"): _Name.ENCODE,
}
_NUMBERS = re.compile(r"[<>=|]?(f2|f4|f8|[iu][1248]|b1)")
_PLAIN = {
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclass
class _Type:
    """An element type as it is being read."""

    code: str
    order: str = "="

    def numpy(self) -> np.dtype[Any]:
        order = "" if self.order == "|" else self.order
        return np.dtype(order + self.code.lstrip("<>=|"))


@dataclass
class _Pending:
    """An array whose contents come with BUILD."""

    array: NDArray[Any] | None = None


class _RefusedError(Exception):
    """What is wrong with the file, without its name."""


def read_pickled_array(path: str | Path) -> NDArray[Any]:
    """The one array of numbers in a pickle file (protocols 0 to 5), or the table that its lists of numbers make.

    Nothing that the file names is imported or called, and memory grows with the file's size, never with what it claims.

    Returns:
        The array, read-only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: anything but one plain array; the message names the file and what it asked for.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; check the path")
    size = path.stat().st_size
    try:
        if not size:
            raise _RefusedError("is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _array(_Machine(size).run(_opcodes(content)), size)
    except _RefusedError as error:
        raise ValueError(
            f"{path} {error}; it was refused and nothing in it was run. Expected one plain NumPy array of numbers: "
            "if you trust the file, load it elsewhere and write it anew with pickle.dump(numpy.asarray(array), file)"
        ) from None


def _opcodes(content: Any) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(content):
            yield opcode.name, argument
    except (ValueError, OverflowError, IndexError, struct.error) as error:
        raise _RefusedError(f"is no whole pickle ({str(error).splitlines()[0][:120]})") from None


class _Machine:
    """The pickle machine, as far as plain arrays need it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, opcodes: Iterator[tuple[str, Any]]) -> Any:
        """What is on the stack at STOP."""
        for name, argument in opcodes:
            if name == "STOP":
                break
            try:
                self._step(name, argument)
            except (IndexError, KeyError, TypeError, AttributeError):
                raise _RefusedError(f"is a damaged pickle (at opcode {name})") from None
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise _RefusedError("is a damaged pickle (it does not end in one value)")
        return self._stack[0]

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case _ if name in _PLAIN:
                stack.append(_VALUES.get(name, argument))
            case "PROTO" | "FRAME":
                pass
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL" | "STACK_GLOBAL" | "REDUCE" | "BUILD":
                self._construct(name, argument)
            case _:
                self._collect(name)

    def _collect(self, name: str) -> None:
        """The opcodes of lists and tuples."""
        stack = self._stack
        match name:
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND":
                value = self._pop()
                self._list().append(value)
            case "APPENDS":
                values = self._since_mark()
                self._list().extend(values)
            case "LIST":
                stack.append(self._since_mark())
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case _ if name in _TUPLES:
                values = [self._pop() for _ in range(_TUPLES[name])]
                stack.append(tuple(reversed(values)))
            case _:
                raise _RefusedError(f"holds more than arrays and lists (opcode {name})")

    def _construct(self, name: str, argument: Any) -> None:
        """The opcodes with which a pickle imports and calls; here they can only make arrays."""
        if name == "GLOBAL":
            module, _, wanted = str(argument).partition(" ")
            self._stack.append(_known(module, wanted))
            return
        last = self._pop()
        if name == "BUILD":
            _build(self._stack[-1], last)
        else:
            first = self._pop()
            self._stack.append(_known(first, last) if name == "STACK_GLOBAL" else _reduced(first, last))

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise IndexError
        return value

    def _list(self) -> list[Any]:
        if type(self._stack[-1]) is not list:
            raise TypeError
        made: list[Any] = self._stack[-1]
        return made

    def _since_mark(self) -> list[Any]:
        stack = self._stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError
        values = stack[at + 1 :]
        del stack[at:]
        return values


def _known(module: Any, name: Any) -> _Name:
    known = _KNOWN.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    if known is None:
        raise _RefusedError(f"asks for {f'{module}.{name}'[:120]!r}, which no plain array needs")
    return known


def _reduced(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Name.ENCODE, (str() as text, "latin1"):
            try:
                return text.encode("latin1")
            except UnicodeEncodeError:
                raise _RefusedError("holds a text where an array's bytes belong") from None
        case _Name.DTYPE, (str() as code, int(), int()):
            if not _NUMBERS.fullmatch(code):
                what = "Python objects" if code.startswith(("O", "|O")) else "no plain numbers"
                raise _RefusedError(f"holds an array of type {code[:40]!r} ({what})")
            return _Type(code)
        case _Name.RECONSTRUCT, (_Name.NDARRAY, tuple(), bytes()):
            return _Pending()
        case _Name.FROMBUFFER, (bytes() | bytearray() as data, _Type() as kind, tuple() as shape, "C" | "F" as order):
            return _made(data, kind, shape, order)
    asked = function.value if isinstance(function, _Name) else type(function).__name__
    raise _RefusedError(f"calls {asked!r} with what no plain array needs")


def _build(target: Any, state: Any) -> None:
    match target, state:
        case _Type(), (int(), "<" | ">" | "=" | "|" as order, None, None, None, int(), int(), int()):
            target.order = order
        case _Pending(array=None), (int(), tuple() as shape, _Type() as kind, int() as fortran, bytes() as data):
            target.array = _made(data, kind, shape, "F" if fortran else "C")
        case _:
            raise _RefusedError(
                f"sets the state of a {type(target).__name__.strip('_').lower()} as no plain array does"
            )


def _made(data: bytes | bytearray, kind: _Type, shape: tuple[Any, ...], order: str) -> NDArray[Any]:
    numpy_type = kind.numpy()
    if not 1 <= len(shape) <= 2 or not all(type(length) is int and length > 0 for length in shape):
        raise _RefusedError(
            f"holds an array of {len(shape)} axes, or with none or no number of rows; one or two are read"
        )
    # Each length alone first: an integer in a pickle may have millions of digits.
    if any(length > len(data) for length in shape):
        raise _RefusedError(f"claims an array with more rows than it has bytes ({len(data):,})")
    wanted = math.prod(shape) * numpy_type.itemsize
    if wanted != len(data):
        raise _RefusedError(f"claims an array {shape} of {numpy_type} ({wanted:,} bytes) and holds {len(data):,} bytes")
    array: NDArray[Any] = np.frombuffer(data, numpy_type).reshape(shape, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def _array(value: Any, size: int) -> NDArray[Any]:
    if isinstance(value, _Pending):
        value = value.array
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list | tuple) or not value:
        raise _RefusedError(f"holds a {type(value).__name__.strip('_').lower()}, not an array")
    rows: list[Any] = [row.array if isinstance(row, _Pending) else row for row in value]
    if not all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        raise _RefusedError("holds a list of something else than rows of numbers")
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise _RefusedError(f"holds rows of {min(lengths):,} to {max(lengths):,} numbers, not of one length")
    # Each number takes a byte of the file at least; a row named a million times does not.
    if len(rows) * lengths.pop() > size:
        raise _RefusedError(f"claims {len(rows):,} rows that {size:,} bytes cannot hold")
    if not all(_numbers(row) for row in rows):
        raise _RefusedError("holds a list of something else than rows of numbers")
    try:
        made = np.asarray(rows)
    except (ValueError, OverflowError):
        made = np.empty(0, dtype=object)
    if made.dtype.kind not in "iuf" or made.ndim != 2 or not made.size:
        raise _RefusedError("holds lists that are no table of numbers")
    return made


def _numbers(row: Any) -> bool:
    if isinstance(row, np.ndarray):
        return row.ndim == 1
    return all(type(number) in (int, float) for number in row)
