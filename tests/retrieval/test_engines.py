"""Every engine behind the one interface, beside the exact search."""

import re
import sys
from types import ModuleType

import numpy as np
import pytest

from llm_esr.retrieval import engines, nearest
from llm_esr.retrieval.engines import EXACT_UP_TO, ExactSearch, ListSearch, Recall, engine_for, told
from llm_esr.retrieval.engines.answers import share_found, without_own
from llm_esr.retrieval.engines.hnswlib_graph import HnswlibSearch
from llm_esr.retrieval.engines.torch_blocks import TorchSearch


def clusters(rows, width=24, centres=60, seed=0):
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centres, width))
    noise = rng.standard_normal((rows, width))
    return (middle[rng.integers(centres, size=rows)] + 0.4 * noise).astype(np.float32)


class BruteForce(ModuleType):
    """What hnswlib promises, by NumPy: cosine distances of the ids that were added; `ef` decides what is found."""

    class Index:
        def __init__(self, space, dim):
            self.cosine, self.dim, self.rows, self.ids = space == "cosine", dim, [], []

        def init_index(self, most, **settings):
            self.most, self.settings = most, settings

        def add_items(self, rows, ids, num_threads):
            assert num_threads == 1, "another number of threads gives another graph"
            self.rows.extend(rows)
            self.ids.extend(ids)
            assert len(self.ids) <= self.most

        def set_ef(self, ef):
            self.ef = ef

        def knn_query(self, queries, k, num_threads):
            table = np.array(self.rows)
            if self.cosine:
                table = table / np.linalg.norm(table, axis=1, keepdims=True)
                queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
            distances = 1 - queries @ table.T
            distances[:, 8 * self.ef :] += 100  # the later rows are found by a large ef alone
            order = np.argsort(distances, axis=1, kind="stable")[:, :k]
            return np.array(self.ids)[order], np.take_along_axis(distances, order, axis=1)


@pytest.fixture
def hnswlib_by_brute_force(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", BruteForce("hnswlib"))


@pytest.mark.parametrize("engine", ["screened", "lists", "hnswlib", "torch"])
def test_every_engine_gives_nearly_the_exact_neighbours(engine, hnswlib_by_brute_force):
    table, queries = clusters(1500), clusters(40, seed=0)
    table[[7, 900]] = 0
    for asked in (None, queries):
        ids, scores = nearest(table, 10, queries=asked)
        said = []
        found, found_scores = nearest(table, 10, queries=asked, engine=engine, recall=0.95, say=said.append)
        assert found.dtype == np.int32 and found_scores.dtype == np.float32
        assert share_found(found, ids) >= (0.93 if engine in ("lists", "hnswlib") else 0.999)
        same = found == ids
        np.testing.assert_allclose(found_scores[same], scores[same], atol=1e-5)
        assert not np.isin(found, [7, 900]).any()
        assert len(said) == 1 and ("recall expected" in said[0]) == (engine in ("lists", "hnswlib"))
        if asked is None:
            assert (found[7] == -1).all() and (found_scores[7] == 0).all()
            assert not (found == np.arange(len(table))[:, None]).any()


@pytest.mark.parametrize("engine", list(engines.ENGINES))
def test_small_tables_and_nothing_at_all(engine, hnswlib_by_brute_force):
    few = clusters(3)
    ids, scores = nearest(few, 5, engine=engine)
    assert sorted(ids[0].tolist()) == [-1, -1, -1, 1, 2]
    assert (scores[ids < 0] == 0).all()
    assert nearest(few[:0], 2, engine=engine)[0].shape == (0, 2)
    assert (nearest(few[:0], 2, queries=few, engine=engine)[0] == -1).all()
    assert (nearest(np.zeros((4, 3), np.float32), 2, engine=engine)[0] == -1).all()
    assert nearest(few, 2, queries=few[:0], engine=engine)[0].shape == (0, 2)


@pytest.mark.parametrize("engine", list(engines.ENGINES))
def test_a_row_that_is_no_vector_is_named(engine, hnswlib_by_brute_force):
    table = clusters(20)
    table[11, 3] = np.nan
    with pytest.raises(ValueError, match="vectors: row 11 holds NaN or infinity"):
        nearest(table, 2, engine=engine)


@pytest.mark.parametrize("engine", [ExactSearch, TorchSearch, HnswlibSearch])
def test_inner_products_are_those_of_numpy(engine, hnswlib_by_brute_force):
    table, queries = clusters(700), clusters(30, seed=1)
    ids, scores = engine(table, inner_product=True).search(queries, 4)
    expected = np.argsort(-(queries @ table.T), axis=1)[:, :4]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ table.T, expected, axis=1), rtol=1e-4)


