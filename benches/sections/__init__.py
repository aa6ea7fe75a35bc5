"""The parts of docs/benchmarks.md; each module has `TITLE`, `about(size)` and `measure(size)`."""

from __future__ import annotations

from typing import Any

from sections import curves, loading, negatives

SECTIONS: dict[str, Any] = {"loading": loading, "negatives": negatives, "plots": curves}
# What `make bench` measures.
USUAL = ("loading", "negatives", "plots")
