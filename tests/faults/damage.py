"""Damages every file that the package reads, in every place, and counts what became of each reading.

`python tests/faults/damage.py FOLDER SEED MOST` makes small files in FOLDER and prints the counts as JSON. It is a
process of its own, so that a crash is an outcome like any other, with little more memory than it needs to start, so
that a header which claims terabytes shows.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_esr.files import checksums
from llm_esr.files.records import SEAL

OUTCOMES = ("refused", "right", "fallback", "unchecked", "different", "foreign")
ROOM = 1 << 30  # bytes that reading a file of a few kilobytes may take at most


@dataclass(frozen=True)
class Subject:
    """A file, and what reads it.

    Attributes:
        path: the file.
        read: gives what the file means, to be compared.
        named: what an error must name; default: the file.
        checked: whether the file, or another, holds its checksum; what a user gives has none.
        before: what a reading falls back to, with a warning.
    """

    path: Path
    read: Callable[[], Any]
    named: str | None = None
    checked: bool = True
    before: Any = None


def sweep(subjects: list[Subject], seed: int, most: int) -> dict[str, dict[str, int]]:
    """Outcomes of every damage, by file (with its folder).

    Args:
        subjects: files and their readers; each file is whole again afterwards.
        seed: of the bits that are flipped, and of the places where a file has more than `most`.
        most: truncations and flips of a file, each.
    """
    return {
        "/".join(one.path.parts[-2:]): dict(_sweep(one, random.Random(f"{seed} {one.path.parts[-2:]}"), most))
        for one in subjects
    }


def _sweep(subject: Subject, rng: random.Random, most: int) -> Counter[str]:
    whole = subject.path.read_bytes()
    _forget()
    expected = subject.read()
    counts: Counter[str] = Counter()
    for label, put in damages(subject.path, whole, rng, most):
        _clear(subject.path)
        put()
        _forget()
        unsealed = label.startswith("unsealed")
        found, said = _outcome(subject, expected, unsealed)
        if found == "different" and (not subject.checked or unsealed):
            found = "unchecked"
        counts[found] += 1
        if found in ("different", "foreign") and counts[found] <= 3:
            print(f"{subject.path.name}: {label}: {found}: {said}", file=sys.stderr)
    _clear(subject.path)
    subject.path.write_bytes(whole)
    return counts


def _outcome(subject: Subject, expected: Any, unsealed: bool) -> tuple[str, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = subject.read()
        except Exception as error:
            return _judged(subject, error, unsealed), f"{type(error).__name__}: {error}"[:300]
        except BaseException as error:  # polars' panics
            return "foreign", f"{type(error).__name__}: {error}"[:300]
    if value == expected:
        return "right", ""
    told = any(subject.path.name in str(one.message) for one in caught)
    if subject.before is not None and value == subject.before and told:
        return "fallback", ""
    return "different", repr(value)[:200]


def _judged(subject: Subject, error: Exception, unsealed: bool) -> str:
    """A plain error that names the file is a refusal; anything else came from somebody else's code."""
    plain = type(error) is ValueError or isinstance(error, OSError)
    name = subject.named or subject.path.name
    # A record that says something else on purpose may be named by its folder.
    named = name in str(error) or (unsealed and str(subject.path.parent) in str(error))
    return "refused" if plain and named else "foreign"


