"""Machine, versions and threads: what the same bits need besides the seed."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

from llm_esr import _native
from llm_esr.doors import warn


def describe() -> dict[str, Any]:
    """The environment of this process, as JSON."""
    return {
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "llm_esr": _native.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def warn_of_difference(before: dict[str, Any]) -> None:
    """Warn where a training goes on in another environment than it began in."""
    now = describe()
    other = [f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]]
    if other:
        warn(f"resuming in another environment ({'; '.join(other)}): weights may differ in the last bits")
