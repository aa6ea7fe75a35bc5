"""What a script that finds neighbours is asked over its standard streams, and how it is timed (`retrieval-peers`).

A script makes a `Side` and calls `serve`. It is started as `SCRIPT VECTORS --threads N` on a `.npy` file of vectors
[n, E], float32 of unit length, prints `{"ready": version}`, and answers each line, a task as JSON:

- `{"task": "graph", "k": 100, "build": {}, "options": {}, "out": FILE}`: the k nearest rows of every row, itself left
  out, with the settings of the index and of the search. `seconds` has both, `built` the index alone.
- `{"task": "search", ..., "queries": FILE, "at_once": 1000}`: the k rows with the largest inner products with each
  query [m, E], so many queries a call; `seconds` is without the index.

`out` gets the row numbers, int32. The answer is `{"answer": {...}}` with the seconds, the most memory that the process
held during the task (`peak`) and what it held before its first (`before`), in bytes; or `{"error": what went wrong}`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray


class Side:
    """Vectors [n, E], a number of threads, and what a package makes of them."""

    # Whether an index serves for several tasks; else each graph makes its own, and its time is counted anew.
    lasting = False

    def __init__(self, vectors: Array, threads: int) -> None:
        self.vectors, self.threads = vectors, threads

    def build(self, **settings: Any) -> None:
        """Make the index."""

    def graph(self, k: int, **options: Any) -> Array:
        """The k nearest rows of every row, [n, k]."""
        raise NotImplementedError

    def before_search(self) -> None:
        """What `search` needs beside `build`; outside the clock."""

    def search(self, queries: Array, k: int, **options: Any) -> Array:
        """The k rows with the largest inner products, [m, k]."""
        raise NotImplementedError


def serve(make: Callable[[Array, int], Side], version: str) -> None:
    """Read the vectors, then answer a line at a time until there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a package prints is no answer
    clock = Clock(make(np.load(given.vectors), given.threads))
    print(json.dumps({"ready": version}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            said = {"answer": clock.do(json.loads(line))}
        except Exception as error:  # the section writes it beside the row
            said = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(said), file=answers, flush=True)


class Clock:
    """Does tasks with a side and times them."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.before = memory("VmRSS")
        self.made: dict[str, Any] | None = None  # the settings of the index that is there
        self.built = 0.0

    def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """Do a task; what it took."""
        forget_peak()
        what, settings = task["task"], task["build"]
        if settings != self.made or (what == "graph" and not self.side.lasting):
            began = time.perf_counter()
            self.side.build(**settings)
            self.made, self.built = settings, time.perf_counter() - began
        if what == "graph":
            began = time.perf_counter()
            found = self.side.graph(task["k"], **task["options"])
            seconds = self.built + time.perf_counter() - began
        else:
            self.side.before_search()
            queries = np.load(task["queries"])
            parts = [queries[start : start + task["at_once"]] for start in range(0, len(queries), task["at_once"])]
            began = time.perf_counter()
            lists = [self.side.search(part, task["k"], **task["options"]) for part in parts]
            seconds = time.perf_counter() - began
            found = np.concatenate(lists)
        np.save(task["out"], np.asarray(found, dtype=np.int32))
        return {"seconds": seconds, "built": self.built, "peak": memory("VmHWM"), "before": self.before}


def without_self(ids: Array) -> Array:
    """Lists [n, K + 1] of all rows without the own one, or without the last where the own one is not there: [n, K]."""
    own = ids == np.arange(len(ids))[:, None]
    left_out = np.where(own.any(axis=1), own.argmax(axis=1), ids.shape[1] - 1)
    kept = np.arange(ids.shape[1]) != left_out[:, None]
    return ids[kept].reshape(len(ids), ids.shape[1] - 1)


def memory(key: str) -> int:
    """Resident bytes of this process: `VmRSS` now, `VmHWM` at most since `forget_peak`."""
    # `getrusage` would count what the process that started this one held.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def forget_peak() -> None:
    """Count the most memory from now on, where the system lets one."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
