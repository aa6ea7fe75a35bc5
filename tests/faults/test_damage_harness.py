"""The harness itself: every outcome is told from the others, so that a count of nothing means something."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import damage


def read_plainly(path: Path) -> bytes:
    """Refuses what does not begin in `ok`, and takes any last byte for what it is."""
    content = path.read_bytes()
    if not content.startswith(b"ok"):
        raise ValueError(f"{path} is damaged")
    return content[:3]


def outcomes(path: Path, read: Any, **more: Any) -> dict[str, int]:
    path.write_bytes(b"ok1")
    return damage.sweep([damage.Subject(path, lambda: read(path), **more)], 1, 100)["/".join(path.parts[-2:])]


def test_a_reader_that_takes_damage_for_data_is_found(tmp_path: Path) -> None:
    found = outcomes(tmp_path / "a.bin", read_plainly)
    # Cut behind `ok`, and the flipped byte behind it; what is appended is never read.
    assert found["different"] == 2 and found["right"] == 1
    assert outcomes(tmp_path / "a.bin", read_plainly, checked=False)["unchecked"] == 2
    assert (tmp_path / "a.bin").read_bytes() == b"ok1"


@pytest.mark.parametrize(
    "error", [KeyError("a.bin"), UnicodeDecodeError("utf-8", b"a.bin", 0, 1, "a.bin"), MemoryError("a.bin"),
              ValueError("a file"), OSError("a file")],
)  # fmt: skip
def test_errors_of_others_and_errors_without_a_name_are_foreign(tmp_path: Path, error: Exception) -> None:
    def read(path: Path) -> bytes:
        if path.is_file() and path.read_bytes() == b"ok1":
            return b"ok1"
        raise error

    found = outcomes(tmp_path / "a.bin", read)
    assert found == {"foreign": sum(found.values())}


def test_a_fallback_counts_only_with_a_warning_that_names_the_file(tmp_path: Path) -> None:
    def read(path: Path, said: str) -> str:
        if path.is_file() and path.read_bytes() == b"ok1":
            return "new"
        warnings.warn(said, stacklevel=1)
        return "old"

    for said, outcome in (("a.bin is damaged", "fallback"), ("something is damaged", "different")):
        found = outcomes(tmp_path / "a.bin", lambda path, said=said: read(path, said), before="old")
        assert found == {outcome: sum(found.values())}


def test_every_place_is_cut_and_flipped_where_there_is_room(tmp_path: Path) -> None:
    import random

    labels = [label for label, _ in damage.damages(tmp_path / "x.npy", bytes(40), random.Random(0), 40)]
    assert [label for label in labels if label.startswith("cut")] == [f"cut at {end}" for end in range(40)]
    assert sum(label.startswith("byte") for label in labels) == 40
    assert len(labels) == len(set(labels)) > 200
