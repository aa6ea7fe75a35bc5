"""Let the benchmarks import what stands beside them, and `pytest benches` find them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from _pytest.config import Config

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: Config) -> None:
    config.addinivalue_line("python_files", "bench_*.py")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
