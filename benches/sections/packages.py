"""Packages in environments of their own (`runs/bench/envs`), and scripts that run in them (`benches/peers/outside`).

A `Coprocess` answers over its standard streams: it prepares its data, says so, and then times one repeat for each line
that it is sent, so that nothing else runs in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import cores
from workload import ROOT

ENVIRONMENTS = Path(os.environ.get("LLM_ESR_BENCH_ENVS") or ROOT / "runs" / "bench" / "envs")
MINUTES = 15  # an installation or a preparation that takes longer is given up
FOLDER = "peers/outside"


@dataclass(frozen=True)
class Package:
    """What a package is called, its environment, and what is installed there."""

    name: str
    environment: str
    requirements: tuple[str, ...]


class NotInstalledError(Exception):
    """Why a package could not be installed or started, or did not answer, in a line."""


class Coprocess:
    """A script that prepares itself and then answers each line.

    Args:
        package: whose environment it runs in.
        script: a file of `benches/peers/outside`.
        arguments: what the script is started with.
        threads: cores, and threads of every library that asks its environment.
        minutes: an answer that takes longer is given up.

    Raises:
        NotInstalledError: the package cannot be installed, or the script does not start.

    """

    def __init__(
        self, package: Package, script: str, arguments: Sequence[str], threads: int = 1, minutes: float = MINUTES
    ) -> None:
        python = installed(package)
        self.minutes = minutes
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        names = (
            "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
            "ARROW_NUM_THREADS", "ARROW_IO_THREADS",  # RePlay's manual asks for these where threads are few
        )  # fmt: skip
        with cores(threads):
            self.process = subprocess.Popen(
                [str(python), str(ROOT / "benches" / FOLDER / script), *arguments],
                cwd=ROOT, env={**os.environ, **dict.fromkeys(names, str(threads))}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            )  # fmt: skip
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._answer("ready")
        except NotInstalledError:
            self.__exit__()
            raise

    def rate(self, what: str = "") -> float:
        """One repeat of what the script can do."""
        return float(self.ask(what, "rate"))

    def ask(self, what: str, key: str) -> Any:
        """What the script answers to a line.

        Raises:
            NotInstalledError: it ended, took too long, or answers with an `error`.

        """
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the end of its answers says why
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        return self._answer(key)

    def __enter__(self) -> Coprocess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def _answer(self, key: str) -> Any:
        try:
            line = self.answers.get(timeout=60 * self.minutes)
        except queue.Empty:
            self.process.kill()  # a late answer would be taken for that to the next line
            raise NotInstalledError(f"no answer within {self.minutes:g} minutes") from None
        if not line:
            self.answers.put("")  # whoever asks again is told the same
            raise NotInstalledError(f"its script ended with {self.process.wait()}{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise NotInstalledError(answer["error"])
        return answer[key]

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def installed(package: Package) -> Path:
    """The environment's interpreter; made and filled where it is not there. Without requirements: this one's.

    Raises:
        NotInstalledError: uv is missing, or cannot install the package.

    """
    if not package.requirements:
        return Path(sys.executable)
    folder = ENVIRONMENTS / package.environment
    python, done = folder / "bin" / "python", folder / "installed.json"
    if done.exists() and json.loads(done.read_text()) == list(package.requirements):
        return python
    uv = str(Path(sys.executable).parent / "uv")
    _call([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    # Without the project's own constraints: these packages want old versions.
    _call([uv, "pip", "install", "--quiet", "--python", str(python), *package.requirements])
    done.write_text(json.dumps(package.requirements))
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
