"""What the page shows, read from a run's folder: figures, learning curves, blends, data, settings."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_esr.config.parts import POPULARITY
from llm_esr.evaluation import read_rows
from llm_esr.evaluation.paired import is_difference
from llm_esr.evaluation.table import group_title
from llm_esr.pipeline.run_folder import ModelId, RunFolder

if TYPE_CHECKING:
    from llm_esr.data import Dataset

Row = dict[str, Any]
USUAL_K = 10


@dataclass(frozen=True)
class Figure:
    """A figure of a model in a group, over its seeds.

    Attributes:
        value: of one seed, or the mean over several.
        low: lower end of its 95 % interval, or the mean less one standard deviation over seeds.
        high: the upper end.
        users: of the group.

    """

    value: float
    low: float
    high: float
    users: int


@dataclass(frozen=True)
class Curve:
    """What a training wrote down, an entry an epoch.

    Attributes:
        model: whose.
        loss: the total, mean over the epoch's steps.
        validation: NDCG@10, None where the epoch was not validated.

    """

    model: ModelId
    loss: list[float]
    validation: list[float | None]


class Figures:
    """The figures of one split and protocol.

    Args:
        rows: as in `metrics.json`.

    Attributes:
        models: names, the popularity baseline first; no differences.
        trained: the same without popularity.
        k: the cut-off that is shown: 10, or the nearest there is.
        split: which part was evaluated.

    """

    def __init__(self, rows: Sequence[Row]) -> None:
        kinds = list(dict.fromkeys((row["split"], row["protocol"]) for row in rows))
        usual = max(kinds, key=lambda kind: kind[0] == "test")
        self.split, self.protocol = usual
        self._rows = [row for row in rows if (row["split"], row["protocol"]) == usual]
        names = dict.fromkeys(row["model"] for row in self._rows if not is_difference(row["model"]))
        self.models = sorted(names, key=lambda name: name != POPULARITY)
        self.trained = [name for name in self.models if name != POPULARITY]
        cuts = {row["k"] for row in self._rows if row["k"] is not None}
        self.k: int = min(cuts, key=lambda k: (abs(k - USUAL_K), k))

    def of(self, model: str, group: str, metric: str) -> Figure | None:
        """A figure; None where there is none."""
        found = [
            row
            for row in self._rows
            if (row["model"], row["group"], row["metric"]) == (model, group, metric)
            and row["k"] in (self.k, None)
            and row["value"] is not None
        ]
        if not found:
            return None
        values = [float(row["value"]) for row in found]
        mean, users = statistics.fmean(values), int(found[0]["users"] or 0)
        if len(values) > 1:
            spread = statistics.stdev(values)
            return Figure(mean, mean - spread, mean + spread, users)
        low, high = (found[0][end] for end in ("low", "high"))
        return Figure(mean, mean if low is None else float(low), mean if high is None else float(high), users)

    def seeds(self, model: str) -> int:
        """How many trainings stand behind a model's figures."""
        return len({row["seed"] for row in self._rows if row["model"] == model})

    def ranges(self, kind: str) -> list[tuple[str, str]]:
        """The groups that are ranges of `kind`, `length` or `popularity`, the lowest first, and how each is called."""
        groups = {row["group"] for row in self._rows if row["group"].startswith(f"{kind}_")}
        ordered = sorted(groups, key=lambda group: int(group.split("_")[1]))
        return [(group, group_title(group)) for group in ordered]

    def has(self, metric: str) -> bool:
        """Whether any model has a figure of this metric."""
        return any(self.of(model, "all", metric) is not None for model in self.models)


@dataclass(frozen=True)
class Gathered:
    """Everything that a page is made from."""

    folder: Path
    figures: Figures | None
    rows: list[Row]
    curves: list[Curve]
    blends: dict[str, dict[str, list[float]]]
    data_lines: list[str]
    settings: str
    primary: str


def gather(run: RunFolder, data: Dataset) -> Gathered:
    """Read what a run's folder holds."""
    rows = read_rows(run.metrics) if run.metrics.exists() else []
    primary = run.read()["primary"] or {}
    model = ModelId(primary.get("name", ""), primary.get("seed"))
    settings = run.model(model) / "config.yaml"
    return Gathered(
        folder=run.path,
        figures=Figures(rows) if rows else None,
        rows=rows,
        curves=[curve for found in sorted(run.finished()) if (curve := _curve(run, found)) is not None],
        blends=_blends(rows),
        data_lines=data.summary().splitlines(),
        settings=settings.read_text(encoding="utf-8") if primary and settings.exists() else "",
        primary=str(model) if primary else "",
    )


def _curve(run: RunFolder, model: ModelId) -> Curve | None:
    path = run.model(model) / "metrics.jsonl"
    if not path.exists():
        return None
    curve = Curve(model, [], [])
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            curve.loss.append(float(entry["loss"]))
            curve.validation.append(entry["validation_ndcg_10"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}, line {number}: is no line of a training's log; delete the file") from None
    return curve


def _blends(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """What each blend adds to its network: model -> scorer -> weights over the seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["group"] == "all" and row["metric"].startswith("weight "):
            scorer = row["metric"].removeprefix("weight ")
            found.setdefault(row["model"], {}).setdefault(scorer, []).append(float(row["value"]))
    return found
