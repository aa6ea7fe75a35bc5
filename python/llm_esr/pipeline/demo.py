"""`demo`: everything on simulated data, labelled as such."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm_esr.config.layers import DEFAULT
from llm_esr.doors import door
from llm_esr.pipeline.grid import BASELINE
from llm_esr.pipeline.runs import Run, run
from llm_esr.pipeline.stages import Say

DATA_SEED = 42
# The same for both models. A small catalogue bears larger steps, and a demo should take minutes.
_TRAINING = {"learning_rate": 0.002, "epochs": 60, "patience": 4}
_SHOWN_USERS = 3
_SHOWN_ITEMS = 5


@door
def demo(
    out: str | Path = "runs/demo",
    *,
    seeds: Sequence[int] = (42,),
    n_users: int = 3000,
    n_items: int = 2000,
    quick: bool = False,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
    say: Say | None = None,
) -> Run:
    """Simulate a shop, train SASRec and LLM-ESR on it, and evaluate both beside popularity.

    The item vectors come from `lsa`, which is no LLM; with a sentence encoder the texts say more.

    Args:
        out: the run folder.
        seeds: of the trainings; the data are always the same.
        n_users: users of the simulated shop.
        n_items: items of its catalogue.
        quick: 600 users, 400 items and 10 epochs at most, whatever else is said of them: about a minute on two cores.
        overrides: `section.key=value` strings.
        overwrite: replace models that were made with other settings.
        progress: show bars and lines.
        say: takes the lines in place of the terminal.
    """
    from llm_esr.simulation import simulate  # noqa: PLC0415 (brings polars)

    training = _TRAINING
    if quick:
        n_users, n_items, training = 600, 400, _TRAINING | {"epochs": 10}
    interactions, items = simulate(seed=DATA_SEED, n_users=n_users, n_items=n_items)
    return run(
        interactions,
        items=items,
        out=out,
        models=[BASELINE, DEFAULT],
        seeds=seeds,
        config={"embed": {"encoder": "lsa"}, "train": training},
        overrides=overrides,
        overwrite=overwrite,
        progress=progress,
        say=say,
    )


def in_words(done: Run) -> str:
    """Three users of a run: what they met and what the primary model recommends."""
    data = done.data
    lengths = np.diff(np.asarray(data.offsets))
    # Somebody new, somebody usual, somebody busy.
    order = np.argsort(lengths, kind="stable")
    chosen = [data.user_ids[int(order[int(share * (len(order) - 1))])] for share in (0.1, 0.5, 0.95)][:_SHOWN_USERS]
    model = done.recommender()
    lines = [f"Three users, in the words of {done.primary.name} (simulated data):"]
    names = data.titles()
    assert names is not None
    for user in chosen:
        history = [names[i - 1] for i in data.history(data.user_index[user], "serving")]
        earlier = len(history) - _SHOWN_ITEMS
        lines += ["", f"{user} met" + (f" (and {earlier} items before)" if earlier > 0 else "") + ":"]
        lines += [f"    {name}" for name in history[-_SHOWN_ITEMS:]]
        lines += ["  and may like:"]
        found = model.recommend(users=[user], k=_SHOWN_ITEMS)
        lines += [f"  {rank}. {name}" for rank, name in enumerate(found["title"], 1)]
    return "\n".join(lines)
