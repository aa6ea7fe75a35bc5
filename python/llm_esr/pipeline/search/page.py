"""A search as one HTML file that needs no network: how the figure rose, which settings mattered, every trial."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from llm_esr.files import atomic_file, printable
from llm_esr.files.html import html_table
from llm_esr.pipeline.search.result import TrialResult, best_of, rows_of
from llm_esr.pipeline.web_page.charts import svg_of

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes

PAGE_NAME = "tune.html"
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "svg{max-width:100%;height:auto}div{overflow-x:auto}table{border-collapse:collapse}"
    "td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd}"
)
_LEAST = 4  # complete trials, below which nothing can be said of which settings matter


def write_page(folder: Path, study: optuna.Study, figure: str, trials: Sequence[TrialResult]) -> Path | None:
    """Write `tune.html`; None where matplotlib is missing."""
    try:
        plots = [svg_of(lambda axes: _history(axes[0], figure, trials))]
        weights = importance(study)
        if weights:
            plots.append(svg_of(lambda axes: _bars(axes[0], weights), height=0.8 + 0.35 * len(weights)))
    except ImportError:
        return None
    best = best_of(trials)
    assert best is not None, "the caller has looked"
    columns, lines = rows_of(figure, trials)
    notes = [f"trial {one.number} {one.state}: {one.why}" for one in trials if one.why]
    title = escape(printable(f"Search in {folder.resolve().name}"))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}'
    body = [
        f"<h1>{title}</h1>",
        f"<p>{len(trials)} trials by {escape(figure)} on validation; the best is trial {best.number}.</p>",
        *plots,
        html_table("Trials, best first", columns, lines, notes),
    ]
    path = folder / PAGE_NAME
    with atomic_file(path, "w") as file:
        file.write(f'<!doctype html><html lang="en"><head>{head}</title><style>{_STYLE}</style></head><body>')
        file.write("\n".join(body) + "</body></html>\n")
    return path


def importance(study: optuna.Study) -> dict[str, float]:
    """The share of each setting in how the figure varied, by fANOVA, largest first; nothing where too few trials are.

    Source: Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # noqa: PLC0415 (an extra)

    values = [trial.value for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(values) < _LEAST or len(set(values)) == 1:
        return {}
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def _history(axes: Axes, figure: str, trials: Sequence[TrialResult]) -> None:
    complete = [(one.number, one.value) for one in trials if one.value is not None]
    stopped = [(one.number, one.by_epoch[one.epochs]) for one in trials if one.state == "pruned" and one.by_epoch]
    axes.plot([x for x, _ in complete], [y for _, y in complete], "o", color="C0", label="complete")
    if stopped:
        axes.plot([x for x, _ in stopped], [y for _, y in stopped], "x", color="#9a9a9a", label="stopped, last epoch")
    best = [max(value for _, value in complete[: place + 1]) for place in range(len(complete))]
    axes.step([x for x, _ in complete], best, where="post", color="C1", label="best so far")
    axes.set_title(f"{figure} on validation", loc="left")
    axes.set_xlabel("trial")
    axes.locator_params(axis="x", integer=True)
    axes.legend()


def _bars(axes: Axes, weights: dict[str, float]) -> None:
    axes.barh(list(weights), list(weights.values()), color="C0")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_title("share of each setting in how the figure varied (fANOVA)", loc="left")
