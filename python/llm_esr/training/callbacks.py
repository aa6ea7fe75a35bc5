"""What can listen to a training: progress on the terminal, and callbacks of a user's own (`loggers.py` has some)."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from llm_esr.files import folded

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
    """A bar with loss and times, and a line for each epoch; before them a note, where one is given.

    The bar's times are those of the running epoch and of the whole training, each with what it is expected to take; of
    all epochs at most, as patience may end it before.
    """

    def __init__(self, console: Console | None = None, note: str | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.note = note
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._refreshed = 0.0
        self._began = self._epoch_began = 0.0
        self._first_epoch = 0

    def on_train_begin(self, trainer: Trainer) -> None:
        """Say the note and where a training goes on, and open the bar."""
        self._began = self._epoch_began = time.monotonic()
        self._first_epoch = trainer.epoch
        if self.note is not None:
            self._print(self.note)
        if trainer.step:
            self._print(f"{trainer.name} goes on after {trainer.epoch} epochs, {trainer.step:,} steps")
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}  {task.fields[times]}"),
                console=self.console,
                transient=True,
                expand=True,
            )
            self._bar.start()

    def on_step_end(self, trainer: Trainer, report: StepReport) -> None:
        """Move the bar, a few times a second."""
        now = time.monotonic()
        last = report.step_in_epoch == report.steps_in_epoch
        if self._bar is None or (now - self._refreshed < 0.2 and not last):
            return
        self._refreshed = now
        fields: dict[str, Any] = {
            "description": f"{trainer.name} epoch {report.epoch + 1}/{trainer.config.train.epochs}",
            # On an accelerator the loss is known at the end of the epoch.
            "loss": f"{report.mean_loss:.4f}" if math.isfinite(report.mean_loss) else "-",
            "times": self.times(report, trainer.config.train.epochs, now),
        }
        if self._task is None:
            self._task = self._bar.add_task(total=report.steps_in_epoch, **fields)
        self._bar.update(self._task, completed=report.step_in_epoch, total=report.steps_in_epoch, **fields)

    def times(self, report: StepReport, epochs: int, now: float) -> str:
        """`0:07/0:21, all 2:20/20:41`: passed and expected time of the epoch and of all epochs."""
        epoch = now - self._epoch_began
        whole = epoch * report.steps_in_epoch / report.step_in_epoch
        done = report.epoch - self._first_epoch
        passed = now - self._began
        # The epochs before this one with their validations; the first has none to go by.
        each = (self._epoch_began - self._began) / done if done else whole
        left = max(whole - epoch, 0.0) + each * (epochs - report.epoch - 1)
        return f"{_clock(epoch)}/{_clock(whole)}, all {_clock(passed)}/{_clock(passed + left)}"

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """Print the epoch's line."""
        now = time.monotonic()
        epochs = str(trainer.config.train.epochs)
        line = f"{trainer.name} epoch {report.epoch + 1:>{len(epochs)}}/{epochs}  {_clock(now - self._epoch_began)}"
        line += f"  loss {report.loss:.4f}  {report.rate:.1f} steps/s"
        self._epoch_began = now
        if len(report.losses) > 1:
            line += "".join(f"  {name} {value:.4f}" for name, value in report.losses.items())
        if report.validation is not None:
            best = "best" if report.improved else f"best {trainer.best_value:.4f} at {trainer.best_epoch + 1}"
            line += f"  validation NDCG@10 {report.validation:.4f} ({best})"
        self._print(line)

    def close(self, trainer: Trainer) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _print(self, line: str) -> None:
        text = folded(line, self.console.width) if self.console.is_terminal else line
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)


def _clock(seconds: float) -> str:
    """`0:07`, `20:41`, `1:05:00`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
