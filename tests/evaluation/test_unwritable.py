"""Figures are shown where they cannot be kept."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.pipeline import reports


def test_evaluate_shows_its_figures_and_says_that_they_were_not_kept(
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "run"
    llm_esr.run(tiny_tables[0], out=out, models=["popularity", "transitions"], progress=False)
    before = (out / "metrics.json").read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(out / "metrics.json"))

    monkeypatch.setattr(reports, "merge_rows", refuse)
    with pytest.raises(SystemExit) as left:
        main(["evaluate", str(out)])
    shown = capsys.readouterr()
    assert left.value.code == 0 and "transitions" in shown.out and "NDCG@10" in shown.out
    assert "warning: the figures are shown and not kept: " in shown.err and "metrics.json" in shown.err
    assert (out / "metrics.json").read_bytes() == before
