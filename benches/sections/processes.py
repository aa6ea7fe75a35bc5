"""Measurements in a process of their own, which prints one JSON object as its last line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from workload import ROOT


def run_script(
    script: str,
    arguments: Sequence[str],
    *,
    threads: int,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Run a script of `benches`; its report.

    Raises:
        RuntimeError: the process failed; the message has its last line.
        subprocess.TimeoutExpired: it took longer than `timeout` seconds.

    """
    variables = {**os.environ, **(environment or {}), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [python, f"benches/{script}", *arguments],
        cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{script} {' '.join(arguments)} ended with {done.returncode}: {last}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def run_stage(stage: str, *arguments: str) -> None:
    """Run a stage of the command line, silently."""
    quiet = [] if stage == "prepare" else ["--quiet"]
    command = [sys.executable, "-m", "llm_esr", stage, *arguments, *quiet]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
