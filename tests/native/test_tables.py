"""The Rust table reader against Python's own csv module."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_esr._native import TableReader

# No lone carriage return: the reader leaves it in the field, Python's csv ends the line there.
FIELD = st.text(st.characters(exclude_characters="\r\x00", exclude_categories=("Cs",)), max_size=6)


def read_all(path: Path, layout: str = "csv", rows: int = 3) -> tuple[list[int], list[tuple[str, ...]], list[tuple]]:
    reader = TableReader(path, layout=layout)
    lines: list[int] = []
    found: list[tuple[str, ...]] = []
    malformed: list[tuple] = []
    while (part := reader.read(rows, reader.columns)) is not None:
        lines += part[0].tolist()
        found += zip(*part[1], strict=True)
        malformed += part[2]
    return lines, found, malformed


def oracle(text: str, width: int, delimiter: str) -> tuple[list[int], list[tuple[str, ...]], list[int]]:
    """Each record's first physical line (from 1) and fields; lines of the records of another width."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(reader)
    lines, found, malformed, before = [], [], [], reader.line_num
    for record in reader:
        breaks = sum(field.count("\n") for field in record)
        assert reader.line_num - breaks > before or not record
        before, first = reader.line_num, reader.line_num - breaks
        if not record:
            continue
        if len(record) == width:
            lines.append(first)
            found.append(tuple(record))
        else:
            malformed.append(first)
    return lines, found, malformed


@given(
    records=st.lists(st.lists(FIELD, min_size=1, max_size=4), max_size=12),
    blanks=st.integers(0, 2),
    crlf=st.booleans(),
    zipped=st.booleans(),
    delimiter=st.sampled_from(",\t"),
    last_newline=st.booleans(),
)
def test_rows_lines_and_malformed_records_are_those_of_pythons_csv(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[list[str]],
    blanks: int,
    crlf: bool,
    zipped: bool,
    delimiter: str,
    last_newline: bool,
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b", "c"])
    for number, record in enumerate(records):
        file.write("\n" * (blanks if number % 3 == 1 else 0))
        writer.writerow(record)
    text = file.getvalue()
    if not last_newline:
        text = text.removesuffix("\n")
    expected = oracle(text, 3, delimiter)
    data = text.replace("\n", "\r\n").encode() if crlf else text.encode()
    path = tmp_path_factory.mktemp("csv") / "table"
    path.write_bytes(gzip.compress(data) if zipped else data)
    lines, found, malformed = read_all(path, "tsv" if delimiter == "\t" else "csv")
    assert (lines, found, [record[0] for record in malformed]) == expected


def test_a_missing_file_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        TableReader(tmp_path / "none.csv", layout="csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"a,b,a\n1,2,3\n", "names 'a' twice"),
        (b"a,\xff\n1,2\n", "header is not UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        TableReader(path, layout="csv")


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b;c\n1;2;3\n", encoding="utf-8")
    reader = TableReader(path, layout="csv")
    assert (reader.columns, reader.delimiter) == (["a", "b", "c"], ";")
    part = reader.read(10, ["c", "a"])
    assert part is not None
    assert part[1] == [["3"], ["1"]]
    assert reader.read(10, ["a"]) is None


def test_an_unknown_column_or_layout_names_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no 'x' \(it has: a, b"):
        TableReader(path, layout="csv").read(1, ["x"])
    with pytest.raises(ValueError, match="expected 'csv', 'tsv' or 'pairs'"):
        TableReader(path, layout="xml")
