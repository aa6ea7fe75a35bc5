"""Shares of the users: each in exactly one, and together the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.serving.shards import Shard


@pytest.mark.parametrize(("users", "count"), [(0, 3), (5, 8), (60, 7), (61, 1)])
def test_every_user_is_in_exactly_one_share(users: int, count: int) -> None:
    numbers = np.arange(users)
    shares = [Shard(number, count).of_users(numbers) for number in range(1, count + 1)]
    assert np.array_equal(np.concatenate(shares), numbers)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("given", ["0/8", "9/8", "3", "a/b", "3/8/1", "-1/8", "1/0", 3, None, "1/999999"])
def test_what_is_no_share_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"--shard .*: expected a share .* such as 3/8"):
        Shard.of(given)


def test_the_parts_are_the_whole(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = llm_esr.train(tiny_folder, config="sasrec", out=tmp_path / "m", epochs=1, width=8, progress=False)
    model.recommend_to(tmp_path / "all.parquet", "all", 5)
    for number in (1, 2, 3):
        line = ["recommend", str(tmp_path / "m"), "--users", "all", "--k", "5", "--out", str(tmp_path / "recs")]
        with pytest.raises(SystemExit) as left:
            main([*line, "--shard", f"{number}/3"])
        assert left.value.code in (0, None)
    names = sorted(path.name for path in (tmp_path / "recs").iterdir())
    assert names == [f"part-0000{number}-of-00003.parquet" for number in (1, 2, 3)]
    whole = pl.read_parquet(tmp_path / "all.parquet")
    parts = pl.concat([pl.read_parquet(tmp_path / "recs" / name) for name in names])
    assert parts.drop("score").equals(whole.drop("score"))
    np.testing.assert_allclose(parts["score"], whole["score"], rtol=1e-6)
    with pytest.raises(SystemExit):
        main(["recommend", str(tmp_path / "m"), "--user", "u1", "--shard", "1/3"])
    assert "--shard goes with --users" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is a file; with shard"):
        model.recommend_to(tmp_path / "all.parquet", shard="1/3")
    with pytest.raises(ValueError, match="no user"):
        model.recommend_to(tmp_path / "refused", ["nobody"], shard="1/3")
    assert not (tmp_path / "refused").exists()


def test_parts_of_another_number_of_shares_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "part-00002-of-00003.parquet").touch()
    assert Shard(2, 3).part(tmp_path).name == "part-00002-of-00003.parquet"
    with pytest.raises(
        ValueError, match=r"holds part-00002-of-00003\.parquet, a part of another number of shares than 2"
    ):
        Shard(1, 2).part(tmp_path)