def _forget() -> None:
    """Files follow each other faster than clocks tick: none is taken for the one before it."""
    checksums._verified.clear()


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def damages(path: Path, whole: bytes, rng: random.Random, most: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every damage of a file: its name, and what puts it in place."""
    places = range(len(whole))
    for end in _some(places, rng, most):
        yield f"cut at {end}", lambda end=end: path.write_bytes(whole[:end])
    for at in _some(places, rng, most):
        bit = 1 << rng.randrange(8)
        flipped = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
        yield f"byte {at} ^ {bit}", lambda flipped=flipped: path.write_bytes(flipped)
    yield "a folder", path.mkdir
    yield "a link to itself", lambda: path.symlink_to(path)
    yield "a link to nothing", lambda: path.symlink_to(path.with_name("nowhere"))
    for label, content in forged(path.suffix, whole):
        yield label, lambda content=content: path.write_bytes(content)


def _some(places: range, rng: random.Random, most: int) -> list[int]:
    return list(places) if len(places) <= most else sorted(rng.sample(places, most))


def forged(suffix: str, whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that somebody wrote on purpose."""
    yield "zeros", bytes(len(whole))
    yield "twice", whole + whole
    if suffix == ".npy":
        body = whole[-24:]
        for dtype in ("<f4", "|O", "<i4", ">i8", "<U1000000000", "|V1", "<c16", "[('a', '<i4')]", "<M8[ns]"):
            for shape in ("(3,)", "(3, 2)", "(1000000000000,)", f"({2**62}, 4)", f"(0, {2**63})", "(-1,)", "()"):
                for order in ("False", "True"):
                    yield f"{dtype} {shape} {order}", _npy((1, 0), dtype, shape, order) + body
        for version in ((0, 0), (1, 1), (2, 0), (3, 0), (255, 255)):
            yield f"version {version}", _npy(version, "<i8", "(3,)", "False") + body
            yield f"version {version}, endless", _npy(version, "<i8", "(3,)", "False", 2**32 - 1) + body
        yield "deep", _npy((2, 0), "<i8", "(" * 50_000 + ")" * 50_000, "False")
    if suffix == ".safetensors":
        for length in (0, 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1):
            yield f"header of {length}", length.to_bytes(8, "little") + whole[8:]
        for kind in ("F32", "F64", "BF16", "F8_E4M3", "I8", "BOOL", "C64", "X"):
            for shape, end in (([3], 12), ([10**12], 4 * 10**12), ([2**62, 4], 16), ([0, 2**63], 0), ([-1], 4)):
                entry = {"x": {"dtype": kind, "shape": shape, "data_offsets": [0, end]}}
                header = json.dumps(entry).encode()
                yield f"{kind} {shape}", len(header).to_bytes(8, "little") + header + bytes(12)
    if suffix in (".json", ".yaml"):
        yield from _json(whole)
    if suffix == ".pickle":
        for text in (
            b"\x80\x04\x8e" + b"\xff" * 8,
            b"\x80\x04\x8a\xff" + b"\x7f" * 255 + b".",
            b"\x80\x04" + b"(" * 9999,
            b"\x80\x04]\x94" + b"h\x00a" * 9999 + b".",
            b"cos\nsystem\n(S'true'\ntR.",
        ):
            yield f"{text[:12]!r}", text


def _json(whole: bytes) -> Iterator[tuple[str, bytes]]:
    for text in ("{}", "[]", "null", "1", '"x"', "NaN", '{"format": NaN}', '{"format": 1e999}', '{"format": 2}',
                 '{"format": ' + "9" * 5000 + "}", "[" * 100_000, '{"seal": null}', '{"seal": "sha256 of the rest: "}',
                 '{"a": "sha256 of the rest: "}', "\udcff"):  # fmt: skip
        yield text[:20], text.encode(errors="surrogateescape")
    try:
        record = json.loads(whole)
    except ValueError:
        return
    for name in record:
        if isinstance(record, dict):
            yield f"without {name}", json.dumps({key: entry for key, entry in record.items() if key != name}).encode()
            yield f"another {name}", json.dumps(record | {name: [record[name]]}).encode()
            old = {key: entry for key, entry in record.items() if key != SEAL}
            for entry in (None, -1, 2**62, "x", [], {}, [record[name]]):
                yield f"unsealed {name}: {entry}", json.dumps(old | {name: entry}).encode()


def _npy(version: tuple[int, int], dtype: str, shape: str, order: str, length: int | None = None) -> bytes:
    descr = dtype if dtype.startswith("[") else f"'{dtype}'"
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    width = 2 if version[0] == 1 else 4
    text += " " * (-(8 + width + len(text) + 1) % 64) + "\n"
    said = min(len(text) if length is None else length, 256**width - 1)
    return b"\x93NUMPY" + bytes(version) + said.to_bytes(width, "little") + text.encode()


def limit_memory() -> None:
    """From here on this process gets `ROOM` more address space, and no more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(folder: Path, seed: int, most: int) -> None:
    from small_files import small_files

    subjects = small_files(folder)
    for subject in subjects:
        subject.read()  # what is imported or started late is there before memory is limited
    limit_memory()
    json.dump(sweep(subjects, seed, most), sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
