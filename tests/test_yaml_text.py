"""Settings as editors and people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_esr.cli.options import run_settings
from llm_esr.config import dump_config, load_config
from llm_esr.config.yaml_text import mapping_of, value_of, yaml_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2020-11-01", "2020-11-01"),
        ("2020-12-01 00:00:00", "2020-12-01 00:00:00"),
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("007", "007"),
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1e-3", 0.001),
        ("1.5", 1.5),
        (".5", 0.5),
        ("0.5", 0.5),
        ("12:30", "12:30"),
        ("0x10", "0x10"),
        ("'7'", "7"),
        ("[1, no, 2020-11-01]", [1, "no", "2020-11-01"]),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert value_of(text) == value and type(value_of(text)) is type(value)
    assert value_of(yaml_of(value)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n  k: 1\n  k: 2\n", "c: 'k' is given twice, in line 2 and in line 3; keep one"),
        ("data: {}\nmodel: {}\ndata: {}\n", "c: 'data' is given twice, in line 1 and in line 3; keep one"),
        ("a: [{b: {c: 1, c: 2}}]", "c: 'c' is given twice, in line 1 and in line 1"),
        ("- a", "c: expected sections such as 'model:', got list"),
        ("a: [", "c is not YAML"),
        ("a: !!python/object/apply:os.system [x]", "c is not YAML"),
    ],
)
def test_what_is_no_settings(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        mapping_of(text, "c")


def config(tmp_path: Path, content: bytes) -> Any:
    (tmp_path / "c.yaml").write_bytes(b"preset: sasrec\n" + content)
    return load_config(tmp_path / "c.yaml")


def test_files(tmp_path: Path) -> None:
    assert config(tmp_path, b"data:\nmodel: {width: 64}\n").model.width == 64
    assert config(tmp_path, b"evaluate: {k: 10, length_groups: 5}\n").evaluate.k == [10]
    assert config(tmp_path, b"model: {views: collaborative}\r\n").model.views == ["collaborative"]
    assert config(tmp_path, b"data: {text_columns: title, user_column: 1}\n").data.text_columns == ["title"]
    assert config(tmp_path, b"data: {user_column: 007}\n").data.user_column == "007"
    assert config(tmp_path, b"data: {user_column: 1}\n").data.user_column == "1"
    assert config(tmp_path, b"data: {keep_unseen_items: yes}\n").data.keep_unseen_items is True
    text = b"data: {split: temporal, validation_from: 2020-11-01, test_from: 2020-12-01}\n"
    assert config(tmp_path, text).data.validation_from == "2020-11-01"
    for name in ("no", "1e5", "2020-11-01", "007", "12:30", "~", "1.0", "true", ""):
        read = load_config("sasrec", [f"data.user_column='{name}'"]) if name else None
        if read is not None:
            (tmp_path / "again.yaml").write_text(dump_config(read))
            assert load_config(tmp_path / "again.yaml").data.user_column == name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: {user_column: café}\n".encode("latin-1"), "c.yaml: line 2 is not UTF-8"),
        (b"model: {width: 64, width: 32}\n", "'width' is given twice, in line 2 and in line 2"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, content)
    (tmp_path / "run.yaml").write_bytes(b"# settings\n" + content)
    with pytest.raises(ValueError, match=message.replace("c.yaml", "run.yaml")):
        run_settings(str(tmp_path / "run.yaml"), {})
    (tmp_path / "utf16.yaml").write_text("data: {}\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"utf16\.yaml: it is UTF-16; expected UTF-8"):
        load_config(tmp_path / "utf16.yaml")


def test_a_value_that_refers_to_itself_many_times_is_shown_in_short(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    (tmp_path / "c.yaml").write_text("\n".join([*lines, "model: {width: *i}"]) + "\n")
    with pytest.raises(ValueError, match="unknown setting 'a'") as caught:
        load_config(tmp_path / "c.yaml")
    assert len(str(caught.value)) < 5000
