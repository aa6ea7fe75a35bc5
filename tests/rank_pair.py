"""Two processes as torchrun starts them, which train what a test asks for, and say what became of it.

Run as a program this is one of them: a JSON object a line in, one a line out. Starting a process takes seconds, so a
pair serves all tests of a file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}


class RankPair:
    """Two ranks that wait for orders."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__],
                env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in (0, 1)
        ]

    def do(self, **order: Any) -> list[dict[str, Any]]:
        """What became of an order on each rank; see `_carry_out`."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            answers.append(json.loads(line) if line else {"error": "killed", "message": ""})
        return answers

    def close(self) -> None:
        """End both."""
        for process in self.processes:
            process.kill()
            process.wait()


def _carry_out(order: dict[str, Any], rank: int) -> dict[str, Any]:
    """Train (or evaluate `folder`): `data`, `config` (a preset), `settings`, `out`.

    `at`: {step: what a rank does before it: ["raise" or "sleep" or a signal's name, the ranks]}. `last_epoch`: a
    callback ends the training there.
    """
    import llm_esr
    from llm_esr.pipeline import evaluate_folder
    from llm_esr.training import Callback, EpochReport, Trainer

    class StopAfter(Callback):
        def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
            if report.epoch == order.get("last_epoch"):
                trainer.stop = True

    steps = {int(step): event for step, event in order.get("at", {}).items()}
    take_step: Callable[..., None] = Trainer._train_step

    def stepping(self: Trainer, *given: Any) -> None:
        what, ranks = steps.get(self.step, ("", []))
        if rank in ranks and what == "raise":
            raise ValueError(f"rank {rank} has had enough")
        if rank in ranks and what == "sleep":
            time.sleep(2.5)
        if rank in ranks and what in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[what])
        take_step(self, *given)

    Trainer._train_step = stepping  # type: ignore[method-assign]
    _written.clear()
    try:
        if "folder" in order:
            return {"rows": evaluate_folder(order["folder"]).rows, "written": sorted(_written)}
        config = llm_esr.load_config(order["config"], order["settings"])
        model = llm_esr.train(order["data"], config=config, out=order["out"], progress=False, callbacks=[StopAfter()])
        first = model.recommend(users=["u1"], k=5).to_dicts()
        return {"written": sorted(_written), "lists": first}
    except (Exception, KeyboardInterrupt) as error:
        return {"error": type(error).__name__, "message": str(error), "written": sorted(_written)}
    finally:
        Trainer._train_step = take_step  # type: ignore[method-assign]


_written: set[str] = set()


def _note_writes(event: str, given: tuple[Any, ...]) -> None:
    """Keep the names of files that are opened for writing, made or renamed in a folder of models."""
    writes = (event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)) or event in {
        "os.rename",
        "os.mkdir",
    }
    if writes and isinstance(given[0], str | Path) and "/models" in str(given[0]):
        _written.add(str(given[0]))


def main() -> None:
    """Carry out orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    sys.addaudithook(_note_writes)
    with suppress(BrokenPipeError):
        for line in sys.stdin:
            print(json.dumps(_carry_out(json.loads(line), int(os.environ["RANK"]))), file=answers, flush=True)


if __name__ == "__main__":
    main()
