"""Retrieval beside other packages: the same vectors, the same judge, and a row for whatever did not run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measuring import Results, Row
from peer_scripts import SCRIPTS, script_without_its_package
from sections import graphs, million, retrieval_peers, sides, vectors
from sections.packages import Coprocess, NotInstalledError, Package
from sections.recall import kth_best, recall, repeated, scores_of
from sections.vectors import NoVectorsError, Table
from workload import SMALL

from llm_esr.retrieval import nearest

STAND_INS = Path(__file__).parents[1] / "fixtures" / "retrieval_peers"
PACKAGES = ("faiss-cpu", "hnswlib", "pynndescent", "usearch")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LLM_ESR_BENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that find by brute force, in this environment."""
    for name in PACKAGES:
        about = tmp_path / "about" / f"{name.replace('-', '_')}-9.9.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    paths = [str(STAND_INS), str(tmp_path / "about"), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", ":".join(paths))
    monkeypatch.setattr("sections.packages.installed", lambda package: Path(sys.executable))


@pytest.fixture
def no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be installed."""
    monkeypatch.setattr("sections.packages.ENVIRONMENTS", tmp_path / "envs")
    monkeypatch.setattr("sections.packages.sys.executable", str(tmp_path / "no-uv-here"))


def table_of(values: np.ndarray, folder: Path, kind: str = "drawn") -> Table:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{kind}.npy", values)
    return Table(kind, folder / f"{kind}.npy")


def drawn(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return vectors.unit(np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32))


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


# --- the judge


def test_the_oracle_and_our_exact_engine_miss_nothing_of_each_other() -> None:
    table, every = drawn(200, 12), np.arange(200)
    worst = kth_best(table, table, 7, every)
    ids, scores = nearest(table, 7, threads=1)
    np.testing.assert_allclose(scores[:, -1], worst, atol=1e-6)
    assert recall(table, table, ids, worst, every) == 1.0
    queries = drawn(9, 12, seed=1)
    expected = np.sort(queries @ table.T, axis=1)[:, -7]
    np.testing.assert_allclose(kth_best(table, queries, 7), expected, atol=1e-6)


def test_a_tie_is_no_miss_but_a_worse_row_a_double_the_own_row_and_nothing_are() -> None:
    angles = np.array([0.0, 0.1, 0.2, 0.2, 1.0])
    table = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    own = np.zeros(1, np.int64)
    worst = kth_best(table, table[:1], 2, own)

    def share(*ids: int) -> float:
        return recall(table, table[:1], np.array([ids], np.int32), worst, own)

    assert share(1, 2) == share(1, 3) == share(3, 2) == 1.0
    assert share(1, 4) == share(1, 1) == share(1, 0) == share(1, -1) == 0.5
    assert share(-1, -1) == 0.0


def test_what_repeats_is_found_in_any_order() -> None:
    ids = np.array([[3, 1, 3, 3], [0, 1, 2, 3], [-1, -1, 5, 6]], np.int32)
    expected = [[False, False, True, True], [False] * 4, [False, True, False, False]]
    assert repeated(ids).tolist() == expected


def test_scores_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    table, ids = drawn(50, 6), np.random.default_rng(0).integers(0, 50, (50, 5)).astype(np.int32)
    whole, worst = scores_of(table, table, ids), kth_best(table, table, 5)
    monkeypatch.setattr("sections.recall._NUMBERS_AT_ONCE", 70)
    np.testing.assert_allclose(scores_of(table, table, ids), whole, atol=1e-6)
    np.testing.assert_allclose(kth_best(table, table, 5), worst, atol=1e-6)
    np.testing.assert_allclose(whole, np.einsum("nke,ne->nk", table[ids], table), atol=1e-6)


# --- the vectors


def test_clusters_are_the_same_at_every_call_and_lie_close_together() -> None:
    first, again = vectors.clusters(3_000, 24, 10), vectors.clusters(3_000, 24, 10)
    points = np.array(first.open())
    assert first.path == again.path and first.name == "3,000 x 24, clusters"
    first.path.unlink()
    np.testing.assert_array_equal(vectors.clusters(3_000, 24, 10).open(), points)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    # Noise as long as the centre: cosines within a cluster are about a half, and a power law's first is the largest.
    others = vectors.clusters(50, 24, 10, stream=1).open()
    best = np.sort(others @ points.T, axis=1)[:, -30:].mean()
    apart = np.sort(drawn(50, 24) @ points.T, axis=1)[:, -30:].mean()
    assert best > apart + 0.1
    assert not np.allclose(others, points[:50])


def test_a_turned_table_has_the_same_cosines_in_more_columns(tmp_path: Path) -> None:
    table = table_of(drawn(40, 6), tmp_path)
    wide = vectors.turned(table, 15).open()
    assert wide.shape == (40, 15) and wide.dtype == np.float32
    np.testing.assert_allclose(wide @ wide.T, table.open() @ table.open().T, atol=1e-5)
    assert not np.allclose(wide[:, :6], table.open(), atol=0.1)


def test_real_vectors_are_users_of_a_fixed_permutation_that_have_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "SOURCE", tmp_path)
    users = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float16)
    users[[3, 17]] = 0
    (cache / "amazon-union").mkdir(parents=True)
    np.save(cache / "amazon-union" / "user_embeddings.npy", users)
    few, all_there_are = vectors.real(10).open(), vectors.real(100)
    assert all_there_are.name == "28 x 4, real"
    np.testing.assert_array_equal(all_there_are.open()[:10], few)
    directions = vectors.unit(users[np.any(users != 0, axis=1)].astype(np.float32))
    assert {tuple(row) for row in all_there_are.open().round(3)} == {tuple(row) for row in directions.round(3)}


def test_without_the_data_the_real_tables_are_rows_that_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SOURCE", tmp_path / "nowhere")
    with pytest.raises(NoVectorsError, match="nowhere is not there"):
        vectors.real(10)
    rows: list[Row] = []
    assert retrieval_peers.table_or_row(lambda: vectors.real(10), rows) is None
    assert [(row.name, row.ours, row.note) for row in rows] == [("exact, real", None, "nowhere is not there")]


# --- the scripts of the packages


def test_a_list_loses_its_own_row_or_else_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    script = script_without_its_package(monkeypatch, "neighbour_tasks", {})
    ids = np.array([[0, 2, 1], [2, 0, 3], [1, 2, 0]])
    assert script.without_self(ids).tolist() == [[2, 1], [2, 0], [1, 0]]


@pytest.mark.parametrize(
    ("name", "side", "options", "missing"),
    [
        ("faiss_flat", "Flat", {}, 0),
        ("hnswlib_graph", "Hnsw", {"ef": 400}, 0),
        ("pynndescent_graph", "Descent", {}, 0),
        ("usearch_graph", "Usearch", {"ef": 5}, 1),
    ],
)
def test_each_script_gives_the_neighbours_that_its_package_finds(
    name: str, side: str, options: dict[str, Any], missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(STAND_INS))
    for module in ("brute", "faiss", "hnswlib", "pynndescent", "usearch", "usearch.index"):
        monkeypatch.setitem(sys.modules, module, None)  # taken away again after the test
        del sys.modules[module]
    script = script_without_its_package(monkeypatch, name, {})
    table = drawn(120, 8)
    asked = getattr(script, side)(table, 1)
    asked.build()
    ids = asked.graph(10, **options)
    expected = nearest(table, 10, threads=1)[0]
    assert ids.shape == (120, 10)
    np.testing.assert_array_equal(ids[:, : 10 - missing], expected[:, : 10 - missing])
    assert (ids[:, 10 - missing :] == -1).all()


def test_an_index_that_lasts_is_made_once_and_counted_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = script_without_its_package(monkeypatch, "neighbour_tasks", {})
    now = [0.0]
    monkeypatch.setattr(script.time, "perf_counter", lambda: now[0])
    made: list[dict[str, Any]] = []

    class Slow(script.Side):  # type: ignore[misc, name-defined]
        lasting = True

        def build(self, **settings: Any) -> None:
            made.append(settings)
            now[0] += 10

        def graph(self, k: int) -> np.ndarray:
            now[0] += 2
            return np.zeros((3, k))

        def before_search(self) -> None:
            now[0] += 100

        def search(self, queries: np.ndarray, k: int) -> np.ndarray:
            now[0] += 0.5
            return np.full((len(queries), k), len(queries))

    clock = script.Clock(Slow(np.zeros((3, 2)), 1))
    np.save(tmp_path / "queries.npy", np.zeros((5, 2)))
    graph = {"task": "graph", "k": 2, "build": {"m": 4}, "options": {}, "out": str(tmp_path / "ids.npy")}
    search = graph | {"task": "search", "queries": str(tmp_path / "queries.npy"), "at_once": 2}
    assert [clock.do(graph)["seconds"] for _ in range(2)] == [12, 12] and made == [{"m": 4}]
    assert clock.do(search)["seconds"] == 1.5
    assert np.load(tmp_path / "ids.npy").tolist() == [[2, 2]] * 4 + [[1, 1]]
    Slow.lasting = False
    assert clock.do(graph)["seconds"] == 12 and len(made) == 2
    answer = clock.do(graph | {"build": {}})
    assert made[-1] == {} and answer["peak"] > 1e6 and answer["before"] > 1e6


# --- the processes


class Scripted:
    """A process that answers what it is told to."""

    def __init__(self, *answers: float | str) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def ask(self, line: str, key: str) -> dict[str, Any]:
        self.asked.append(json.loads(line))
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise NotInstalledError(answer)
        return {"seconds": answer, "peak": 5, "before": 2}


def test_all_are_asked_in_turn_but_what_takes_long_once() -> None:
    with sides.Sides(Path("vectors.npy")) as asked:
        asked.processes |= {"quick": Scripted(3.0, 1.0, 2.0), "slow": Scripted(61.0)}  # type: ignore[dict-item]
        asked.reasons["gone"] = "not installed: no uv"
        found = asked.ask({"a": ("quick", {"k": 7}), "b": ("slow", {}), "c": ("gone", {})}, 3)
        assert found["a"].seconds == [3.0, 1.0, 2.0] and found["a"].middle == 2.0
        assert found["b"].seconds == [61.0]
        assert "c" not in found and asked.reasons["c"] == "not installed: no uv"
        told = asked.processes["quick"].asked  # type: ignore[attr-defined]
        assert [(task["k"], task["task"]) for task in told] == [(7, "graph")] * 3
        # Of unequal numbers of repeats, medians are all there is.
        assert sides.speed_ratio(found["a"], found["b"]) == 30.5


def test_what_fails_has_a_reason_and_the_others_go_on() -> None:
    with sides.Sides(Path("vectors.npy")) as asked:
        asked.processes |= {"one": Scripted(1.0, "MemoryError: 9 GB", 2.0)}  # type: ignore[dict-item]
        found = asked.ask({"a": ("one", {}), "b": ("one", {"k": 9})}, 1)
        assert list(found) == ["a"] and asked.reasons == {"b": "failed: MemoryError: 9 GB"}
        assert list(asked.ask({"a": ("one", {}), "b": ("one", {})}, 1)) == ["a"]


def test_a_coprocess_says_what_its_script_said_last(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text('print(\'{"ready": 1}\', flush=True)\ninput()\nprint(\'{"error": "no"}\', flush=True)\n1 / 0\n')
    with Coprocess(Package("This", "", ()), str(script), []) as process:
        with pytest.raises(NotInstalledError, match=r"^no$"):
            process.ask("first", "answer")
        for _ in range(2):
            with pytest.raises(NotInstalledError, match="ended with 1: ZeroDivisionError: division by zero"):
                process.ask("second", "answer")


def test_an_answer_that_takes_too_long_ends_its_process(tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text("import time\nprint('{\"ready\": 1}', flush=True)\ntime.sleep(60)\n")
    with Coprocess(Package("This", "", ()), str(script), []) as process:
        process.minutes = 0.001
        with pytest.raises(NotInstalledError, match=r"no answer within 0\.001 minutes"):
            process.ask("anything", "answer")
        assert process.process.wait(timeout=10) != 0


# --- the section


@pytest.fixture
def found(stand_ins: None) -> Results:
    return retrieval_peers.measure(SMALL)


def test_the_section_holds_ours_against_every_package(found: Results) -> None:
    rows = by_name(found.rows)
    for name in ("300 x 16, clusters", "300 x 32, clusters, turned"):
        exact = rows[f"exact, {name}"]
        assert exact.ours and exact.peer and exact.ratio and exact.asked == ">= 2" and not exact.note
        assert rows[f"exact, {name}, missed of faiss' neighbours"].ours == 0
        screened = rows[f"screened, {name}"]
        assert screened.ours and screened.ratio and screened.asked == ">= 3"
        assert rows[f"screened, {name}, missed of faiss' neighbours"].ours < 1000
        memory = rows[f"exact, {name}, peak memory"]
        assert memory.ours and memory.peer and 0.01 < memory.peer < memory.ours < 4
        assert rows[f"exact, {name}, two threads"].threads == 2
    peers = [row for row in found.rows if row.name.startswith("as good")]
    assert [row.peer_name for row in peers] == [f"{point.searcher.name}, {point.label}" for point in graphs.POINTS]
    assert all(row.ours and row.peer and row.ratio for row in peers)
    for row in peers:  # which of ours is the fastest differs from run to run; none finds less than the peer
        ours, theirs = (float(re.findall(r"recall (\d\.\d+)", one)[-1]) for one in row.note.split("; theirs"))
        assert ours >= theirs
    assert "theirs recall 0.86" in peers[0].note and "theirs recall 1.00000" in peers[3].note
    (plot,) = found.plots
    lines = {series.name: series.x for series in plot.series}
    assert set(lines) == {"ours, exact", "ours, lists", *(searcher.name for searcher in (sides.HNSWLIB, sides.USEARCH,
                                                                          sides.PYNNDESCENT))}  # fmt: skip
    assert lines["ours, exact"] == [0.01] and lines[sides.USEARCH.name] == pytest.approx([10.0] * 3, abs=0.1)
    assert lines[sides.HNSWLIB.name] == sorted(lines[sides.HNSWLIB.name]) and lines[sides.HNSWLIB.name][-1] > 100
    catalogue = [row for row in found.rows if row.name.startswith("20 best") and row.ours]
    assert len(catalogue) == 4 and all(row.peer and row.ratio and row.note.startswith("recall ") for row in catalogue)
    assert sum(row.note == "recall 1.00000" for row in catalogue) >= 2
    graph = rows["exact graph of 6,000 x 8, clusters"]
    assert graph.ours and graph.note.startswith("reckoned: 64 times") and "first 750 rows" in graph.note
    assert not [row for row in found.rows if "not installed" in row.note or "failed" in row.note]


def test_the_text_has_the_numbers_of_its_size() -> None:
    text = retrieval_peers.about(SMALL)
    assert "{" not in text and "300 users" in text and "6,000 simulated rows about 30 centres" in text


def test_an_engine_that_is_not_there_yet_is_a_row_that_says_so(
    stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(million, "APPROXIMATE", (graphs.Engine("hyperlists", {"probes": 3}),))
    rows = by_name(million.large_graph(vectors.clusters(160, 8, 4)))
    row = rows["hyperlists, probes 3, graph of 160 x 8, clusters"]
    assert row.ours is None and row.note == "llm_esr.retrieval.ENGINES has no 'hyperlists'"


def test_an_engine_of_ours_stands_beside_the_exact_one_and_faiss(
    stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine by another name, which searches exactly."""
    script = SCRIPTS / "our_neighbours.py"
    (tmp_path / "ours.py").write_text(
        "import runpy, sys\n"
        "from llm_esr.retrieval import ENGINES\n"
        "ENGINES['another'] = ENGINES['exact']\n"
        f"sys.path.insert(0, {str(script.parent)!r})\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    ours = sides.Searcher("ours", "", (), str(tmp_path / "ours.py"))
    monkeypatch.setitem(graphs.ENGINES, "another", graphs.ENGINES["exact"])
    monkeypatch.setattr(graphs, "POINTS", ())
    for module in (graphs, million):
        monkeypatch.setattr(module, "OURS", ours)
        monkeypatch.setattr(module, "APPROXIMATE", (graphs.Engine("another"),))
    table = vectors.clusters(800, 8, 4)
    rows, (plot,) = graphs.approximate_graphs(table, 1)
    assert [row.name for row in rows] == [f"by {engine}, 800 x 8, clusters" for engine in ("exact", "another")]
    assert all(row.ours and row.note.startswith("recall 1.00000") for row in rows)
    assert [series.name for series in plot.series] == ["ours, exact", "ours, another"]
    monkeypatch.setattr(million, "WHOLE", True)
    exact, another = million.large_graph(table)
    assert exact.ours and exact.note == "" and another.ours and another.peer == exact.ours
    assert another.ratio == exact.ours / another.ours and another.note.startswith("recall 1.00000 on 800 rows")
    rows = million.best_of_catalogue(table, vectors.clusters(30, 8, 4, stream=1), 1)
    assert [row.name.rpartition(", ")[2] for row in rows] == ["exact", "another"] * 2
    assert all(row.ours and row.peer and row.ratio and row.note == "recall 1.00000" for row in rows)


def test_an_engine_that_fails_is_a_row_that_says_why(
    no_uv: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(graphs, "POINTS", ())
    monkeypatch.setattr(graphs, "APPROXIMATE", (graphs.Engine("exact", {"no_such": 3}),))
    rows, plots = graphs.approximate_graphs(table_of(drawn(150, 8), tmp_path), 1)
    exact, failed = rows
    assert exact.ours and "recall 1.00000" in exact.note
    assert failed.ours is None and "no_such" in failed.note and failed.note.startswith("failed: TypeError")
    assert [series.name for series in plots[0].series] == ["ours, exact"]


def test_without_the_packages_ours_is_measured_and_each_row_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(drawn(150, 8), tmp_path)
    ours = Path(sys.executable)

    def installed(package: Package) -> Path:
        if package.requirements:
            raise NotInstalledError("no such file: uv")
        return ours

    monkeypatch.setattr("sections.packages.installed", installed)
    exact, two = graphs.exact_graph(table, 1, ">= 2")
    assert exact.ours and exact.peer is None and exact.ratio is None and exact.asked == ""
    assert exact.note == "faiss not installed: no such file: uv" and two.ratio
    rows, _ = graphs.approximate_graphs(table, 1)
    peers = [row for row in rows if row.name.startswith("as good")]
    assert len(peers) == len(graphs.POINTS)
    assert all(row.ours is None and row.note == "not installed: no such file: uv" for row in peers)


def test_a_peer_stands_beside_the_fastest_of_ours_that_finds_as_much(tmp_path: Path) -> None:
    table = table_of(drawn(10, 4), tmp_path)

    def measured(label: str, seconds: float, share: float) -> graphs.Measured:
        return graphs.Measured(label, sides.Answers(tmp_path, [seconds], 10**9), share)

    ours = [measured("ours, exact", 8.0, 1.0), measured("ours, lists", 2.0, 0.991), measured("ours, few", 1.0, 0.9)]
    point = graphs.Point(sides.HNSWLIB, "ef 7", asked=">= 1.5")
    beside = {share: graphs.beside_peer(table, point, measured("", 6.0, share), ours, "")
              for share in (0.99, 0.995, 0.5)}  # fmt: skip
    assert [(row.ours, row.ratio) for row in beside.values()] == [(2.0, 3.0), (8.0, 0.75), (1.0, 6.0)]
    assert [row.asked for row in beside.values()] == [">= 1.5", ">= 1.5", ""]
    assert beside[0.99].note.startswith("ours, lists, recall 0.99100") and "theirs recall 0.99000" in beside[0.99].note
    none = graphs.beside_peer(table, point, measured("", 6.0, 1.0), ours[1:], "")
    assert none.ours is None and none.ratio is None and none.note.endswith("none of ours is")
