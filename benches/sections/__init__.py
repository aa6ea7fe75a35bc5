"""The parts of docs/benchmarks.md; each module has `TITLE`, `about(size)` and `measure(size)`."""

from __future__ import annotations

from typing import Any

from sections import (
    beauty5,
    catalogue,
    curves,
    gpu,
    large,
    loading,
    negatives,
    neighbours,
    outside,
    ranking,
    recurrent,
    step,
    tables,
)

SECTIONS: dict[str, Any] = {
    "loading": loading,
    "negatives": negatives,
    "step": step,
    "catalogue": catalogue,
    "gpu": gpu,
    "recurrent": recurrent,
    "tables": tables,
    "ranking": ranking,
    "neighbours": neighbours,
    "large": large,
    "beauty5": beauty5,
    "plots": curves,
    "peers": outside,
}
# What `make bench` measures; `make bench-peers` measures `peers`.
USUAL = tuple(name for name in SECTIONS if name != "peers")
