"""Plain arrays come out of pickles of every protocol; what else a pickle asks for is refused by name and not run."""

from __future__ import annotations

import builtins
import collections
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm_esr.published import pickled_arrays
from llm_esr.published.pickled_arrays import read_pickled_array

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
RNG = np.random.default_rng(0)
ARRAYS = {
    "float32": RNG.normal(size=(5, 7)).astype(np.float32),
    "float64": RNG.normal(size=(5, 7)),
    "float16": RNG.normal(size=(3, 4)).astype(np.float16),
    "int64": RNG.integers(0, 1 << 40, (4, 3)),
    "big endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "columns first": np.asfortranarray(RNG.normal(size=(4, 5))),
    "a view with gaps": RNG.normal(size=(6, 8))[::2, 1::3],
    "one axis": np.arange(9, dtype=np.uint8),
}


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Vectors(np.ndarray):
    """A class of arrays that is not NumPy's own."""


def write(folder: Path, content: bytes) -> Path:
    path = folder / "itm_emb_np.pkl"
    path.write_bytes(content)
    return path


def refused(folder: Path, content: bytes, said: str) -> None:
    path = write(folder, content)
    with pytest.raises(ValueError, match=said) as caught:
        read_pickled_array(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_out_as_it_went_in(tmp_path: Path, name: str, protocol: int) -> None:
    array = ARRAYS[name]
    read = read_pickled_array(write(tmp_path, pickle.dumps(array, protocol)))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_older_and_newer_numpy_are_read(tmp_path: Path, protocol: int) -> None:
    # Text in protocol 0 to 3, a counted text later: both names have the same length but for the underscore.
    array = ARRAYS["float32"]
    content = pickle.dumps(array, protocol)
    here, there = (b"numpy._core.", b"numpy.core.") if b"numpy._core." in content else (b"numpy.core.", b"numpy._core.")
    swapped = content.replace(here, there)
    if protocol >= 4:
        at = swapped.index(there)
        name_end = swapped.index(b"\x94", at)
        swapped = swapped[: at - 1] + bytes([name_end - at]) + swapped[at:]
        shift = len(there) - len(here)
        frame = struct.unpack("<Q", swapped[3:11])[0] + shift
        swapped = swapped[:3] + struct.pack("<Q", frame) + swapped[11:]
    np.testing.assert_array_equal(read_pickled_array(write(tmp_path, swapped)), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "rows",
    [[[3, 1], [2, 0]], ((3, 1), (2, 0)), [np.array([3, 1]), np.array([2, 0])], [[0.5, 1.5], [2.5, 3.5]]],
    ids=["lists", "tuples", "arrays", "floats"],
)
def test_lists_of_numbers_become_a_table(tmp_path: Path, rows: Any, protocol: int) -> None:
    np.testing.assert_array_equal(read_pickled_array(write(tmp_path, pickle.dumps(rows, protocol))), np.asarray(rows))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("hostile", "name"),
    [
        (lambda marker: Call(os.system, f"touch {marker}"), rf"'{os.system.__module__}\.system'"),
        (lambda marker: Call(builtins.eval, f"open({str(marker)!r}, 'w')"), r"'(builtins|__builtin__)\.eval'"),
        (lambda marker: Call(builtins.exec, f"open({str(marker)!r}, 'w')"), r"'(builtins|__builtin__)\.exec'"),
        (lambda marker: Call(builtins.open, str(marker), "w"), r"'_?io\.open'"),
        (lambda marker: Call(os.mkdir, str(marker)), r"mkdir'"),
        (lambda marker: [ARRAYS["float32"], Call(os.mkdir, str(marker))], r"mkdir'"),
        (lambda marker: Call(getattr, "x", "upper"), r"getattr'"),
        (lambda marker: Call(np.load, str(marker)), r"'numpy.*load'"),
        (lambda marker: Call(np.memmap, str(marker), "f4", "w+", 0, (4,)), r"memmap'"),
        (lambda marker: np.ones((1, 2)).view(np.matrix), r"matrix'"),
        (lambda marker: np.ma.masked_array([[1.0]], [[True]]), r"'numpy\.ma\."),
        (lambda marker: ARRAYS["float32"].view(Vectors), r"Vectors'"),
        (lambda marker: np.float32(1), r"scalar'"),
        (lambda marker: torch.ones(2, 2), r"'torch\._utils\._rebuild_tensor_v2'"),
        (lambda marker: collections.OrderedDict(a=1), r"'collections\.OrderedDict'"),
        (lambda marker: np.array([["a", None]], dtype=object), r"'O8' \(Python objects\)"),
        (lambda marker: np.array([Call(os.mkdir, str(marker))], dtype=object), r"Python objects|mkdir'"),
        (lambda marker: np.array([("a", 1)], dtype=[("a", "U4"), ("b", "i4")]), r"type 'V20'"),
        (lambda marker: np.array([["a", "b"]]), r"type 'U1'"),
        (lambda marker: np.array([["2020-01-01"]], dtype="M8[D]"), r"type 'M8'"),
        (lambda marker: np.array([[1j]]), r"type 'c16'"),
        (lambda marker: {"vectors": ARRAYS["float32"]}, r"opcode (EMPTY_DICT|DICT)"),
        (lambda marker: np.zeros((2, 2, 2)), r"3 axes"),
        (lambda marker: [[1, 2], [3]], r"rows of 1 to 2 numbers"),
        (lambda marker: [[1, "a"]], r"something else than rows"),
        (lambda marker: [[1 << 70]], r"no table of numbers"),
        (lambda marker: 17, r"holds a int, not an array"),
        (lambda marker: "text", r"holds a str, not an array"),
    ],
)
def test_what_is_no_plain_array_is_refused_and_named(tmp_path: Path, hostile: Any, name: str, protocol: int) -> None:
    marker = tmp_path / "a-pickle-ran"
    content = pickle.dumps(hostile(marker), protocol)
    refused(tmp_path, content, name)
    assert not marker.exists()


