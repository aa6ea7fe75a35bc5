"""The page is made of what sections found, whenever that was."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import report
from measuring import Plot, Results, Row, Series, median_ratio, missed
from sections import PEERS, SECTIONS, USUAL
from sections.outside import Outside
from sections.packages import NotInstalledError, installed
from store import load
from svg import draw
from workload import SMALL


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "output_folder", lambda size: tmp_path)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    return tmp_path


def test_a_page_is_written_again_from_what_was_measured_before(kept: Path) -> None:
    plot = Plot("users", "By users", "users", "rows/s", [Series("ours", [1.0, 2.0], [10.0, 2000.0])])
    rows = [
        Row("loading", "packed", 12_345.0, "batches/s", 1, "NumPy", 100.0, 123.45, ">= 100"),
        Row("loading", "padded", None, "rows/s", 1, "Other", note="not installed: no such package"),
    ]
    report.write(SMALL, {"loading": Results(rows, [plot])})
    first = (kept / "benchmarks.md").read_bytes(), (kept / "benchmarks.json").read_bytes()
    (kept / "plots" / "users.svg").unlink()
    report.main(["--small", "--render"])
    assert ((kept / "benchmarks.md").read_bytes(), (kept / "benchmarks.json").read_bytes()) == first
    page = (kept / "benchmarks.md").read_text()
    assert "| packed | 12,345 batches/s | NumPy | 100 batches/s | 123 | >= 100 | 1 |  |" in page
    assert "not installed: no such package" in page and "plots/users.svg" in page
    figures = json.loads((kept / "benchmarks.json").read_text())["rows"]
    assert figures[0]["ratio"] == 123.45 and figures[1]["peer"] is None
    assert {"name", "ours", "peer", "peer_name", "ratio", "unit", "threads", "section"} <= set(figures[0])
    ET.parse(kept / "plots" / "users.svg")


def test_without_any_measurement_the_command_says_what_to_do(kept: Path) -> None:
    with pytest.raises(SystemExit, match="make bench"):
        report.write(SMALL, {})


def test_only_what_is_measured_now_changes_on_the_page(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest comes from benchmarks.json, though it was measured on another machine, in another checkout."""

    def row(section: str, ours: float) -> Row:
        return Row(section, "packed", ours, "rows/s", 1, "Other", 100.0, asked=">= 7", note="as it was")

    elsewhere = Plot("threads", "By threads", "threads", "rows/s", [Series("ours", [1.0, 2.0], [3.0, 4.0])])
    with monkeypatch.context() as patch:
        patch.setattr("measuring.environment", lambda: {"date": "2001-02-03", "machine": "Elsewhere, 9 cores",
                                                        "versions": {"llm-esr": "0.0.1"}})  # fmt: skip
        report.write(SMALL, {"loading": Results([row("loading", 11.0)]), "peers": Results([row("peers", 12.0)]),
                             "plots": Results([], [elsewhere])})  # fmt: skip
    before = sections_of(kept / "benchmarks.md")
    monkeypatch.setattr("sections.outside.measure", lambda size: Results([row("peers", 13.0)]))
    report.main(["--small", "--only", "peers"])
    after = sections_of(kept / "benchmarks.md")
    assert [*before] == [*after] == ["Loading", "Against size", "Loaders of other packages"]
    assert before["Loading"] == after["Loading"] and before["Against size"] == after["Against size"]
    assert "2001-02-03, Elsewhere, 9 cores; llm-esr 0.0.1." in after["Loading"] and "| >= 7 |" in after["Loading"]
    assert "![By threads](plots/threads.svg)" in after["Against size"]
    peers = after["Loaders of other packages"]
    assert "13 rows/s" in peers and "12 rows/s" not in peers and "Elsewhere" not in peers


def sections_of(page: Path) -> dict[str, str]:
    parts = page.read_text().split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def test_the_page_of_this_repository_can_be_written_again_from_its_figures() -> None:
    folder = Path(report.__file__).parent.parent / "docs"
    page = sections_of(folder / "benchmarks.md")
    for name, values in load(folder).items():
        results = Results.from_json(values)
        lines = page[SECTIONS[name].TITLE].splitlines()
        assert {report.table_line(row) for row in results.rows} <= set(lines)
        assert all((folder / "plots" / f"{plot.name}.svg").exists() for plot in results.plots)


def test_what_make_bench_measures_needs_no_other_package() -> None:
    assert set(USUAL) | set(PEERS) == set(SECTIONS) and not set(USUAL) & set(PEERS)
    assert f"--only {','.join(PEERS)}" in (Path(report.__file__).parent.parent / "Makefile").read_text()


def test_a_ratio_is_taken_within_each_repeat() -> None:
    assert median_ratio([10.0, 40.0, 30.0], [1.0, 2.0, 30.0]) == 10.0


def test_a_plot_names_each_line_and_each_value_of_its_axis() -> None:
    lines = [Series("ours & theirs", [1000.0, 2e6], [5.0, 7.0]), Series("theirs", [1000.0, 2e6], [4.0, 7.0])]
    texts = [e.text for e in ET.fromstring(draw(Plot("p", "Title", "users", "rows/s", lines))).iter() if e.text]
    assert {"ours & theirs", "theirs", "1k", "2M", "Title", "users", "rows/s"} <= set(texts)


def test_an_axis_of_many_values_names_round_ones() -> None:
    places = [0.01 * 1.7**power for power in range(16)]
    line = Series("ours", places, [1.0] * len(places))
    texts = [e.text for e in ET.fromstring(draw(Plot("p", "Title", "missed", "s", [line]))).iter() if e.text]
    assert {"0.01", "0.1", "10"} <= set(texts) and f"{places[1]:g}" not in texts


def test_a_package_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sections.packages.ENVIRONMENTS", tmp_path)
    monkeypatch.setattr("sections.packages.sys.executable", str(tmp_path / "no-uv-here"))
    peer = Outside("Nothing", "nothing", ("nothing",), "nothing.py", lambda size: [], "")
    with pytest.raises(NotInstalledError, match="uv"):
        installed(peer)


@pytest.mark.parametrize(
    ("ours", "ratio", "asked", "short"),
    [
        (100.0, 260.0, ">= 250, and >= 10,000 batches/s", True),
        (12_000.0, 260.0, ">= 250, and >= 10,000 batches/s", False),
        (12_000.0, 240.0, ">= 250, and >= 10,000 batches/s", True),
        (0.1, 76.0, ">= 75, stretch 150", False),
        (144.0, None, "< 50", True),
        (1.2, 12.0, "<= 1.5 GB", False),
        (499.4, None, ">= 500, 0 failed", True),
        (13.0, 0.7, ">= .74", True),
        (1.0, 1.0, "", False),
        (None, None, ">= 3", False),
    ],
)
def test_a_missed_target_is_told_from_one_that_is_met(
    ours: float | None, ratio: float | None, asked: str, short: bool
) -> None:
    row = Row("loading", "one", ours, "x", 1, ratio=ratio, asked=asked)
    assert missed(row) is short
    assert (f"**{asked}**" in report.table_line(row)) is short


def test_the_page_begins_with_ten_rows_at_most_and_names_what_was_missed(kept: Path) -> None:
    rows = [Row("serving", "soon", 60.0, "ms", 1, asked="< 50"), Row("serving", "all", 501.0, "1/s", 1, asked=">= 500")]
    lines = report.summary_lines({"Serving": Results(rows, []), **{f"S {n}": Results(rows[1:], []) for n in range(12)}})
    assert sum(line.startswith("| [") for line in lines) == 10
    assert lines[-1] == "1 of 14 targets were missed: soon ([Serving](#serving))."
