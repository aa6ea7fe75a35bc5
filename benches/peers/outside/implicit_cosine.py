"""implicit's item-item cosine recommender, run in an environment of its own (`make bench-peers`).

`python implicit_cosine.py DATA --width 200 --listed 20 --decay .7 --newest 10 --threads 2` reads a folder of `.npy`
files, prints `{"ready": version}`, and then answers each line on standard input:

- `build`: tables a second, counted from the training parts;
- `lists`: lists a second, of every user's training and validation parts;
- `values`: the table, as (item, other, cosine), and the ids and scores of the lists.

A history's newest items weigh decay^1, decay^2, ...; older ones weigh nothing, and are in no list either. As it comes,
implicit gives every item of a history the same weight, and adds up as many rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from implicit.nearest_neighbours import CosineRecommender
from scipy.sparse import csr_matrix


def main() -> None:
    """Read, then answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    for name in ("width", "listed", "newest", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--decay", type=float, required=True)
    given = parser.parse_args()
    splits = np.load(given.data / "splits.npy")
    training = history_matrix(given.data, splits[:, 0])
    training.data[:] = 1.0  # whoever met an item twice met it
    weighted = history_matrix(given.data, splits[:, 1], given.decay, given.newest)
    users = np.arange(weighted.shape[0])

    def build() -> CosineRecommender:
        # An item is its own nearest neighbour and takes a place.
        model = CosineRecommender(K=given.width + 1, num_threads=given.threads)
        model.fit(training, show_progress=False)
        return model

    model = build()

    def lists() -> tuple[np.ndarray, np.ndarray]:
        return model.recommend(users, weighted, N=given.listed, filter_already_liked_items=True)

    print(json.dumps({"ready": version("implicit")}), flush=True)
    for line in sys.stdin:
        what = line.strip()
        if what == "values":
            print(json.dumps({"values": values_of(model, *lists())}), flush=True)
            continue
        began = time.perf_counter()
        done = len(lists()[0]) if what == "lists" else len([build()])
        print(json.dumps({"rate": done / (time.perf_counter() - began)}), flush=True)


def history_matrix(data: Path, lengths: np.ndarray, decay: float = 1.0, newest: int | None = None) -> csr_matrix:
    """The first so many items of each user, float64 [U, I], column = id - 1; what a user met is stored, if as 0."""
    items, offsets = np.load(data / "items.npy"), np.load(data / "offsets.npy")
    users = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ago = np.repeat(lengths, lengths) - places  # 1: the newest
    weights = decay**ago
    if newest is not None:
        weights[ago > newest] = 0.0
    columns = items[np.repeat(offsets[:-1], lengths) + places] - 1
    n_items = json.loads((data / "dataset.json").read_text())["counts"]["items"]
    return csr_matrix((weights, (users, columns)), shape=(len(lengths), n_items))


def values_of(model: CosineRecommender, ids: np.ndarray, scores: np.ndarray) -> dict[str, list]:
    """Numbers of items count from 1, as in the data folder."""
    table = model.similarity.tocoo()
    other = table.row != table.col
    triples = (table.row[other] + 1, table.col[other] + 1, table.data[other])
    return {"table": [a.tolist() for a in triples], "ids": (ids + 1).tolist(), "scores": scores.tolist()}


if __name__ == "__main__":
    main()
