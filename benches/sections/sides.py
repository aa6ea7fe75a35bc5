"""Processes over one file of vectors that are asked the same in turn: ours, and packages in their environments."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measuring import median_ratio
from numpy.typing import NDArray

from sections.packages import Coprocess, NotInstalledError, Package

LONG = 60  # seconds; what takes longer is asked once
HOURS = 2  # an answer that takes longer is given up
TASK: dict[str, Any] = {"task": "graph", "build": {}, "options": {}}


@dataclass(frozen=True)
class Searcher(Package):
    """A package that finds neighbours, and its script."""

    script: str


OURS = Searcher("ours", "", (), "our_neighbours.py")
FAISS = Searcher("faiss-cpu 1.15.1", "faiss", ("faiss-cpu==1.15.1",), "faiss_flat.py")
HNSWLIB = Searcher("hnswlib 0.8.0", "hnswlib", ("hnswlib==0.8.0",), "hnswlib_graph.py")
PYNNDESCENT = Searcher("pynndescent 0.7.0", "pynndescent", ("pynndescent==0.7.0",), "pynndescent_graph.py")
USEARCH = Searcher("usearch 2.26.6", "usearch", ("usearch==2.26.6",), "usearch_graph.py")


@dataclass
class Answers:
    """What one side answered to one task, repeat after repeat."""

    ids: Path  # of the last repeat
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    before: int = 0

    @property
    def middle(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)

    def lists(self) -> NDArray[np.int32]:
        """The rows that were found."""
        found: NDArray[np.int32] = np.load(self.ids)
        return found


def speed_ratio(ours: Answers, theirs: Answers) -> float:
    """How many times as long theirs takes; within repeats where both were asked as often."""
    if len(ours.seconds) == len(theirs.seconds):
        return median_ratio(theirs.seconds, ours.seconds)
    return theirs.middle / ours.middle


class Sides:
    """The processes, by name; one that does not start, or fails, is asked no more, and `reasons` says why."""

    def __init__(self, vectors: Path) -> None:
        self.vectors = vectors
        self.processes: dict[str, Coprocess] = {}
        self.reasons: dict[str, str] = {}
        self._numbers = itertools.count()
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def __enter__(self) -> Sides:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def start(self, name: str, searcher: Searcher, threads: int = 1) -> None:
        """Start a process; it reads the vectors."""
        arguments = [str(self.vectors), "--threads", str(threads)]
        try:
            process = Coprocess(searcher, searcher.script, arguments, threads, minutes=60 * HOURS)
        except NotInstalledError as reason:
            self.reasons[name] = f"not installed: {reason}"
            return
        self.processes[name] = self._stack.enter_context(process)

    def ask(self, tasks: Mapping[str, tuple[str, dict[str, Any]]], repeats: int) -> dict[str, Answers]:
        """Every task in turn, and again, but for those that take long; what was answered to each.

        Args:
            tasks: a label -> who is asked, and what is laid over `TASK`.
            repeats: rounds.

        """
        found: dict[str, Answers] = {}
        for _ in range(repeats):
            for label, (name, task) in tasks.items():
                if label in self.reasons or (label in found and found[label].seconds[-1] > LONG):
                    continue
                if name not in self.processes:
                    self.reasons[label] = self.reasons[name]
                    continue
                answers = found.get(label) or Answers(self._folder / f"{next(self._numbers)}.npy")
                try:
                    said = self.processes[name].ask(json.dumps(TASK | task | {"out": str(answers.ids)}), "answer")
                except NotInstalledError as reason:
                    self.reasons[label] = f"failed: {reason}"
                    found.pop(label, None)
                    continue
                found[label] = answers
                answers.seconds.append(said["seconds"])
                answers.peak, answers.before = max(answers.peak, said["peak"]), said["before"]
                print(f"  {self.vectors.stem}, {label}: {said['seconds']:.3g} s", file=sys.stderr)
        return found
