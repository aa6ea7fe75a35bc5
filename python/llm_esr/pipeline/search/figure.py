"""What a search maximises: one figure of the validation part, of all users or of a group."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_esr.evaluation import evaluate, evaluate_popularity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llm_esr.config import Config, EvaluateConfig
    from llm_esr.data import Dataset
    from llm_esr.scoring import Scorer

_METRICS = ("ndcg", "hr", "mrr")
_FORM = re.compile(r"(?:(?P<metric>[a-z]+)@(?P<k>[0-9]{1,6}))|(?P<group>\w+)(?:\.(?P<of>[a-z]+)@(?P<k_of>[0-9]{1,6}))?")


@dataclass(frozen=True)
class Figure:
    """A figure on validation.

    Attributes:
        group: as in `metrics.json`.
        metric: `ndcg`, `hr` or `mrr`.
        k: the cut-off.
    """

    group: str = "all"
    metric: str = "ndcg"
    k: int = 10

    @classmethod
    def parse(cls, text: str) -> Figure:
        """`ndcg@10`, `tail_item` or `tail_item.hr@20`.

        Raises:
            ValueError: another form, or a metric that there is not.
        """
        found = _FORM.fullmatch(text.strip().lower())
        metric = None if found is None else found["metric"] or found["of"] or "ndcg"
        metric = "hr" if metric == "recall" else metric  # one relevant item each
        k = 10 if found is None else int(found["k"] or found["k_of"] or 10)
        if found is None or metric not in _METRICS or k < 1:
            raise ValueError(
                f"maximize (--maximize): expected a metric such as ndcg@10 ({', '.join(_METRICS)}), a group such as "
                f"tail_item, or both, tail_item.hr@20; got {text!r:.80}"
            )
        return cls(found["group"] or "all", metric, k)

    def __str__(self) -> str:
        """As `parse` reads it."""
        name = f"{self.metric}@{self.k}"
        return name if self.group == "all" else f"{self.group}.{name}"

    @property
    def in_words(self) -> str:
        """For tables."""
        name = f"{self.metric.upper()}@{self.k}"
        return name if self.group == "all" else f"{name} of {self.group}"

    @property
    def stops_trainings(self) -> bool:
        """Whether it is the figure that a training validates by itself, every epoch."""
        return self == Figure()

    def of(self, scorer: Scorer, data: Dataset, config: Config, users: NDArray[np.int64] | None = None) -> float:
        """The figure of a scorer, over these users (numbers) or all.

        Raises:
            ValueError: nobody is in the group.
        """
        report = evaluate(scorer, data, part="validation", config=self._settings(config), users=users)
        value = next((row["value"] for row in report.rows if self._is(row)), None)
        if value is None:
            raise ValueError(f"nobody on validation is in the group {self.group}")
        return float(value)

    def refuse_where_absent(self, data: Dataset, config: Config) -> None:
        """Refuse a figure that these data do not have on validation, before anything is trained.

        Raises:
            ValueError: no validation part, or nobody in the group.
        """
        rows = evaluate_popularity(data, self._settings(config), part="validation").rows
        there = [row["group"] for row in rows if (row["metric"], row["k"]) == (self.metric, self.k) and row["users"]]
        if self.group not in there:
            raise ValueError(
                f"maximize (--maximize): nobody on the validation part of {data.folder} is in a group "
                f"'{self.group}'; groups there: {', '.join(there)}; metrics are written with a cut-off, such as ndcg@10"
            )

    def _settings(self, config: Config) -> EvaluateConfig:
        return config.evaluate.model_copy(update={"k": [self.k], "resamples": 0})

    def _is(self, row: dict[str, object]) -> bool:
        return (row["group"], row["metric"], row["k"]) == (self.group, self.metric, self.k)
