"""A training that cannot fit is refused with its size, by `run` before the first one starts."""

from __future__ import annotations

from pathlib import Path

import pytest

import llm_esr
from llm_esr.config import load_config
from llm_esr.training import train
from llm_esr.training.plan import check_plan


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("model.width=1000000", r"the blocks \(model\.width"),
        ("model.max_len=1000000000000", r"positions \(model\.max_len"),
        ("model.blocks=1000000000", "model.blocks"),
        ("negatives.count=1000000000", r"negatives \(negatives\.count, kind shared\)"),
        ("train.validation_candidates=1000000000000", "candidates"),
    ],
)
def test_the_largest_part_is_named(setting: str, named: str, tiny_folder: Path, tmp_path: Path) -> None:
    config = load_config("sasrec", [setting, "train.loss=sampled-softmax"])
    with pytest.raises(ValueError, match=f"this training needs at least .* and the machine has .*{named}"):
        train(tiny_folder, config=config, out=tmp_path / "m", progress=False)
    assert not (tmp_path / "m").exists()


def test_the_memory_decides(tiny_folder: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), load_config("sasrec")
    check_plan(data, config)
    with pytest.raises(ValueError, match=r"and the machine has 1\.0 MB"):
        check_plan(data, config, memory=1_000_000)


def test_a_run_refuses_the_second_model_before_it_trains_the_first(tiny_folder: Path, tmp_path: Path) -> None:
    interactions, items = llm_esr.simulate(3, 60, 130)
    (tmp_path / "large.yaml").write_text("preset: sasrec\nmodel: {width: 1000000}\n")
    with pytest.raises(ValueError, match="this training needs at least"):
        llm_esr.run(interactions, items=items, out=tmp_path / "run", models=["sasrec", tmp_path / "large.yaml"],
                    progress=False)  # fmt: skip
    assert not list((tmp_path / "run").glob("models/*/*"))
