"""Serving in a forked child, as gunicorn's --preload and multiprocessing on Linux make them.

Threads do not come along in a fork, so a pool that the parent has used never answers in the child: polars would wait
for ever, and OpenMP may. Before a fork every living recommender reads what it needs of tables; in the child torch
computes on the child's own thread. A request before the fork also counts a blend's tables once for all children. What
the child does with a frame is its own affair: `rows`, `to_dicts` and single columns answer, `filter` or `group_by`
would wait for the pool.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from llm_esr.serving.recommender import Recommender

_living: weakref.WeakSet[Recommender] = weakref.WeakSet()


def remember(recommender: Recommender) -> None:
    """Have a recommender ready before every fork."""
    _living.add(recommender)


def _make_ready() -> None:
    for recommender in list(_living):
        try:
            recommender.make_ready()
        except Exception:
            continue


def _one_thread() -> None:
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_make_ready, after_in_child=_one_thread)
