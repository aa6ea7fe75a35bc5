"""`make bench-peers`: public loaders in environments of their own, alternating with ours.

Each answers over its standard streams: it prepares its data, says so, and then times one repeat for each line it is
sent, so that nothing else runs in between. One that cannot be installed becomes a row that says why.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import Rate, Results, Row, alternating, cores, median_ratio, rate_of
from our_loader import endless, our_loader, take
from workload import ROOT, Size, Workload, usual

SECTION = "peers"
TITLE = "Loaders of other packages"
UNIT = "rows/s"
ENVIRONMENTS = Path(os.environ.get("LLM_ESR_BENCH_ENVS") or ROOT / "runs" / "bench" / "envs")
MINUTES = 15  # an installation or a preparation that takes longer is given up
SCRIPTS = Path(__file__).resolve().parent.parent / "peers" / "outside"


@dataclass(frozen=True)
class Outside:
    """A package, what it needs, the script that times it, and its arguments."""

    name: str
    environment: str
    requirements: tuple[str, ...]
    script: str
    arguments: Callable[[Size], list[str]]
    note: str
    asked: str = ""


PEERS = (
    Outside(
        name="RecBole 1.2.1",
        environment="recbole",
        # The last versions that it runs with.
        requirements=("recbole==1.2.1", "numpy<2", "torch<2.6", "pandas<2.2", "scipy<1.13", "setuptools"),
        script="recbole_loader.py",
        arguments=lambda size: ["--rows", str(16 * size.batch_size), "--steps", str(size.peer_steps)],
        note="a row of RecBole is one prefix with one negative; its batches are 16 times as large",
        asked=">= 15",
    ),
    Outside(
        name="RePlay 0.22, Parquet",
        environment="replay",
        requirements=("replay-rec[torch]==0.22.0",),
        script="replay_loader.py",
        arguments=lambda size: ["--rows", str(size.batch_size)],
        note="one vector of negatives a batch, seen items not left out",
    ),
)


def about(size: Size) -> str:
    return (
        "Rows a second without similar users, one core each, on the data of *Loading*. A row is one sequence that a "
        "model reads. These do not do the same work: what differs stands in the last column. Each package runs in an "
        "environment of its own (`runs/bench/envs`), with versions that it runs with."
    )


def measure(size: Size) -> Results:
    work = usual(size)
    rows = []
    for peer in PEERS:
        try:
            with_peer = Coprocess(peer, work, size)
        except NotInstalledError as reason:
            rows.append(
                Row(SECTION, "packed, no similar users", None, UNIT, 1, peer.name, note=f"not installed: {reason}")
            )
            continue
        with with_peer:
            rows += _compare(peer, with_peer, work, size)
    return Results(rows)


def _compare(peer: Outside, process: Coprocess, work: Workload, size: Size) -> list[Row]:
    runners: dict[str, Rate] = {peer.name: process.rate}
    for layout in ("packed", "padded"):
        batches = endless(our_loader(work, size, layout=layout))
        runners[layout] = rate_of(lambda b=batches: size.batch_size * take(b, size.our_steps))  # type: ignore[misc]
    found = alternating(runners, size.repeats)
    theirs = found[peer.name]
    return [
        Row(SECTION, f"{layout}, no similar users", statistics.median(found[layout]), UNIT, 1, peer.name,
            statistics.median(theirs), median_ratio(found[layout], theirs), peer.asked if layout == "packed" else "",
            peer.note)
        for layout in ("packed", "padded")
    ]  # fmt: skip


class NotInstalledError(Exception):
    """Why a package could not be installed or started, in a line."""


class Coprocess:
    """A script that prepares itself and then answers each line with a rate."""

    def __init__(self, peer: Outside, work: Workload, size: Size) -> None:
        python = installed(peer)
        command = [str(python), str(SCRIPTS / peer.script), str(work.folder), "--max-len", str(size.max_len)]
        # RePlay's manual asks for these where threads are few.
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS", "ARROW_IO_THREADS"), "1")
        with cores(1):
            self.process = subprocess.Popen(
                [*command, *peer.arguments(size)],
                cwd=ROOT, env={**os.environ, **single}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._answer("ready")
        except NotInstalledError:
            self.__exit__()
            raise

    def rate(self) -> float:
        """One repeat."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._answer("rate"))

    def __enter__(self) -> Coprocess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def _answer(self, key: str) -> Any:
        try:
            line = self.answers.get(timeout=60 * MINUTES)
        except queue.Empty:
            raise NotInstalledError(f"no answer within {MINUTES} minutes") from None
        if not line:
            raise NotInstalledError(f"its script ended with {self.process.wait()}")
        return json.loads(line)[key]


def installed(peer: Outside) -> Path:
    """The environment's interpreter; made and filled where it is not there.

    Raises:
        NotInstalledError: uv is missing, or cannot install the package.

    """
    folder = ENVIRONMENTS / peer.environment
    python, done = folder / "bin" / "python", folder / "installed.json"
    if done.exists() and json.loads(done.read_text()) == list(peer.requirements):
        return python
    uv = str(Path(sys.executable).parent / "uv")
    _call([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    # Without the project's own constraints: these packages want old versions.
    _call([uv, "pip", "install", "--quiet", "--python", str(python), *peer.requirements])
    done.write_text(json.dumps(peer.requirements))
    return python


def _call(command: Sequence[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("UV_CONSTRAINT", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60 * MINUTES
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from None
    if done.returncode:
        raise NotInstalledError(
            (done.stderr.strip().splitlines() or ["no message"])[-1].strip().removeprefix("cause: ")
        )
