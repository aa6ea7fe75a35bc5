"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest

import llm_esr.files
from llm_esr.files import (
    atomic_file,
    atomic_folder,
    checksum,
    key_of,
    read_json,
    read_record,
    write_array,
    write_json,
)
from llm_esr.files.records import SEAL


class CrashError(Exception):
    pass


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_crash_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"old": True})
    with pytest.raises(CrashError), atomic_file(target) as file:
        file.write(b"half")
        raise CrashError
    assert read_json(target) == {"old": True}
    assert _names(tmp_path) == {"a.json"}


def test_a_crash_leaves_the_old_folder_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "data"
    with atomic_folder(target) as folder:
        (folder / "x").write_text("old")
    with pytest.raises(CrashError), atomic_folder(target) as folder:
        (folder / "x").write_text("new")
        raise CrashError
    assert (target / "x").read_text() == "old"
    assert _names(tmp_path) == {"data"}


def test_nobody_who_looks_for_a_file_finds_the_temporary_one(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "1" / "model.json") as file:
        file.write(b"half")
        file.flush()
        assert not list(tmp_path.rglob("model.json"))
    assert len(list(tmp_path.rglob("model.json"))) == 1


def test_links_and_pipes_in_a_folder_are_not_opened(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "data") as folder:
        (folder / "link").symlink_to("nowhere")
        os.mkfifo(folder / "pipe")
    assert _names(tmp_path / "data") == {"link", "pipe"}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "data"
    with atomic_folder(target) as folder:
        (folder / "x").write_text("1")
    with atomic_folder(target) as folder:
        (folder / "y").write_text("2")
    assert _names(target) == {"y"}
    assert _names(target.parent) == {"data"}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_get_the_permissions_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_arrays_come_back_bit_for_bit(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    write_array(tmp_path / "a.npy", array)
    again = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, array)


def test_a_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_keys_depend_on_values_and_not_on_order() -> None:
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    with pytest.raises(ValueError):
        key_of({"a": float("nan")})


def test_a_checksum_changes_with_any_byte(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a" * 5_000_000)
    before = checksum(path)
    with path.open("r+b") as file:
        file.seek(4_999_999)
        file.write(b"b")
    assert checksum(path) != before


def test_one_place_holds_the_format_number() -> None:
    package = Path(llm_esr.files.__file__).parents[1]
    holders = [path for path in package.rglob("*.py") if re.search(r"^FORMAT\b", path.read_text("utf-8"), re.MULTILINE)]
    assert [path.relative_to(package).as_posix() for path in holders] == ["files/format.py"]


def test_a_record_says_whether_it_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"count": 12, "list": (1, 2.5), "names": {"a": None}, "text": "Käse", "1": True})
    expected = {"count": 12, "list": [1, 2.5], "names": {"a": None}, "text": "Käse", "1": True}
    assert read_json(path) == expected and SEAL not in expected
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in range(len(whole)):
        raw = bytearray(whole)
        raw[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"a\.json is damaged"):
            read_json(path)
    for changed in (b'"count": 13', b'"count": 12.0', b'"count": "12"', b'"kount": 12'):
        path.write_bytes(whole.replace(b'"count": 12', changed))
        with pytest.raises(ValueError, match="differs from its entry 'seal'"):
            read_json(path)


def test_a_record_is_updated_and_an_older_one_has_no_seal(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"count": 12}')
    assert read_json(path) == {"count": 12}
    write_json(path, read_json(path) | {"more": 1})
    write_json(path, json.loads(path.read_text()) | {"count": 13})  # with the seal of before
    assert read_record(path, "count", "more") == {"count": 13, "more": 1}
    with pytest.raises(ValueError, match=r"a\.json is damaged: it has no entry less and no least"):
        read_record(path, "count", "less", "least")
    write_json(path, [1, 2])
    assert read_json(path) == [1, 2]
    with pytest.raises(ValueError, match=r"a\.json is damaged: it holds a list, no record"):
        read_record(path)
