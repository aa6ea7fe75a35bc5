"""Tables keep their borders and words on 80 columns; lines of a training break between words; what their foot says."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from llm_esr.evaluation import evaluate, print_tables, render
from llm_esr.evaluation.group_metrics import group_rows
from llm_esr.evaluation.groups import Group
from llm_esr.evaluation.paired import RankedUsers, paired_rows
from llm_esr.pipeline.reports import vector_notes
from llm_esr.pipeline.run_folder import RunFolder
from llm_esr.scoring import Popularity
from llm_esr.training.callbacks import TerminalProgress
from llm_esr.training.trainer import EpochReport, StepReport


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def lines_of(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture
def rows(make_random_data: Any) -> list[dict[str, Any]]:
    data = make_random_data(1)
    return evaluate(Popularity(data), data).rows


@pytest.mark.parametrize("name", ["llm-esr", "llm-esr, no blend", "llmemb-paper-bert4rec, no blend"])
@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_table_keeps_its_borders_and_its_words(rows: list[dict[str, Any]], name: str, width: int) -> None:
    console = terminal(width)
    print_tables([*rows, *({**row, "model": name} for row in rows)], console, notes=["item vectors by lsa (no LLM)"])
    lines = lines_of(console)
    table = [line for line in lines if line[:1] in set("┏┃┡│├└")]
    assert len({len(line.rstrip()) for line in table}) == 1 and all(len(line) <= width for line in lines)
    assert {line.rstrip()[-1] for line in table} <= set("┓┃┩│┤┘")
    words = " ".join(line.strip("│┃ ") for line in lines)
    for word in ("popularity", "overall", "NDCG@10", "lsa", "users"):
        assert word in words
    for part in name.replace(",", ", ").split():
        assert part.strip(",") in words or width == 80


def test_the_foot_says_what_it_counts(rows: list[dict[str, Any]]) -> None:
    text = render(rows, notes=["item vectors by lsa (no LLM)"])
    assert "with a tail item as target;" in text and "tail users;" in text and "item vectors by lsa (no LLM)" in text
    assert " tail item, " not in text


def test_the_tables_of_a_run_name_its_encoder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert vector_notes(run) == []
    run.data.mkdir()
    (run.data / "item_embeddings.json").write_text('{"encoder": "sentence-transformers:all-MiniLM-L6-v2"}')
    assert vector_notes(run) == ["item vectors by sentence-transformers:all-MiniLM-L6-v2"]


def test_an_interval_does_not_depend_on_the_other_cut_offs() -> None:
    rng = np.random.default_rng(3)
    above, tied = rng.integers(0, 40, 300), rng.integers(0, 3, 300)
    groups = [Group("all", np.ones(300, np.bool_), 0), Group("tail_user", rng.random(300) < 0.4, 3)]

    def at_10(ks: list[int]) -> list[tuple[Any, ...]]:
        rows = group_rows(above, tied, groups, ks, resamples=200)
        return [(row["group"], row["metric"], row["low"], row["high"]) for row in rows if row["k"] == 10]

    alone = at_10([10])
    assert at_10([5, 10, 20]) == alone == at_10([10, 50]) and all(low < high for *_, low, high in alone)

    def paired(ks: list[int]) -> list[tuple[Any, ...]]:
        one, other = (RankedUsers(name, 1, "test", "full", np.arange(300), a, tied)
                      for name, a in (("a", above), ("b", above[::-1].copy())))  # fmt: skip
        rows = paired_rows([one], [other], groups, ks, resamples=200)
        return [(row["group"], row["metric"], row["low"], row["high"]) for row in rows if row["k"] == 10]

    assert paired([10]) == paired([5, 10, 20])


def test_intervals_are_those_of_a_multinomial_bootstrap() -> None:
    above, members = np.repeat([0, 4, 30], [30, 50, 120]), np.ones(200, np.bool_)
    group = Group("all", members, 0)
    row = next(r for r in group_rows(above, np.zeros_like(above), [group], [10], resamples=4000) if r["metric"] == "hr")
    draws = np.random.default_rng(0).binomial(200, 0.4, 40_000) / 200
    low, high = np.quantile(draws, [0.025, 0.975])
    assert abs(row["low"] - low) <= 0.01 and abs(row["high"] - high) <= 0.01


def trainer(epochs: int = 60, epoch: int = 0, step: int = 0) -> Any:
    settings = SimpleNamespace(train=SimpleNamespace(epochs=epochs))
    return SimpleNamespace(name="llm-esr", config=settings, epoch=epoch, step=step, best_value=0.1, best_epoch=2)


def test_epoch_lines_break_between_words_and_count_to_the_last() -> None:
    console = terminal(80)
    progress = TerminalProgress(console)
    report = EpochReport(6, 4.7, {"ranking": 4.7, "distillation": 1.2, "alignment": 0.5}, 12.0, 0.0987, False)
    progress.on_epoch_end(trainer(), report)
    lines = [line.rstrip() for line in lines_of(console)]
    assert lines[0].startswith("llm-esr epoch  7/60") and len(lines) > 1 and all(len(line) <= 80 for line in lines)
    words = ["alignment", "0.5000", "validation", "NDCG@10", "0.0987", "(best", "0.1000", "at", "3)"]
    assert " ".join(lines).split()[-len(words) :] == words


def test_a_file_has_a_line_an_epoch() -> None:
    console = Console(file=io.StringIO(), width=40)
    TerminalProgress(console).on_epoch_end(trainer(), EpochReport(0, 4.7, {"ranking": 4.7}, 12.0, 0.0987, True))
    assert len(lines_of(console)) == 1


def test_the_bar_tells_the_time_of_the_epoch_and_of_all() -> None:
    progress = TerminalProgress(terminal(80))
    progress._began, progress._epoch_began, progress._first_epoch = 0.0, 60.0, 0
    # Two epochs of 30 s are over; the third is 10 s old and at a third of its steps.
    said = progress.times(StepReport(2, 20, 60, 4.7, 2.0), 60, 70.0)
    assert said == "0:10/0:30, all 1:10/30:00"