def test_the_hostile_pickle_would_have_run(tmp_path: Path) -> None:
    # What the tests above refuse is real: the module pickle runs it.
    marker = tmp_path / "a-pickle-ran"
    pickle.loads(pickle.dumps(Call(os.mkdir, str(marker))))
    assert marker.exists()


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _array_of(shape: bytes, kind: str = "f4", data: bytes = b"\0" * 8, build: bytes = b"b") -> bytes:
    """Opcodes of an array, with a shape (as opcodes) of one's own."""
    dtype = (
        b"cnumpy\ndtype\n"
        + _text(kind)
        + b"\x89\x88\x87R(K\x03"
        + _text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return b"\x80\x03" + made + b"(K\x01" + shape + dtype + b"\x89C" + bytes([len(data)]) + data + b"t" + build + b"."


def test_the_array_made_by_hand_is_read(tmp_path: Path) -> None:
    assert read_pickled_array(write(tmp_path, _array_of(b"K\x01K\x02\x86"))).shape == (1, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_array_of(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"), r"more rows than it has bytes"),
        (_array_of(b"\x8b" + struct.pack("<I", 5000) + b"\x7f" * 5000 + b"K\x01\x86"), r"more rows than it has bytes"),
        (_array_of(b"K\x05K\x05\x86"), r"\(100 bytes\) and holds 8 bytes"),
        (_array_of(b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86"), r"no number of rows"),
        (_array_of(b"K\x00K\x02\x86"), r"no number of rows"),
        (_array_of(_text("ab") + b"K\x02\x86"), r"no number of rows"),
        (_array_of(b"K\x01K\x02\x86", "O8"), r"'O8' \(Python objects\)"),
        (_array_of(b"K\x01K\x02\x86", "f4,O"), r"no plain numbers"),
        (_array_of(b"K\x01K\x02\x86", build=b"bK\x01K\x01\x86b"), r"sets the state"),
        (_array_of(b"K\x01K\x02\x86", build=b"."), r"does not end|not an array|holds"),
        (b"\x80\x04B" + struct.pack("<I", 1 << 31) + b"ab.", r"no whole pickle"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 44) + b"ab.", r"no whole pickle"),
        (b"\x80\x05\x8e" + struct.pack("<Q", (1 << 63) - 1) + b"ab.", r"no whole pickle"),
        (b"\x80\x05\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"ab.", r"no whole pickle"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", r"holds a list, not an array"),  # memo slot two thousand million
        (b"\x80\x02](]q\x00" + b"h\x00" * 50 + b"e.", r"no table of numbers"),
        (b"\x80\x02]q\x00h\x00a.", r"something else than rows"),  # a list within itself
        (b"\x80\x02](]q\x00(" + b"K\x01" * 2000 + b"e" + b"h\x00" * 2000 + b"e.", r"rows that 8,\d+ bytes cannot hold"),
        (b"\x80\x02" + b")" + b"\x85" * 20_000 + b".", r"something else than rows"),  # tuples, 20,000 deep
        (b"\x80\x02(.", r"does not end"),
        (b"\x80\x02cnumpy\nndarray\n(K\x01tb.", r"sets the state"),
        (b"\x80\x02cnumpy\nndarray\n)R.", r"calls 'ndarray'"),
        (b"\x80\x02cnumpy\ndtype\n.", r"not an array"),
        (b"\x80\x02c_codecs\nencode\n" + _text("x") + _text("rot13") + b"\x86R.", r"calls 'encode'"),
        (b"\x80\x02c_codecs\nencode\n" + _text("\u20ac") + _text("latin1") + b"\x86R.", r"array.s bytes belong"),
        (b"\x80\x02cnumpy\nndarray.tofile\n.", r"'numpy\.ndarray\.tofile'"),
        (b"\x80\x04" + _text("numpy") + _text("ndarray.tofile") + b"\x93.", r"'numpy\.ndarray\.tofile'"),
        (b"\x80\x04K\x01K\x02\x93.", r"'1\.2'"),
        (b"\x80\x02Pid\n.", r"opcode PERSID"),
        (b"\x80\x02" + _text("id") + b"Q.", r"opcode BINPERSID"),
        (b"\x80\x02\x82\x01.", r"opcode EXT1"),
        (b"\x80\x05\x97.", r"opcode NEXT_BUFFER"),
        (b"\x80\x02(cos\nsystem\n" + _text("true") + b"o.", r"'os\.system'"),
        (b"(S'true'\nios\nsystem\n.", r"opcode (STRING|INST)"),
        (b"\x80\x02h\x07.", r"damaged pickle \(at opcode BINGET\)"),
        (b"\x80\x02a.", r"damaged pickle \(at opcode APPEND\)"),
        (b"\x80\x02e.", r"damaged pickle \(at opcode APPENDS\)"),
        (b"\x80\x02K\x01K\x02.", r"does not end in one value"),
        (b"\x80\x02", r"no whole pickle"),
        (b"", r"is empty"),
        (b"\x89HDF\r\n\x1a\n", r"no whole pickle|damaged|more than arrays"),
        (b"PK\x03\x04 a zip of torch", r"opcode PERSID|no whole pickle"),
    ],
)  # fmt: skip
def test_a_pickle_made_by_hand_gets_no_further(tmp_path: Path, content: bytes, said: str) -> None:
    tracemalloc.start()
    try:
        refused(tmp_path, content, said)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(content) + 5_000_000


def test_noise_is_refused_and_never_crashes(tmp_path: Path) -> None:
    good = pickle.dumps([ARRAYS["float32"], ARRAYS["float32"]], 2)
    rng = np.random.default_rng(3)
    path = tmp_path / "noise.pkl"
    for _ in range(400):
        content = bytearray(good)
        for at in rng.integers(0, len(content), 3):
            content[at] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            read_pickled_array(path)
        except ValueError as error:
            assert str(path) in str(error)


def test_the_reader_does_not_use_the_module_pickle() -> None:
    text = Path(pickled_arrays.__file__).read_text()
    assert "import pickle\n" not in text
    assert not hasattr(pickled_arrays, "pickle")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pkl does not exist"):
        read_pickled_array(tmp_path / "nowhere.pkl")


def test_an_optimised_pickle_is_read_too(tmp_path: Path) -> None:
    # Without the memo entries that nobody reads.
    content = pickletools.optimize(pickle.dumps(ARRAYS["float64"], 4))
    np.testing.assert_array_equal(read_pickled_array(write(tmp_path, content)), ARRAYS["float64"])
    buffer = io.BytesIO()
    pickle.Pickler(buffer, 5).dump(ARRAYS["int64"])
    np.testing.assert_array_equal(read_pickled_array(write(tmp_path, buffer.getvalue())), ARRAYS["int64"])