def test_lists_of_inner_products_are_tuned_by_queries():
    table, queries = clusters(3000), clusters(200, seed=0)
    made = ListSearch(table, inner_product=True, recall=0.97)
    with pytest.raises(ValueError, match=r"call tune\(5, queries\)"):
        made.search(queries, 5)
    assert 1 <= made.tune(5, queries) < 219
    exact, _ = ExactSearch(table, inner_product=True).search(queries, 5)
    assert share_found(made.search(queries, 5)[0], exact) >= 0.97


@pytest.mark.parametrize("engine", ["exact", "screened", "lists", "torch"])
def test_every_row_finds_itself(engine):
    table = clusters(3000)
    ids, scores = nearest(table, 1, queries=table, engine=engine, recall=0.5)
    np.testing.assert_array_equal(ids[:, 0], np.arange(3000))
    np.testing.assert_allclose(scores, 1, atol=1e-6)


@pytest.mark.parametrize("engine", ["exact", "screened", "lists"])
def test_two_runs_and_any_number_of_threads_give_the_same_bits(engine):
    table = clusters(2600).astype(np.float16)
    first = nearest(table, 20, engine=engine, threads=1)
    for threads in (1, 2, 5):
        for one, other in zip(first, nearest(table, 20, engine=engine, threads=threads), strict=True):
            assert one.tobytes() == other.tobytes()


def test_a_thousand_neighbours():
    table = clusters(2500, width=33)
    unit = table.astype(np.float64) / np.linalg.norm(table.astype(np.float64), axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    _, scores = nearest(table, 1000)
    np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :1000], atol=1e-6)


def test_more_recall_looks_into_more_lists_and_tells_what_it_finds():
    table = clusters(4000)
    exact, _ = nearest(table, 10)
    probes = []
    for recall in (0.5, 0.9, 0.99, 1.0):
        made = ListSearch(table, recall=recall)
        probes.append(made.tune(10))
        found = np.empty_like(exact)
        for piece in made.rows(10):
            found[piece.rows] = piece.found[0]
        told = made.recall(10)
        assert share_found(found, exact) >= recall - 0.03
        assert abs(told.measured - share_found(found, exact)) < 0.02
        assert told.expected >= recall
    assert probes == sorted(probes) and probes[0] < probes[-1]


def test_auto_is_exact_for_few_rows_and_lists_for_many():
    assert engine_for("auto", EXACT_UP_TO) == "exact"
    assert engine_for("auto", EXACT_UP_TO + 1) == "lists"
    assert engine_for("torch", 5) == "torch"


@pytest.mark.parametrize("recall", [0.0, -1, 1.1])
def test_a_recall_that_is_no_share_is_refused(recall, hnswlib_by_brute_force):
    for engine in ("lists", "hnswlib"):
        with pytest.raises(ValueError, match="expected a share above 0, at most 1"):
            nearest(clusters(10), 1, engine=engine, recall=recall)


def test_without_its_package_hnswlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-esr\[hnswlib\]'"):
        nearest(clusters(10), 1, engine="hnswlib")


