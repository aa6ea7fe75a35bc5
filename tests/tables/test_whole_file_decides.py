"""What the first lines say is a guess: JSON keys that come late, and the types that --where reads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

import llm_esr
from llm_esr.tables.json_lines import JsonLinesSource


def write(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("explicit", [False, True])
def test_a_timestamp_that_comes_late_is_read(tmp_path: Path, explicit: bool) -> None:
    early: list[dict[str, object]] = [{"user_id": f"u{n % 50}", "item_id": f"i{n % 7}"} for n in range(4200)]
    late: list[dict[str, object]] = [
        {"user_id": "z", "item_id": f"at{t}", "timestamp": 1_600_000_000 + t} for t in (9, 2, 5)
    ]
    path = write(tmp_path / "e.jsonl", early + late)
    settings = {"timestamp_column": "timestamp"} if explicit else {}
    data = llm_esr.prepare(path, out=tmp_path / "d", split="none", **settings)
    assert data.item_ids == ["at9", "at2", "at5"] and data.history(0, "serving").tolist() == [2, 3, 1]
    assert data.metadata["rows"]["interactions"]["kinds"] == {"bad_timestamp": 4200}


def test_a_title_that_comes_late_is_read(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [{"item_id": f"i{n}"} for n in range(5000)]
    write(tmp_path / "i.jsonl", [*items, {"item_id": "last", "title": "late"}])
    path = write(tmp_path / "e.jsonl", [{"user_id": "u", "item_id": item} for item in ("i1", "last")])
    data = llm_esr.prepare(path, items=tmp_path / "i.jsonl", out=tmp_path / "d", split="none")
    assert data.titles() == ["unknown", "late"] or data.titles() == ["late"] or "late" in (data.titles() or [])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("other", ["1", "1.5", '"a"'])
def test_what_is_no_number_is_no_id(tmp_path: Path, value: str, other: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(f'{{"user_id": {other}, "item_id": "x"}}\n{{"user_id": {value}, "item_id": "y"}}\n')
    data = llm_esr.prepare(path, out=tmp_path / "d", split="none")
    assert data.user_ids == [other.strip('"')]
    assert data.metadata["rows"]["interactions"]["kinds"] == {"missing_id": 1}
    frame = pd.DataFrame({"user_id": pd.Series([json.loads(other), float(value)], dtype=object), "item_id": ["x", "y"]})
    assert llm_esr.prepare(frame, out=tmp_path / "f", split="none").user_ids == [other.strip('"')]


def test_half_a_character_costs_its_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    path.write_text('{"item_id": "x", "title": "shoe \\ud83d"}\n{"item_id": "y", "title": "a \\ud83d\\ude00"}\n')
    write(tmp_path / "e.jsonl", [{"user_id": "u", "item_id": "x"}, {"user_id": "u", "item_id": "y"}])
    data = llm_esr.prepare(tmp_path / "e.jsonl", items=path, out=tmp_path / "d", split="none")
    assert data.titles() == ["a \U0001f600", "unknown"]
    report = data.metadata["rows"]["items"]
    assert report["kinds"] == {"malformed_record": 1} and report["examples"]["malformed_record"][0]["line"] == 1
    frame = pd.DataFrame({"user_id": ["u", "u"], "item_id": pd.Series(["x", "y\ud83d"], dtype=object)})
    with pytest.raises(ValueError, match=r"column 'item_id', row 2: .*holds half of a character"):
        llm_esr.prepare(frame, out=tmp_path / "f", split="none")


@pytest.fixture
def chunks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_esr.tables.delimited.TEXT_ROWS", 2)


def kinds(tmp_path: Path, values: list[str], where: str) -> dict[str, int]:
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,x\n" + "".join(f"u,i{n},{value}\n" for n, value in enumerate(values)))
    found: dict[str, int] = llm_esr.prepare(path, out=tmp_path / "d", split="none", where=where).metadata["rows"][
        "interactions"
    ]["kinds"]
    return found


@pytest.mark.usefixtures("chunks_of_two")
def test_where_reads_the_same_types_wherever_a_value_stands(tmp_path: Path) -> None:
    # A word among numbers is dirty, in the first chunk and in a later one.
    assert kinds(tmp_path, ["many", "1", "2", "0"], "x > 0") == {"bad_where_value": 1, "where": 1}
    assert kinds(tmp_path, ["1", "2", "many", "0"], "x > 0") == {"bad_where_value": 1, "where": 1}
    # Codes of which the first are numbers are text, as the condition says.
    assert kinds(tmp_path, ["7", "8", "A7", "7"], "x = '7'") == {"where": 2}
    with pytest.raises(ValueError, match=r"where .*read as: x is Int64"):
        kinds(tmp_path, ["7", "8", "9", "7"], "x = 'many'")


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.gz"])
def test_zeros_behind_a_gzip_member_are_nothing(tmp_path: Path, suffix: str) -> None:
    lines = [b"user_id,item_id\n", b"u,a\n", b"u,b\n"] if "csv" in suffix else [
        b'{"user_id": "u", "item_id": "a"}\n', b'{"user_id": "u", "item_id": "b"}\n'
    ]  # fmt: skip
    for padded in (b"".join(map(gzip.compress, lines)), gzip.compress(b"".join(lines))):
        path = tmp_path / f"e{suffix}"
        for zeros in (0, 1, 511, 400_000):
            path.write_bytes(padded + bytes(zeros))
            assert llm_esr.prepare(path, out=tmp_path / "d", split="none").item_ids == ["a", "b"]
        path.write_bytes(gzip.compress(lines[0]) + bytes(7) + gzip.compress(b"".join(lines[1:])) + bytes(9))
        assert llm_esr.prepare(path, out=tmp_path / "d", split="none").item_ids == ["a", "b"]
        for bad in (padded + b"\0garbage", padded[:-9]):
            path.write_bytes(bad)
            with pytest.raises(ValueError, match="gzip"):
                llm_esr.prepare(path, out=tmp_path / "x", split="none")


def test_a_key_that_nobody_asked_for_does_not_read_the_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[dict[str, object]] = [{"user_id": "u", "item_id": f"i{n % 9}"} for n in range(5000)]
    path = write(tmp_path / "e.jsonl", [*records, {"user_id": "u", "item_id": "late", "vote": 3}])
    read: list[int] = []
    own = JsonLinesSource.chunks

    def counted(source: JsonLinesSource, columns: list[str]) -> object:
        read.append(1)
        return own(source, columns)

    monkeypatch.setattr(JsonLinesSource, "chunks", counted)
    assert "late" in llm_esr.prepare(path, out=tmp_path / "d", split="none").item_ids
    assert len(read) == 1
