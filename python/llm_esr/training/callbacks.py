"""What can listen to a training: progress on the terminal, and callbacks of a user's own (`loggers.py` has some)."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from llm_esr.training.trainer import EpochReport, StepReport, Trainer


class Callback:
    """Does nothing; derive from it and override what you need."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step, after a resume."""

    def on_step_end(self, trainer: Trainer, report: StepReport) -> None:
        """After each optimizer step."""

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """After each epoch's validation. Set `trainer.stop = True` to end the training here."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last epoch, with the best weights in place."""

    def close(self, trainer: Trainer) -> None:
        """However the training ended, by an error or Ctrl-C too."""


class TerminalProgress(Callback):
    """A bar with loss and rate, and a line for each epoch; before them a note, where one is given."""

    def __init__(self, console: Console | None = None, note: str | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.note = note
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._refreshed = 0.0

    def on_train_begin(self, trainer: Trainer) -> None:
        """Say the note and open the bar."""
        if self.note is not None:
            self.console.print(self.note, highlight=False, soft_wrap=True, markup=False)
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}  {task.fields[rate]:.1f} steps/s"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.start()

    def on_step_end(self, trainer: Trainer, report: StepReport) -> None:
        """Move the bar, a few times a second."""
        now = time.monotonic()
        last = report.step_in_epoch == report.steps_in_epoch
        if self._bar is None or (now - self._refreshed < 0.2 and not last):
            return
        self._refreshed = now
        title = f"{trainer.name} epoch {report.epoch + 1}"
        if self._task is None:
            self._task = self._bar.add_task(title, total=report.steps_in_epoch, loss="-", rate=0.0)
        # On an accelerator the loss is known at the end of the epoch.
        loss = f"{report.mean_loss:.4f}" if math.isfinite(report.mean_loss) else "-"
        self._bar.update(self._task, description=title, completed=report.step_in_epoch, loss=loss, rate=report.rate)

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """Print the epoch's line."""
        line = f"{trainer.name} epoch {report.epoch + 1:>3}  loss {report.loss:.4f}  {report.rate:.1f} steps/s"
        if len(report.losses) > 1:
            line += "".join(f"  {name} {value:.4f}" for name, value in report.losses.items())
        if report.validation is not None:
            best = "best" if report.improved else f"best {trainer.best_value:.4f} at {trainer.best_epoch + 1}"
            line += f"  validation NDCG@10 {report.validation:.4f} ({best})"
        self.console.print(line, highlight=False, soft_wrap=True)

    def close(self, trainer: Trainer) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
