"""The figures of a trained model, beside those of its network alone where it is a blend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import Report, evaluate
from llm_esr.evaluation.ranking import HeldOut

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.serving.recommender import Recommender

_ALONE = ", no blend"


def name_alone(name: str) -> str:
    """What tables call a model's network where the model is a blend."""
    return name + _ALONE


def judge(
    model: Recommender,
    data: Dataset,
    config: EvaluateConfig,
    *,
    part: HeldOut = "test",
    users: NDArray[np.int64] | None = None,
) -> Report:
    """What `evaluate` says of a model; of a blend also its weights, and what it says of the network alone."""
    report = evaluate(model, data, part=part, config=config, seed=model.seed, users=users)
    if not model.blend:
        return report
    common = {field: report.rows[0][field] for field in ("model", "seed", "split", "protocol")}
    notes = {f"weight {scorer}": weight for scorer, weight in model.blend.items()}
    if part == "validation":
        notes["tuned_on"] = 1.0
    count = report.rows[0]["users"]
    report += Report(
        [
            common
            | {"group": "all", "metric": metric, "k": None, "value": value, "low": None, "high": None, "users": count}
            for metric, value in notes.items()
        ]
    )
    alone = model.without_blend()
    return report + evaluate(
        alone, data, part=part, config=config, seed=model.seed, users=users, model_name=name_alone(model.name)
    )
