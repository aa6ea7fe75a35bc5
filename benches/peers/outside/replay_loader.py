"""RePlay's Parquet loader, run in an environment of its own (`make bench-peers`).

`python replay_loader.py DATA --max-len 200 --rows 128` writes the sequences of a folder of `.npy` files as
Parquet, prints `{"ready": version}`, and then for each line on standard input the rows a second of one epoch. A row
is a user's sequence with its next items; one vector of negatives a batch, as many as a sequence has places, from
which seen items are not left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from replay.data.nn.parquet import ParquetDataset
from replay.nn.transform import NextTokenTransform, UniformNegativeSamplingTransform


def main() -> None:
    """Prepare, then answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-len", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever it logs is no answer
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.parquet"
        n_items = write_parquet(given.data, path)
        dataset = ParquetDataset(
            source=str(path),
            # One place more than is shown: the next item of the newest place.
            metadata={"user_id": {}, "item_id": {"shape": given.max_len + 1, "padding": 0}},
            partition_size=given.rows * 1024,
            batch_size=given.rows,
            generator=torch.Generator().manual_seed(0),
        )
        transforms = torch.nn.Sequential(
            NextTokenTransform(label_name="item_id", ignore="user_id"),
            UniformNegativeSamplingTransform(cardinality=n_items, num_negative_samples=given.max_len),
        )
        print(json.dumps({"ready": version("replay-rec")}), file=answers, flush=True)
        for _ in sys.stdin:
            began = time.perf_counter()
            # Whole epochs: a portion of many batches is read before its first one comes.
            rows = sum(len(transforms(batch)["user_id"]) for batch in dataset)
            print(json.dumps({"rate": rows / (time.perf_counter() - began)}), file=answers, flush=True)


def write_parquet(data: Path, path: Path) -> int:
    """Each user's items as one list; returns how many items there are."""
    items = np.load(data / "items.npy")
    offsets = np.load(data / "offsets.npy")
    sequences = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(items.astype(np.int64)))
    pq.write_table(pa.table({"user_id": np.arange(len(offsets) - 1), "item_id": sequences}), path)
    return int(items.max())


if __name__ == "__main__":
    main()
