"""`make bench-peers`: similar users and nearest items beside packages that do nothing else.

`LLM_ESR_BENCH_ROWS` asks for other than 50,000 users; the catalogue has twenty times as many. `LLM_ESR_BENCH_WHOLE=1`
also times the whole exact graph of the catalogue. Our approximate engines, with their settings, stand in
`sections/graphs.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from measuring import Plot, Results, Row
from workload import SMALL, Size

from sections.graphs import GOOD, JUDGED, SECTION, K, approximate_graphs, exact_graph
from sections.million import BEST, ONE_BY_ONE, PART, WHOLE, best_of_catalogue, large_graph
from sections.million import JUDGED as JUDGED_OF_MILLION
from sections.sides import LONG
from sections.vectors import NoVectorsError, Table, clusters, random, real, turned

TITLE = "Retrieval in other packages"
ROWS = int(os.environ.get("LLM_ESR_BENCH_ROWS") or 50_000)
SMALL_ROWS = 300
CATALOGUE = 20  # times as many rows
WIDTH, WIDE, CATALOGUE_WIDTH = 384, 1536, 128
ROWS_A_CENTRE = 200
QUERIES = 1_000
MOST_REPEATS = 3
ASKED = ">= 2"
ASKED_SCREENED = {False: ">= 3", True: ">= 4"}  # by whether rows are wide


def about(size: Size) -> str:
    rows = rows_of(size)
    exact = "" if WHOLE else f"; their exact graph is reckoned from that of the first {PART}th"
    return (
        f"The {K} nearest of every row, the row itself left out, by cosine; files of float32 vectors of unit length, "
        "each side in a process of its own, one thread and one core unless said, in turn; from the vectors in memory "
        f"to the lists, the index included. Medians of at most {MOST_REPEATS} rounds, without one to warm up; what "
        f"takes longer than {LONG} s is asked once; an index of hnswlib and usearch is made once, and its time counts "
        f"in every round; pynndescent is compiled before. `real` are {rows:,} users (or as many as there are) of six "
        "Amazon categories, each the mean of MiniLM vectors of the training items' titles. There are no real vectors "
        f"{WIDE:,} wide to be had here: `turned` are the real ones turned into a space so wide, cosines unchanged; "
        "`random` are drawn directions. A neighbour counts as found where its score reaches that of the "
        f"{K}th best, up to 1e-6, so that ties are no misses: for the exact graph against all lists of faiss, else "
        f"against plain NumPy on {JUDGED:,} rows ({JUDGED_OF_MILLION:,} of the catalogue). *as good* are ours beside "
        "an approximate graph of a package: the fastest of our engines with at least its recall; what is asked holds "
        f"from a recall of {GOOD:g} on. `clusters` are {CATALOGUE * rows:,} simulated rows about "
        f"{CATALOGUE * rows // ROWS_A_CENTRE:,} centres, with noise as long as the centres and sizes that fall by a "
        f"power law{exact}. For {QUERIES:,} other points about these centres, and for {ONE_BY_ONE} of them one by one, "
        f"the {BEST} largest inner products are found, the index being there."
    )


def measure(size: Size) -> Results:
    rows, small = rows_of(size), size == SMALL
    repeats = min(size.repeats, MOST_REPEATS)
    width, wide, narrow = (WIDTH, WIDE, CATALOGUE_WIDTH) if not small else (16, 32, 8)

    def users() -> Table:
        # A trial takes simulated users: the encoder would take minutes.
        return real(rows) if not small else clusters(rows, width, rows // 20)

    found: list[Row] = []
    plots: list[Plot] = []
    tables: list[Callable[[], Table]] = [users, lambda: turned(users(), wide)]
    if not small:
        tables += [lambda: random(rows, width), lambda: random(rows, wide)]
    for made in tables:
        table = table_or_row(made, found)
        if table is not None:
            wide_rows = table.open().shape[1] == WIDE
            found += exact_graph(table, repeats, ASKED, ASKED_SCREENED[wide_rows])
    table = table_or_row(users, [])
    if table is not None:
        lines, plots = approximate_graphs(table, repeats)
        found += lines
    many = CATALOGUE * rows
    centres = many // ROWS_A_CENTRE
    catalogue = clusters(many, narrow, centres)
    found += large_graph(catalogue)
    found += best_of_catalogue(catalogue, clusters(QUERIES if not small else 50, narrow, centres, stream=1), repeats)
    return Results(found, plots)


def rows_of(size: Size) -> int:
    """Users."""
    return SMALL_ROWS if size == SMALL else ROWS


def table_or_row(made: Callable[[], Table], rows: list[Row]) -> Table | None:
    """The table, or a row that says why there is none."""
    try:
        return made()
    except NoVectorsError as reason:
        rows.append(Row(SECTION, "exact, real", None, "s", 1, note=str(reason)))
        return None
