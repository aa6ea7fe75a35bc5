"""`train.loss: auto`: the softmax over the whole catalogue where it is affordable, else 4,096 sampled negatives.

The loss over the whole catalogue takes as long as over 4,096 sampled items at some 6,000 items, 2.5 times as long at
12,000, 3.8 times at 25,000 and 7.7 times at 50,000 (docs/benchmarks.md).
The choice goes by the number of items alone, so it is the same on every machine.
"""

from __future__ import annotations

from llm_esr.config import Config

WHOLE_UP_TO = 30_000  # items
SAMPLED = 4096  # shared negatives of a step, beyond that


def settle_loss(config: Config, n_items: int) -> Config:
    """The configuration with `auto` replaced by a loss; another loss stays."""
    if config.train.loss != "auto":
        return config
    if n_items <= WHOLE_UP_TO:
        return config.model_copy(update={"train": config.train.model_copy(update={"loss": "softmax"})})
    negatives = config.negatives.model_copy(
        update={"kind": "shared", "count": max(config.negatives.count, SAMPLED), "catalogue": "all"}
    )
    train = config.train.model_copy(update={"loss": "sampled-softmax"})
    return config.model_copy(update={"train": train, "negatives": negatives})


def say_choice(settled: Config, n_items: int) -> str:
    """What `auto` chose and why, in a line."""
    if settled.train.loss == "softmax":
        return f"train.loss auto: softmax over the whole catalogue ({n_items:,} items, at most {WHOLE_UP_TO:,})"
    return (
        f"train.loss auto: sampled-softmax with {settled.negatives.count:,} shared negatives ({n_items:,} items, more "
        f"than {WHOLE_UP_TO:,})"
    )
