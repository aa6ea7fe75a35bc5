"""Tables that are kept: the same bits from the disk, never those of other data; no start fails where none can be."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.data import Dataset, prepare
from llm_esr.files import checksum, write_json
from llm_esr.files.lock import lock_folder
from llm_esr.pipeline.doctor import doctor
from llm_esr.scoring import build_untrained, stored_tables
from llm_esr.scoring.ease import Ease
from llm_esr.scoring.neighbours import CountedNeighbours
from llm_esr.scoring.similar_histories import PrefixNeighbours

COUNTED = ("transitions", "co-occurrence", "ease")
FILES = {f"{name}-{part}{suffix}" for name in COUNTED for part in ("ids", "values") for suffix in (".npy", ".json")}
PROFILED = ("prefixes", "similar-users")


@pytest.fixture
def data(tiny_tables: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path) -> Dataset:
    return prepare(tiny_tables[0], items=tiny_tables[1], out=tmp_path / "data")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tables that are counted, one a counting."""
    counted: list[str] = []
    for kind in (CountedNeighbours, Ease):

        def count(self: Any, data: Any, width: int, own: Any = kind._count) -> Any:
            counted.append(self.name)
            return own(self, data, width)

        monkeypatch.setattr(kind, "_count", count)
    return counted


def built(name: str, data: Dataset) -> CountedNeighbours:
    scorer = build_untrained(name, data)
    assert isinstance(scorer, CountedNeighbours)
    return scorer


def bits(scorer: CountedNeighbours) -> tuple[bytes, bytes]:
    return scorer.table[0].tobytes(), scorer.table[1].tobytes()


def is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)


