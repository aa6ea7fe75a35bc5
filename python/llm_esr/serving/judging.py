"""The figures of a model, beside those of its network alone where it is a blend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import Report, evaluate
from llm_esr.evaluation.ranking import HeldOut
from llm_esr.world import World

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
    shared_by: World | None = None,
) -> Report:
    """What `evaluate` says of a model; of a blend also its weights, and what it says of the network alone."""
    report = evaluate(model, data, part=part, config=config, seed=model.seed, users=users, shared_by=shared_by)
    if not model.blend:
        return report
    report += _weights(report, model.blend, part)
    if model.network is None:
        return report
    alone = model.without_blend()
    return report + evaluate(
        alone,
        data,
        part=part,
        config=config,
        seed=model.seed,
        users=users,
        model_name=name_alone(model.name),
        shared_by=shared_by,
    )


def _weights(report: Report, weights: Mapping[str, float], part: HeldOut) -> Report:
    """The weights of a blend as rows, and whether the figures are of users that they were chosen on."""
    first = report.rows[0]
    common = {field: first[field] for field in ("model", "seed", "split", "protocol")} | {"group": "all", "k": None}
    notes = {f"weight {scorer}": weight for scorer, weight in weights.items()}
    if part == "validation":
        notes["tuned_on"] = 1.0
    rest = {"low": None, "high": None, "users": first["users"]}
    return Report([common | {"metric": metric, "value": value} | rest for metric, value in notes.items()])


def evaluate_config(base: EvaluateConfig, **changes: Any) -> EvaluateConfig:
    """`base` with what is not None on top."""
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return EvaluateConfig.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"evaluate: {name}: {first['msg']} (got {first['input']!r})") from None
