"""The page is made of what sections found, whenever that was."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import report
from measuring import Plot, Results, Row, Series, median_ratio
from sections.outside import NotInstalledError, Outside, installed
from store import save
from svg import draw
from workload import SMALL


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_ESR_BENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(report, "output_folder", lambda size: tmp_path)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    return tmp_path


def test_a_page_is_written_again_from_what_was_measured_before(kept: Path) -> None:
    plot = Plot("users", "By users", "users", "rows/s", [Series("ours", [1.0, 2.0], [10.0, 2000.0])])
    rows = [
        Row("loading", "packed", 12_345.0, "batches/s", 1, "NumPy", 100.0, 123.45, ">= 100"),
        Row("loading", "padded", None, "rows/s", 1, "Other", note="not installed: no such package"),
    ]
    save(SMALL, "loading", Results(rows, [plot]))
    report.write(SMALL)
    page = (kept / "benchmarks.md").read_text()
    assert "| packed | 12,345 batches/s | NumPy | 100 batches/s | 123 | >= 100 | 1 |  |" in page
    assert "not installed: no such package" in page and "plots/users.svg" in page
    figures = json.loads((kept / "benchmarks.json").read_text())["rows"]
    assert figures[0]["ratio"] == 123.45 and figures[1]["peer"] is None
    assert set(report.ROW_KEYS) <= set(figures[0])
    ET.parse(kept / "plots" / "users.svg")


def test_without_any_measurement_the_command_says_what_to_do(kept: Path) -> None:
    with pytest.raises(SystemExit, match="make bench"):
        report.write(SMALL)


def test_a_ratio_is_taken_within_each_repeat() -> None:
    assert median_ratio([10.0, 40.0, 30.0], [1.0, 2.0, 30.0]) == 10.0


def test_a_plot_names_each_line_and_each_value_of_its_axis() -> None:
    lines = [Series("ours & theirs", [1000.0, 2e6], [5.0, 7.0]), Series("theirs", [1000.0, 2e6], [4.0, 7.0])]
    texts = [e.text for e in ET.fromstring(draw(Plot("p", "Title", "users", "rows/s", lines))).iter() if e.text]
    assert {"ours & theirs", "theirs", "1k", "2M", "Title", "users", "rows/s"} <= set(texts)


def test_a_package_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sections.outside.ENVIRONMENTS", tmp_path)
    monkeypatch.setattr("sections.outside.sys.executable", str(tmp_path / "no-uv-here"))
    peer = Outside("Nothing", "nothing", ("nothing",), "nothing.py", lambda size: [], "")
    with pytest.raises(NotInstalledError, match="uv"):
        installed(peer)
