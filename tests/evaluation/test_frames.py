"""Figures and ranks as frames, and reports as HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.evaluation import Report, merge_rows
from llm_esr.evaluation.frames import FIGURES
from llm_esr.evaluation.metrics import expected_metrics


def row(**fields: Any) -> dict[str, Any]:
    usual = {"model": "popularity", "seed": None, "split": "test", "protocol": "full", "group": "all", "metric": "hr"}
    return usual | {"k": 10, "value": 0.5, "low": None, "high": None, "users": 9} | fields


# Types that the first hundred rows do not tell: polars guesses by these alone.
ROWS = [
    *[row(group=f"length_{n}_{n}", value=1 if n % 2 else 0.25) for n in range(150)],
    row(metric="below", k=None, value=7, group="tail_item"),
    row(model="<b>mine</b>", seed=42, low=0.25, high=0.75),
    row(model="<b>mine</b>", seed=42, metric="ndcg", value=None, users=0, group="cold_target"),
]


def test_a_frame_has_the_same_types_whatever_the_figures(tmp_path: Path) -> None:
    frame = Report(ROWS).to_polars()
    assert dict(frame.schema) == FIGURES == dict(Report([]).to_polars().schema)
    assert frame.to_dicts() == ROWS
    assert frame.filter(model="<b>mine</b>", metric="hr")["low"].to_list() == [0.25]


def test_the_file_is_read_by_polars_alone_as_the_guide_has_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    merge_rows(path, ROWS)
    found = pl.read_json(path).select(pl.col("rows").explode()).unnest("rows")
    assert found.select(list(FIGURES)).equals(Report.load(path).to_polars())
    assert Report.load(tmp_path).rows == ROWS, "the folder stands for its file"
    guide = (Path(__file__).parents[2] / "docs" / "index.md").read_text()
    assert 'pl.read_json("runs/shop/metrics.json").select(pl.col("rows").explode()).unnest("rows")' in guide


def test_pandas_has_whole_numbers_where_some_are_missing() -> None:
    pytest.importorskip("pandas")
    frame = Report(ROWS).to_pandas()
    assert {name: str(frame[name].dtype) for name in ("seed", "k", "value", "low", "users")} == {
        "seed": "Int64", "k": "Int64", "value": "float64", "low": "float64", "users": "int64"}  # fmt: skip
    assert frame["value"].sum() == pytest.approx(sum(one["value"] or 0 for one in ROWS))


def test_what_a_notebook_shows_is_escaped() -> None:
    shown = Report(ROWS)._repr_html_()
    assert "&lt;b&gt;mine&lt;/b&gt;" in shown and "<b>mine" not in shown
    assert shown.count("<table>") == shown.count("</table>") == 1
    assert Report([])._repr_html_() == "<p>no figures</p>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_tables: tuple[pl.DataFrame, pl.DataFrame]) -> Path:
    """A run of one scorer, on a shop whose name is a tag."""
    folder = tmp_path_factory.mktemp("frames") / "<i>run</i>"
    llm_esr.run(tiny_tables[0], out=folder, models=["transitions"], progress=False)
    return folder


def test_ranks_by_user_give_the_figures_again(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranks.parquet"
    with pytest.raises(SystemExit) as left:
        main(["evaluate", str(run), "--ranks", str(out)])
    assert not left.value.code
    ranks, data = pl.read_parquet(out), llm_esr.Dataset.open(run)
    assert set(ranks["model"]) == {"popularity", "transitions"}
    report = Report.load(run)
    for model in ("popularity", "transitions"):
        mine = ranks.filter(model=model)
        above, tied = mine["above"].to_numpy(), mine["tied"].to_numpy()
        assert expected_metrics(above, tied, [10])["ndcg", 10].mean() == pytest.approx(report.value(model=model))
        np.testing.assert_allclose(
            mine["rank"], [np.mean(np.arange(a + 1, a + t + 2)) for a, t in zip(above, tied, strict=True)]
        )
        for user, item in mine.select("user_id", "item_id").iter_rows():
            assert data.item_ids[data.targets("test")[data.user_index[user]] - 1] == item


def test_ranks_go_into_parquet_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["evaluate", str(run), "--ranks", str(tmp_path / "ranks.csv")])
    assert left.value.code == 2 and "give a name that ends in .parquet" in capsys.readouterr().err


def test_data_and_models_show_themselves_escaped(run: Path) -> None:
    data, model = llm_esr.Dataset.open(run), llm_esr.Recommender.load(run / "models" / "transitions")
    for thing, facts in ((data, ("60", "leave-one-out", "neither vectors")), (model, ("transitions", "untrained"))):
        shown = thing._repr_html_()
        assert all(fact in shown for fact in facts) and "&lt;i&gt;run" in shown and "<i>" not in shown
