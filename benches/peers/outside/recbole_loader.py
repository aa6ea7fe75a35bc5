"""RecBole's sequential data loader, run in an environment of its own (`make bench-peers`).

`python recbole_loader.py DATA --max-len 200 --rows 2048 --steps 50` prepares SASRec's training data from a folder of
`.npy` files, prints `{"ready": version}`, and then for each line on standard input the rows a second of one repeat.
A row is one prefix of a user's sequence with one uniform negative; RecBole has no similar users. It leaves out a
user's last two items (its own leave-one-out split).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation


def main() -> None:
    """Prepare, then answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-len", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever it logs is no answer
    data = given.data.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it leaves logs where it stands
        loader = prepared(data, Path(folder), given.max_len, given.rows)
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        print(json.dumps({"ready": recbole.__version__}), file=answers, flush=True)
        for _ in sys.stdin:
            began = time.perf_counter()
            rows = sum(len(batch) for batch in itertools.islice(batches, given.steps))
            print(json.dumps({"rate": rows / (time.perf_counter() - began)}), file=answers, flush=True)


def prepared(data: Path, folder: Path, max_len: int, rows: int):
    """RecBole's training loader over the interactions."""
    items = np.load(data / "items.npy")
    lengths = np.diff(np.load(data / "offsets.npy"))
    users = np.repeat(np.arange(len(lengths)), lengths)
    table = np.stack([users, items, np.arange(len(items))], axis=1)
    (folder / "bench").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(folder / "bench" / "bench.inter", table, fmt="%d", delimiter="\t", header=header, comments="")
    settings = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": max_len,
        "train_batch_size": rows,
        "loss_type": "BPR",
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": False},
        "use_gpu": False,
        "worker": 0,
        "show_progress": False,
        "state": "ERROR",
    }
    config = Config(model="SASRec", dataset="bench", config_dict=settings)
    return data_preparation(config, create_dataset(config))[0]


if __name__ == "__main__":
    main()
