"""The page of a run: whole, without a network, escaped, the same bytes from the same run."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

import llm_esr
from llm_esr.files import read_json
from llm_esr.pipeline.web_page import PAGE_NAME, write_page
from llm_esr.pipeline.web_page.gathered import Figures

NASTY = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "br", "img", "link", "path", "use"}


class Tags(HTMLParser):
    """The tags of a page, and those that never close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "shop & <co>"
    interactions, items = llm_esr.simulate(seed=3, n_users=60, n_items=120)
    items = items.with_columns(pl.when(pl.col("title").is_not_null()).then(pl.lit(NASTY)).alias("title"))
    tiny = ["model.width=8", "train.epochs=2", "train.batch_size=30", "blend.scorers=[transitions]"]
    llm_esr.run(interactions, items=items, models=["sasrec"], out=folder, overrides=tiny, progress=False)
    return folder


def test_a_run_ends_with_its_page(run: Path) -> None:
    page = (run / PAGE_NAME).read_text()
    tags = Tags(page)
    assert tags.open == [] and tags.seen.count("svg") == 4
    for words in ("Head and tail", "Learning curves", "tail items", "Users in words", "every setting", "popularity"):
        assert words in page, words


def test_every_text_is_escaped_and_nothing_is_fetched(run: Path) -> None:
    page = (run / PAGE_NAME).read_text()
    assert "script" not in Tags(page).seen and "&lt;script&gt;alert" in page
    assert "shop &amp; &lt;co&gt;" in page and "shop & <co>" not in page
    assert all(link.startswith("#") for link in Tags(page).links)
    assert not re.search(r"url\((?!#)|@import", page)


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    assert write_page(run, tmp_path / "again.html").read_bytes() == (run / PAGE_NAME).read_bytes()


def test_figures_are_those_of_the_rows(run: Path) -> None:
    rows = read_json(run / "metrics.json")["rows"]
    figures = Figures(rows)
    key = {"model": "sasrec", "group": "tail_item", "metric": "ndcg", "k": 10}
    wanted = next(row for row in rows if all(row[name] == value for name, value in key.items()))
    found = figures.of("sasrec", "tail_item", "ndcg")
    assert found is not None and found.value == wanted["value"] and found.users == wanted["users"]
    assert (found.low, found.high) == (wanted["low"], wanted["high"])
    several = Figures([{**row, "seed": seed, "value": row["value"] + seed} for row in [wanted] for seed in (1, 2, 3)])
    mean = several.of("sasrec", "tail_item", "ndcg")
    assert mean is not None and mean.value == pytest.approx(wanted["value"] + 2)
    assert mean.high - mean.value == pytest.approx(1.0) and several.seeds("sasrec") == 3
    assert figures.of("sasrec", "tail_item", "no such metric") is None


def test_a_run_without_figures_has_a_page_of_its_data(run: Path, tmp_path: Path) -> None:
    interactions, items = llm_esr.simulate(seed=3, n_users=60, n_items=120)
    tiny = ["model.width=8", "train.batch_size=30"]
    llm_esr.run(
        interactions, items=items, models=["sasrec"], out=tmp_path / "all", overrides=tiny, epochs=1, progress=False,
        split="none",
    )  # fmt: skip
    page = (tmp_path / "all" / PAGE_NAME).read_text()
    assert "Learning curves" in page and "Users in words" not in page and Tags(page).seen.count("svg") == 1


def test_what_is_missing_is_said(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no run folder .*llm_esr\.run"):
        write_page(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-esr\[report\]'"):
        write_page(run, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_damaged_log_names_its_file(run: Path, tmp_path: Path) -> None:
    log = next(run.glob("models/sasrec/*/metrics.jsonl"))
    before = log.read_bytes()
    try:
        log.write_text('{"loss": 1.0')
        with pytest.raises(ValueError, match=r"metrics\.jsonl.*line 1"):
            write_page(run, tmp_path / "page.html")
    finally:
        log.write_bytes(before)
