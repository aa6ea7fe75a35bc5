"""Where everything is for training, a blended preset is trained without its blend."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import llm_esr

Tables = tuple[pl.DataFrame, pl.DataFrame]


def test_a_blended_preset_on_all_data_is_the_network_alone(tmp_path: Path, tiny_tables: Tables) -> None:
    llm_esr.prepare(tiny_tables[0], items=tiny_tables[1], out=tmp_path / "d", split="none")
    config = llm_esr.load_config("sasrec", ["blend.scorers=[co-occurrence]", "train.epochs=1", "model.width=8"])
    made = llm_esr.train(tmp_path / "d", config=config, out=tmp_path / "m", progress=False)
    assert made.blend is None
    assert llm_esr.Recommender.load(tmp_path / "m").blend is None


def test_without_a_validation_target_it_is_said_what_to_do(tmp_path: Path, tiny_tables: Tables) -> None:
    short = tiny_tables[0].group_by("user_id", maintain_order=True).head(2)
    llm_esr.prepare(short, out=tmp_path / "d")
    with pytest.raises(ValueError, match=r"no user of .* has a validation target .*split='none'"):
        llm_esr.train(tmp_path / "d", config="sasrec", out=tmp_path / "m", epochs=1, width=8, progress=False)
