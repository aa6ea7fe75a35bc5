"""What a search found: its trials in a table, the best one's settings as a preset file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_esr.config import Config, load_config, preset_names
from llm_esr.config.describe import value_in_words
from llm_esr.config.read import ALIASES, DEFAULT
from llm_esr.config.schema import STAGES
from llm_esr.config.yaml_text import yaml_of
from llm_esr.files import atomic_file, printable
from llm_esr.files.html import html_table

if TYPE_CHECKING:
    import polars as pl

PRESET = "best.yaml"
_SECTIONS = (*STAGES["train"], *STAGES["blend"])  # what a preset file says; data and judging are a run's own
_SIGNIFICANT = 4


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        number: from 1; its model was `models/trial-NUMBER`.
        state: `complete`; `pruned`: stopped by validation; `failed`: its settings could not be trained.
        value: the figure of its model; None unless complete.
        by_epoch: the figure after each validated epoch (from 1), of the network alone.
        settings: what was tried, by `section.key`.
        why: why it was stopped or failed.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    by_epoch: dict[int, float]
    settings: dict[str, Any]
    why: str = ""

    @property
    def epochs(self) -> int:
        """The last validated epoch."""
        return max(self.by_epoch, default=0)


@dataclass(frozen=True)
class Tuning:
    """A search.

    Attributes:
        folder: where it lies.
        figure: what was maximised, in words.
        trials: in their order.
        preset: the best trial's settings as a YAML file that `run` and `train` take.
        page: the plots, where they could be drawn.
    """

    folder: Path
    figure: str
    trials: Sequence[TrialResult]
    preset: Path
    page: Path | None = None

    @property
    def best(self) -> TrialResult:
        """The complete trial with the largest figure, the first of several."""
        found = best_of(self.trials)
        assert found is not None, "a search without a complete trial is an error"
        return found

    def to_polars(self) -> pl.DataFrame:
        """A row a trial: `number`, `state`, `value`, `epochs`, each setting as `--set` takes it, `why`."""
        import polars as pl  # noqa: PLC0415

        return pl.DataFrame(
            [
                {"number": one.number, "state": one.state, "value": one.value, "epochs": one.epochs}
                | {name: value_in_words(value) for name, value in one.settings.items()}
                | {"why": one.why}
                for one in self.trials
            ],
            schema_overrides={"value": pl.Float64},
        )

    def table(self) -> str:
        """The trials as text, best first."""
        console = Console(width=118, no_color=True, highlight=False)
        with console.capture() as capture:
            self.print_table(console)
        return capture.get()

    def print_table(self, console: Console | None = None) -> None:
        """Print the trials, best first."""
        columns, lines = rows_of(self.figure, self.trials)
        table = Table(title=f"{len(self.trials)} trials by {self.figure} on validation", title_justify="left")
        for place, name in enumerate(columns):
            table.add_column(
                escape(name.replace(".", ".\n")), justify="left" if place == 1 else "right", overflow="fold"
            )
        for line in lines:
            table.add_row(*(escape(printable(cell)) for cell in line))
        console = console or Console()
        console.print(table)
        for one in self.trials:
            if one.state == "failed":
                console.print(printable(f"trial {one.number} failed: {one.why}"), markup=False, soft_wrap=True)

    def _repr_html_(self) -> str:
        columns, lines = rows_of(self.figure, self.trials)
        return html_table(f"{len(self.trials)} trials", columns, lines)


def rows_of(figure: str, trials: Sequence[TrialResult]) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of a search's table, best first, those without a figure last."""
    names = list(dict.fromkeys(name for one in trials for name in one.settings))
    ranked = sorted(trials, key=lambda one: (one.value is None, -(one.value or 0), one.number))
    lines = [
        [
            str(one.number),
            one.state,
            "-" if one.value is None else f"{one.value:.4f}",
            str(one.epochs),
            *(short(one.settings[name]) for name in names),
        ]
        for one in ranked
    ]
    return ["trial", "state", figure, "epochs", *names], lines


def best_of(trials: Sequence[TrialResult]) -> TrialResult | None:
    """The complete trial with the largest figure, the first of several; None: none is complete."""
    complete = [one for one in trials if one.value is not None]
    return max(complete, key=lambda one: (one.value or 0, -one.number), default=None)


def write_preset(folder: Path, model: str, config: Config, best: TrialResult, figure: str) -> Path:
    """Write the best trial's settings as a file of its own, `best.yaml`.

    Args:
        folder: the search's.
        model: the preset or file that the search began from. A file's own values are written out, so that the result
            needs no other file.
        config: the best trial's whole configuration.
        best: the trial.
        figure: in words.
    """
    name = ALIASES.get(model, model)
    base = name if name in preset_names() else DEFAULT
    values = differing(config, load_config(base), best.settings)
    head = f"# Trial {best.number} of a search by llm-esr tune: {figure} on validation {best.value:.6f}.\n"
    path = folder / PRESET
    with atomic_file(path, "w") as file:
        file.write(head + yaml_of({"preset": base, **values}))
    return path


def differing(config: Config, base: Config, always: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of a model in which a configuration differs from another, and those that are named anyway."""
    mine, theirs = config.model_dump(mode="json"), base.model_dump(mode="json")
    found: dict[str, dict[str, Any]] = {}
    for section in _SECTIONS:
        for key, value in mine[section].items():
            name = f"{section}.{key}"
            if name != "train.seed" and (value != theirs[section][key] or name in always):
                found.setdefault(section, {})[key] = value
    return found


def short(value: Any) -> str:
    """A setting's value for tables and lines."""
    return f"{value:.{_SIGNIFICANT}g}" if isinstance(value, float) else value_in_words(value)
