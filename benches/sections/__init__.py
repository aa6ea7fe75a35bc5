"""The parts of docs/benchmarks.md; each module has `TITLE`, `about(size)` and `measure(size)`."""

from __future__ import annotations

from typing import Any

from sections import (
    beauty5,
    catalogue,
    curves,
    gpu,
    item_knn,
    large,
    loading,
    negatives,
    neighbours,
    outside,
    ranking,
    recurrent,
    retrieval_peers,
    serving,
    step,
    tables,
    training_peers,
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
    "serving": serving,
    "large": large,
    "beauty5": beauty5,
    "plots": curves,
    "peers": outside,
    "training-peers": training_peers,
    "item-knn-peers": item_knn,
    "retrieval-peers": retrieval_peers,
}
# What `make bench-peers` measures: other packages, in environments of their own.
PEERS = ("peers", "training-peers", "item-knn-peers", "retrieval-peers")
# What `make bench` measures.
USUAL = tuple(name for name in SECTIONS if name not in PEERS)
