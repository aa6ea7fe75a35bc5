"""Ctrl-C in the middle of a training."""

from __future__ import annotations

import os
import signal

from llm_esr.training import Callback, Trainer


class StopAt(Callback):
    """Ctrl-C at a given step, as the terminal sends it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer, report: object) -> None:
        if trainer.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