@pytest.mark.parametrize("name", COUNTED)
def test_a_table_is_counted_once_and_mapped_with_the_same_bits(data: Dataset, counts: list[str], name: str) -> None:
    counted = built(name, data)._count(data, data.n_items)
    counts.clear()
    again = built(name, Dataset.open(data.folder))
    assert not counts
    assert bits(again) == (counted[0].tobytes(), counted[1].tobytes())
    assert all(is_mapped(array) and not array.flags.writeable for array in again.table)
    histories = data.histories(np.arange(data.n_users), "test")
    mapped = again.scores(*histories), *again.lists(*histories, 7)
    again.table = counted
    for one, other in zip(mapped, (again.scores(*histories), *again.lists(*histories, 7)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", PROFILED)
def test_profiles_are_made_once_for_the_vectors_that_there_are(
    data: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    own = PrefixNeighbours._all_profiles
    monkeypatch.setattr(PrefixNeighbours, "_all_profiles", lambda self: made.append(self.name) or own(self))

    def profiles(opened: Dataset) -> PrefixNeighbours:
        scorer = build_untrained(name, opened)
        assert isinstance(scorer, PrefixNeighbours)
        return scorer

    llm_esr.embed(data, encoder="lsa", progress=False)
    first = profiles(data)
    again = profiles(Dataset.open(data.folder))
    assert made == [name] and len(first.ends) == len(again.profiles_PE) > 0
    assert again.profiles_PE.numpy().tobytes() == own(again).numpy().tobytes()
    assert {path.name for path in (data.folder / "tables").iterdir()} == {
        f"{name}-profiles.npy",
        f"{name}-profiles.json",
    }
    histories = data.histories(np.arange(data.n_users), "test")
    np.testing.assert_array_equal(first.scores(*histories), again.scores(*histories))
    llm_esr.embed(data, encoder="lsa", lsa_dimensions=5, progress=False)
    other = profiles(Dataset.open(data.folder))
    assert made == [name] * 2 and other.profiles_PE.shape != first.profiles_PE.shape
    flip(data.folder / "tables" / f"{name}-profiles.npy")
    with pytest.raises(ValueError, match=f"{name}-profiles.npy differs from the checksum"):
        profiles(data)


def test_no_history_has_a_beginning_and_no_profile_is_there(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["x", "y", "z"], "timestamp": [1, 2, 3]})
    items = pl.DataFrame({"item_id": ["x", "y", "z"], "title": ["red lamp", "blue chair", "old scarf"]})
    data = prepare(events, items=items, out=tmp_path / "data")
    llm_esr.embed(data, encoder="lsa", progress=False)
    for _ in range(2):
        scorer = build_untrained("prefixes", data)
        assert not scorer.scores(*data.histories(np.arange(3), "test")).any()


def test_the_folder_holds_the_tables_alone_and_doctor_reads_them(data: Dataset) -> None:
    for name in COUNTED:
        built(name, data)
    folder = data.folder / "tables"
    assert {path.name for path in folder.iterdir()} == FILES
    assert not any(finding.bad for finding in doctor(data.folder))
    raw = bytearray((folder / "ease-values.npy").read_bytes())
    raw[-1] ^= 1
    (folder / "ease-values.npy").write_bytes(raw)
    (said,) = (finding for finding in doctor(data.folder) if finding.bad)
    assert "ease-values.npy" in said.name and f"delete {folder}" in said.said


def test_tables_of_other_data_or_settings_are_counted_again(
    data: Dataset, tiny_tables: tuple[pl.DataFrame, pl.DataFrame], counts: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    built("transitions", data)
    built("ease", data)
    before = {path.name: path.read_bytes() for path in (data.folder / "tables").iterdir()}
    other = prepare(tiny_tables[0].head(150), items=tiny_tables[1], out=tmp_path / "other")
    (other.folder / "tables").mkdir()
    for name, content in before.items():
        (other.folder / "tables" / name).write_bytes(content)
    counts.clear()
    expected = built("transitions", other)
    assert counts == ["transitions"]
    assert bits(built("transitions", other)) == bits(expected) and counts == ["transitions"]
    assert checksum(other.folder / "tables" / "transitions-ids.npy") != checksum(
        data.folder / "tables" / "transitions-ids.npy"
    )
    monkeypatch.setattr(Ease, "settings", {"lambda": 1.0})
    built("ease", data)
    assert counts == ["transitions", "ease"]


def test_prepare_takes_no_table_into_a_data_set_that_it_writes(
    data: Dataset, tiny_tables: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    built("transitions", data)
    prepare(tiny_tables[0].head(150), items=tiny_tables[1], out=data.folder, overwrite=True)
    assert not (data.folder / "tables").exists()


def unwritable(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, doing: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(stored_tables, "lock_folder", refuse)


def full(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    own = stored_tables.vector_file

    def refuse(folder: Path, name: str, *rest: Any) -> Any:
        if name.endswith("values"):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / name))
        return own(folder, name, *rest)

    monkeypatch.setattr(stored_tables, "vector_file", refuse)


def a_file(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    (data.folder / "tables").write_text("mine")


@pytest.mark.parametrize("trouble", [unwritable, full, a_file])
def test_what_cannot_be_kept_is_counted_in_memory(
    data: Dataset, counts: list[str], monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    expected = CountedNeighbours._count
    trouble(data, monkeypatch)
    before = {path.name for path in data.folder.rglob("*")}
    first, second = built("transitions", data), built("transitions", data)
    assert counts == ["transitions"] * 2
    assert bits(first) == bits(second) == tuple(a.tobytes() for a in expected(first, data, data.n_items))
    assert not any(map(is_mapped, first.table))
    assert {path.name for path in data.folder.rglob("*")} == before


def test_a_folder_that_is_held_by_another_process_is_left_to_it(data: Dataset, counts: list[str]) -> None:
    folder = data.folder / "tables"
    with lock_folder(folder, "filled"):
        built("transitions", data)
        assert [path.name for path in folder.iterdir()] == [".lock"]
    built("transitions", data)
    built("transitions", data)
    assert counts == ["transitions"] * 2


def test_many_processes_that_start_at_once_all_have_their_tables(data: Dataset) -> None:
    script = (
        "import sys, hashlib\nfrom llm_esr.data import Dataset\nfrom llm_esr.scoring import build_untrained\n"
        "data = Dataset.open(sys.argv[1])\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "digest = hashlib.sha256()\n"
        "for name in ('transitions', 'co-occurrence'):\n"
        "    for array in build_untrained(name, data).table:\n        digest.update(array.tobytes())\n"
        "print(digest.hexdigest())\n"
    )
    line = [sys.executable, "-c", script, str(data.folder)]
    crew = [
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for one in crew:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    for one in crew:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    ended = [(*one.communicate(timeout=120), one.returncode) for one in crew]
    assert [code for *_, code in ended] == [0] * 3, ended
    assert len({said for said, *_ in ended}) == 1
    assert not [path.name for path in (data.folder / "tables").iterdir() if path.name not in FILES]


@pytest.mark.parametrize("missing", sorted(name for name in FILES if name.startswith("transitions")))
def test_a_table_that_lacks_a_file_is_counted_again(data: Dataset, counts: list[str], missing: str) -> None:
    expected = bits(built("transitions", data))
    (data.folder / "tables" / missing).unlink()
    assert bits(built("transitions", data)) == expected and counts == ["transitions"] * 2
    assert (data.folder / "tables" / missing).exists()


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("transitions")))
def test_a_damaged_file_is_refused_by_name_with_the_remedy(data: Dataset, name: str) -> None:
    expected = bits(built("transitions", data))
    folder = data.folder / "tables"
    flip(folder / name)
    with pytest.raises(ValueError, match="damaged") as caught:
        built("transitions", data)
    assert str(folder / name) in str(caught.value)
    assert f"delete {folder}, and its tables are counted again" in str(caught.value)
    for path in folder.iterdir():
        path.unlink()
    assert bits(built("transitions", data)) == expected


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("ids", lambda array: np.where(array == array.max(), 49, array), "it holds ids from 0 to 49, expected 0 to 48"),
        ("ids", lambda array: array - 1, "it holds ids from -1 to 47, expected 0 to 48"),
        ("ids", lambda array: array[:, :5], r"it holds int32 \(48, 5\), expected int32 \(48, 48\)"),
        ("values", lambda array: array.astype(np.float64), r"it holds float64 \(48, 48\), expected float32"),
    ],
)
def test_a_file_that_fits_its_checksum_and_not_its_table_is_refused(
    data: Dataset, part: str, change: Any, said: str
) -> None:
    path = data.folder / "tables" / f"transitions-{part}.npy"
    built("transitions", data)
    about = llm_esr.files.read_record(path.with_suffix(".json"))
    np.save(path, change(np.load(path)))
    write_json(path.with_suffix(".json"), about | {"checksum": checksum(path)})
    with pytest.raises(ValueError, match=f"transitions-{part}.npy is damaged: {said}"):
        built("transitions", data)
