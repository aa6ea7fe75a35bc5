"""The page's plots, as SVG text that stands in the page itself."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from llm_esr.config.parts import POPULARITY
from llm_esr.pipeline.web_page.gathered import Curve, Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUPS = (("all", "overall"), ("tail_item", "tail items"), ("head_item", "head items"), ("tail_user", "tail users"),
           ("head_user", "head users"))  # fmt: skip
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: it is found, read aloud and small
    "svg.hashsalt": "llm-esr",  # the same run, the same bytes
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "legend.frameon": False,
}


def learning_curves(curves: Sequence[Curve], names: Sequence[str]) -> str:
    """Validation NDCG@10 and loss by epoch, a line a training; a model's seeds share a colour.

    Args:
        curves: one a training.
        names: models in the order of their colours elsewhere on the page; others come after them.

    """
    names = list(dict.fromkeys([*names, *(curve.model.name for curve in curves)]))

    def draw(axes: Sequence[Axes]) -> None:
        for curve in curves:
            colour = f"C{names.index(curve.model.name) % 10}"
            label = curve.model.name if curve is _first(curves, curve.model.name) else None
            points = [(epoch, value) for epoch, value in enumerate(curve.validation, 1) if value is not None]
            axes[0].plot(*_transposed(points), color=colour, label=label, linewidth=1.5)
            axes[1].plot(range(1, len(curve.loss) + 1), curve.loss, color=colour, linewidth=1.5)
        for one, title in zip(axes, ("validation NDCG@10", "training loss"), strict=True):
            one.set_title(title, loc="left")
            one.set_xlabel("epoch")
            one.locator_params(axis="x", integer=True)
        axes[0].legend()

    return svg_of(draw, panels=2)


def head_and_tail(figures: Figures, metric: str = "ndcg") -> str:
    """Bars of all models in the main groups, with their intervals."""

    def draw(axes: Sequence[Axes]) -> None:
        width = 0.8 / len(figures.models)
        for place, model in enumerate(figures.models):
            found = [(x, figures.of(model, group, metric)) for x, (group, _) in enumerate(_GROUPS)]
            shown = [(x, figure) for x, figure in found if figure is not None]
            axes[0].bar(
                [x + (place - (len(figures.models) - 1) / 2) * width for x, _ in shown],
                [figure.value for _, figure in shown],
                width * 0.92,
                yerr=[
                    [figure.value - figure.low for _, figure in shown],
                    [figure.high - figure.value for _, figure in shown],
                ],
                error_kw={"elinewidth": 1, "ecolor": "#444"},
                color=_colour(figures, model),
                label=model,
            )
        axes[0].set_xticks(range(len(_GROUPS)), [title for _, title in _GROUPS])
        axes[0].set_title(f"{metric.upper()}@{figures.k}", loc="left")
        axes[0].grid(visible=False, axis="x")
        axes[0].legend(ncols=min(len(figures.models), 4))

    return svg_of(draw)


def by_range(figures: Figures, kinds: Sequence[tuple[str, str]]) -> str:
    """NDCG by ranges, one panel a kind; lines with their intervals.

    Args:
        figures: what is drawn.
        kinds: `popularity` or `length`, and the panel's title.

    """

    def draw(axes: Sequence[Axes]) -> None:
        for one, (kind, title) in zip(axes, kinds, strict=True):
            groups = figures.ranges(kind)
            for model in figures.models:
                found = [(x, figures.of(model, group, "ndcg")) for x, (group, _) in enumerate(groups)]
                shown = [(x, figure) for x, figure in found if figure is not None]
                xs, colour = [x for x, _ in shown], _colour(figures, model)
                one.plot(xs, [figure.value for _, figure in shown], "o-", color=colour, label=model, markersize=4)
                one.fill_between(
                    xs,
                    [figure.low for _, figure in shown],
                    [figure.high for _, figure in shown],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
            one.set_xticks(range(len(groups)), [title for _, title in groups], rotation=20)
            one.set_title(f"NDCG@{figures.k}, {title}", loc="left")
        axes[0].legend()

    return svg_of(draw, panels=len(kinds))


def lists(figures: Figures, metrics: Sequence[tuple[str, str]]) -> str:
    """Bars of what the lists hold, one panel a metric.

    Args:
        figures: what is drawn.
        metrics: a metric's name in `metrics.json`, and the panel's title.

    """

    def draw(axes: Sequence[Axes]) -> None:
        for one, (metric, title) in zip(axes, metrics, strict=True):
            values = [(model, figures.of(model, "all", metric)) for model in figures.models]
            shown = [(model, figure.value) for model, figure in values if figure is not None]
            colours = [_colour(figures, model) for model, _ in shown]
            one.barh([model for model, _ in shown], [value for _, value in shown], color=colours)
            one.invert_yaxis()
            one.set_title(title, loc="left")
            one.grid(visible=False, axis="y")

    return svg_of(draw, panels=len(metrics), height=0.6 + 0.35 * len(figures.models))


def svg_of(draw: Callable[[list[Axes]], None], panels: int = 1, height: float = 3.4) -> str:
    """What `draw` puts on a row of panels, as an `<svg>` element.

    Raises:
        ImportError: matplotlib is missing (extra `report`).

    """
    try:
        from matplotlib import rc_context  # noqa: PLC0415 (an extra)
        from matplotlib.figure import Figure as Canvas  # noqa: PLC0415
    except ImportError:
        raise ImportError("a page with plots needs the package matplotlib: pip install 'llm-esr[report]'") from None
    with rc_context(cast(Any, _STYLE)):
        canvas = Canvas(figsize=(9, max(height, 1.6)), layout="constrained")
        axes = canvas.subplots(1, panels, squeeze=False)[0]
        draw(list(axes))
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = file.getvalue()
    return text[text.index("<svg") :]


def _colour(figures: Figures, model: str) -> str:
    """Grey for popularity, else a colour of its own."""
    return "#9a9a9a" if model == POPULARITY else f"C{figures.trained.index(model) % 10}"


def _first(curves: Sequence[Curve], name: str) -> Curve:
    return next(curve for curve in curves if curve.model.name == name)


def _transposed(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    return [x for x, _ in finite], [y for _, y in finite]
