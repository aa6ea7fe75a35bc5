"""`report`: a run's folder as one HTML file that needs no network; every text in it is escaped."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from llm_esr import __version__
from llm_esr.data import Dataset
from llm_esr.doors import door
from llm_esr.evaluation.table import sheets
from llm_esr.files import atomic_file, given_path
from llm_esr.pipeline.run_folder import RunFolder
from llm_esr.pipeline.web_page import charts
from llm_esr.pipeline.web_page.gathered import Gathered, gather
from llm_esr.pipeline.web_page.users_in_words import UserInWords, example_users
from llm_esr.serving import Recommender

PAGE_NAME = "report.html"
_RANGES = (("popularity", "by how often training met the target"), ("length", "by the user's items in training"))
_LISTS = (
    ("coverage", "share of the catalogue in the lists"),
    ("tail_share", "share of tail items in the lists"),
)


@door
def write_page(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        folder: a run folder.
        out: the file; default: `report.html` in the run folder.

    Returns:
        The file.

    Raises:
        FileNotFoundError: no run there.
        ImportError: matplotlib is missing (extra `report`).

    """
    run = RunFolder(given_path(folder))
    if not run.record.exists():
        raise FileNotFoundError(f"{run.path} is no run folder (no run.json); make one with `llm-esr run`")
    page = page_html(run)
    path = run.path / PAGE_NAME if out is None else given_path(out)
    with atomic_file(path, "w") as file:
        file.write(page)
    return path


def page_html(run: RunFolder) -> str:
    """The page as text."""
    from jinja2 import Environment  # noqa: PLC0415 (comes with torch)

    data = Dataset.open(run.data)
    found = gather(run, data)
    template = resources.files(__package__) / "template.html"
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        run=found,
        title=run.path.resolve().name,
        version=__version__,
        tables=sheets(found.rows, details=True) if found.rows else [],
        plots=_plots(found),
        users=_users(run, found, data),
    )


def _plots(found: Gathered) -> list[tuple[str, str, str]]:
    """Anchor, heading and SVG of each plot that there is something for."""
    plots = []
    figures = found.figures
    if figures is not None:
        plots.append(("groups", "Head and tail", charts.head_and_tail(figures)))
        ranges = [(kind, words) for kind, words in _RANGES if len(figures.ranges(kind)) > 1]
        if ranges:
            plots.append(("ranges", "From rare to popular, from short to long", charts.by_range(figures, ranges)))
        measured = [(metric, words) for metric, words in _LISTS if figures.has(metric)]
        if measured:
            plots.append(("lists", "What the lists hold", charts.lists(figures, measured)))
    if found.curves:
        plots.append(
            ("curves", "Learning curves", charts.learning_curves(found.curves, figures.trained if figures else []))
        )
    return plots


def _users(run: RunFolder, found: Gathered, data: Dataset) -> list[UserInWords]:
    """Example users of the primary model; none where there is no model or nothing was held out."""
    if not found.primary or data.split == "none":
        return []
    return example_users(Recommender.load(run.path, extensions=False), data)
