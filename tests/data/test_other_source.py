"""`prepare` replaces a data set of the same source, and no other one without a word."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from llm_esr.cli import main
from llm_esr.data import Dataset, prepare

ONE = pl.DataFrame({"user_id": ["u"] * 4, "item_id": list("abcd"), "timestamp": [1, 2, 3, 4]})


def test_the_same_table_with_other_settings_or_more_rows_replaces_what_was_made_of_it(tmp_path: Path) -> None:
    ONE.write_parquet(tmp_path / "one.parquet")
    prepare(tmp_path / "one.parquet", out=tmp_path / "d")
    prepare(tmp_path / "one.parquet", out=tmp_path / "d", split="none")
    pl.concat([ONE, ONE.with_columns(user_id=pl.lit("v"))]).write_parquet(tmp_path / "one.parquet")
    assert prepare(tmp_path / "one.parquet", out=tmp_path / "d").n_users == 2
    # Its bytes under another name are the same source as well.
    (tmp_path / "one.parquet").rename(tmp_path / "moved.parquet")
    prepare(tmp_path / "moved.parquet", out=tmp_path / "d")


def test_another_source_is_refused_and_the_data_set_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ONE.write_parquet(tmp_path / "one.parquet")
    made = prepare(tmp_path / "one.parquet", out=tmp_path / "d")
    other = ONE.with_columns(user_id=pl.lit("w"))
    other.write_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"another source \(.*one\.parquet; .*other\.parquet\).*overwrite=True"):
        prepare(tmp_path / "other.parquet", out=tmp_path / "d")
    with pytest.raises(ValueError, match=r"this one is a frame of 4 x 3"):
        prepare(other, out=tmp_path / "d")
    assert Dataset.open(tmp_path / "d").fingerprint == made.fingerprint
    line = ["prepare", str(tmp_path / "other.parquet"), "--out", str(tmp_path / "d")]
    with pytest.raises(SystemExit) as refused:
        main(line)
    assert refused.value.code == 2 and "--overwrite" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*line, "--overwrite"])
    assert Dataset.open(tmp_path / "d").user_ids == ["w"]


def test_a_temporal_split_says_the_dates_that_it_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = [f"2024-03-{day:02}" for day in range(1, 11)]
    rows = [(user, f"i{day}", days[day]) for user in "uvw" for day in range(10)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(tmp_path / "e.csv")
    line = ["prepare", str(tmp_path / "e.csv"), "--out", str(tmp_path / "d"), "--split", "temporal"]
    with pytest.raises(SystemExit):
        main(line)
    said = capsys.readouterr().out
    assert "split: validation from 2024-03-09T00:00:00Z, test from 2024-03-10T00:00:00Z (chosen: the last tenth" in said
    with pytest.raises(SystemExit):
        main([*line, "--validation-from", "2024-03-09T00:00:00Z", "--test-from", "2024-03-10T00:00:00Z"])
    assert "chosen" not in capsys.readouterr().out
