"""Ctrl-C and SIGTERM in a training: it ends after the running step, and is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """What came to this process.

    Attributes:
        interrupted: whether any signal did.
        terminated: whether the last of them was SIGTERM.

    """

    def __init__(self) -> None:
        self.interrupted = self.terminated = False

    @contextmanager
    def heard(self, *, at_once: bool) -> Iterator[None]:
        """Hear them in the block, in the main thread.

        Args:
            at_once: whether a second signal ends the process as it would without the block. Of several ranks none
                leaves alone: torchrun passes its own Ctrl-C or SIGTERM on to ranks that a terminal has told already,
                and kills them after 30 seconds.

        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(signum: int, frame: FrameType | None) -> None:
            self.interrupted = True
            self.terminated = signum == signal.SIGTERM
            if at_once:
                signal.signal(signum, before[signal.Signals(signum)])

        before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
        # None: set by other than Python, which could not be put back.
        before = {one: handler for one, handler in before.items() if handler is not None}
        for one in before:
            signal.signal(one, on_signal)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
