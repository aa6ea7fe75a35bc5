"""docs/loader.md: its code runs, and what it draws is what the loader gives."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_esr.loading import BatchLoader

PAGE = Path(__file__).resolve().parents[2] / "docs" / "loader.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_code_of_the_page_runs_from_top_to_bottom(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "data").symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), names)
    steps = len(names["loader"])
    losses = names["history"]
    assert len(losses) == 3 * steps
    assert np.mean(losses[-steps:]) < np.mean(losses[:steps])
    assert names["sequences"].slots.shape == (2, 20)


def test_the_drawn_batch_is_what_the_loader_gives(make_folder: Any) -> None:
    tokens, rows = blocks("text")
    drawn = {
        name: [int(n) for n in numbers.split()] for name, numbers in re.findall(r"^(\w+) +([\d ]+)$", tokens, re.M)
    }
    ends = drawn["offsets"]
    data = make_folder([drawn["items"][a:b] for a, b in itertools.pairwise(ends)], 40)
    for layout, width, cut in (("packed", 5, slice(0, 37)), ("padded", 6, slice(37, None))):
        (batch,) = BatchLoader(data, layout=layout, max_len=6, batch_size=3, shuffle=False)
        for name in ("items", "positions", "targets", "offsets"):
            assert getattr(batch.students, name).tolist() == drawn[name]
        numbers = [re.findall(r"-?\d+", line[cut]) for line in rows.splitlines() if not re.search("[a-z]", line)]
        assert batch.students.slots.tolist() == [[int(n) for n in row] for row in numbers if len(row) == width]