def test_hnswlib_itself():
    pytest.importorskip("hnswlib", reason="hnswlib is an extra, and not installed here")
    table = clusters(2000)
    table[5] = 0
    exact, _ = nearest(table, 10)
    first, _ = nearest(table, 10, engine="hnswlib", recall=0.95)
    assert share_found(first, exact) > 0.93
    np.testing.assert_array_equal(first, nearest(table, 10, engine="hnswlib", recall=0.95, threads=2)[0])


def test_a_row_is_taken_out_of_its_list_or_the_last_is():
    ids = np.array([[0, 4, 5], [7, 1, 8], [3, 4, 5]], np.int32)
    scores = np.arange(9, dtype=np.float32).reshape(3, 3)
    kept, values = without_own(ids, scores, np.array([0, 1, 2]))
    assert kept.tolist() == [[4, 5], [7, 8], [3, 4]]
    assert values.tolist() == [[1, 2], [3, 5], [6, 7]]


def test_an_index_in_a_file_is_the_same_again_and_takes_new_rows(tmp_path):
    table = clusters(2000)
    made = ListSearch(table[:1900].copy(), recall=0.9)
    made.save(tmp_path / "users.lists")
    again = ListSearch.open(tmp_path / "users.lists", table[:1900].copy())
    for one, other in zip(made.rows(5), again.rows(5), strict=True):
        np.testing.assert_array_equal(one.found[0], other.found[0])
    grown = ListSearch.open(str(tmp_path / "users.lists"), table)
    found = np.full((2000, 5), -2, np.int32)
    for piece in grown.rows(5):
        found[piece.rows] = piece.found[0]
    assert share_found(found, nearest(table, 5)[0]) > 0.85
    assert (found >= 0).all()
    made.save(tmp_path / "again.lists")
    assert (tmp_path / "again.lists").read_bytes() == (tmp_path / "users.lists").read_bytes()


def test_damaged_index_files_are_refused(tmp_path, monkeypatch):
    table = clusters(120, width=4)
    path = tmp_path / "users.lists"
    ListSearch(table, lists=4).save(path)
    whole = path.read_bytes()
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
                for at in range(len(whole)) for bit in (0, 3, 7)]  # fmt: skip
    damaged += [whole + b"\0", b"", b"\xff" * 200]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no index of these vectors") as error:
            ListSearch.open(path, table)
        assert "delete it and make it again" in str(error.value)
    monkeypatch.setattr("llm_esr.retrieval.engines.lists.FORMAT", 99)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="this version reads 99"):
        ListSearch.open(path, table)
    with pytest.raises(FileNotFoundError, match="make the index again"):
        ListSearch.open(tmp_path / "nowhere.lists", table)


def test_an_index_of_other_vectors_is_refused(tmp_path):
    path = tmp_path / "users.lists"
    ListSearch(clusters(120, width=4)).save(path)
    for other in (clusters(100, width=4), clusters(120, width=5)):
        with pytest.raises(ValueError, match="is no index of these vectors"):
            ListSearch.open(path, other)


@pytest.mark.parametrize(
    ("recall", "said"),
    [
        (Recall(0.991, 0.9902, 512, 0.99), None),
        (Recall(0.991, None, 512, 0.99), None),
        (Recall(0.991, 0.9887, 512, 0.99), "; the 0.99 asked for is an estimate .* ask for a little more"),
        (Recall(0.95, 0.96, 512, 0.99), "; less than the 0.99 asked for, which this engine does not reach here"),
    ],
)
def test_less_than_was_asked_for_is_explained(recall, said):
    class Some:
        def recall(self, k):
            return recall

        def about(self):
            return "some search"

    line = told(Some(), 10)
    assert line.startswith(f"some search: recall expected {recall.expected:.4f}")
    assert (re.search(said, line) is not None) if said else "asked for" not in line


def test_products_on_a_device_do_not_claim_to_be_exact():
    assert TorchSearch(clusters(20), device="cpu").about().endswith("on cpu, exact but for the rounding of float32")
