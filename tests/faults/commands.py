"""The commands that the harnesses break, as children of a process that has imported everything and started no thread.

Such a child is as good as a process of its own, and starts in a few milliseconds.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# How fast it went and on what day are no results.
VOLATILE = {"metrics.jsonl": ("steps_per_second", "seconds")}
SETTINGS = ["model.width=8", "model.max_len=8", "train.batch_size=8", "train.epochs=2", "distill.similar_users=3",
            "checkpoint.every_steps=2", "index.similar_users=8", "runtime.threads=1", "evaluate.resamples=20",
            "embed.lsa_dimensions=16"]  # fmt: skip
SET = [part for setting in SETTINGS for part in ("--set", setting)]
LATE = ("torch._dynamo", "sklearn.decomposition", "sklearn.feature_extraction.text", "scipy.sparse.linalg")
LIGHT = {"prepare"}  # without torch
TABLES = ["events.csv", "--items", "items.csv"]


@dataclass(frozen=True)
class Command:
    """A command line, after others that make what it reads."""

    name: str
    line: list[str]
    before: tuple[list[str], ...] = ()
    share: int = 1


PREPARE = ["prepare", *TABLES, "--out", "data"]
EMBED = ["embed", "data", "--set", "embed.lsa_dimensions=16"]
INDEX = ["index", "data", "--set", "index.similar_users=8"]
TRAIN = ["train", "data", "--config", "llm-esr", "--seed", "1", "--out", "models/llm-esr/1", "--quiet", *SET]
RUN = ["run", *TABLES, "--out", "shop", "--models", "sasrec,llm-esr,neighbours", "--seeds", "1", *SET]
COMMANDS = (
    Command("prepare", PREPARE, share=2),
    Command("prepare again", [*PREPARE, "--min-user-count", "3"], (PREPARE, EMBED), share=2),
    Command("embed", EMBED, (PREPARE,)),
    Command("index", INDEX, (PREPARE, EMBED)),
    Command("train", TRAIN, (PREPARE, EMBED, INDEX), share=3),
    Command("run", RUN, share=3),
)


@dataclass
class Counts:
    """What became of one command; each harness adds its numbers."""

    wrong: list[str] = field(default_factory=list)


def tree(folder: Path) -> dict[str, str]:
    """Every file's and folder's name, a file with the checksum of what counts in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = hashlib.sha256(_lasting(path)).hexdigest() if path.is_file() else "folder"
    return found


def _lasting(path: Path) -> bytes:
    """A file's bytes; of a log of figures without the times that it took."""
    if path.name not in VOLATILE:
        return path.read_bytes()
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        return path.read_bytes()
    kept = [{k: v for k, v in line.items() if k not in VOLATILE[path.name]} for line in lines]
    return json.dumps(kept).encode()


def fork(line: list[str], folder: Path) -> int:
    """Start a command in a child; its process id."""
    return _child(lambda: answer(line, folder))


def run_forked(call: Callable[[], None]) -> int | None:
    """Call a function in a child, to its end; the exit code."""
    return finish(_child(call))


def answer(line: list[str], folder: Path, log: int | None = None) -> None:
    """What a child does for a command: run it in a folder, and print to a handle, or to a file beside that."""
    os.chdir(folder)
    if log is None:
        log = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from llm_esr.cli import main as command

    command(line)


def _child(call: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        call()
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def finish(child: int, seconds: float | None = None) -> int | None:
    """The child's exit code; None where it was killed after so many seconds."""
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def whole(line: list[str], folder: Path) -> float:
    """Run a command to its end; the seconds that it took.

    Raises:
        RuntimeError: it failed; the message has what it printed.
    """
    began = time.monotonic()
    code = finish(fork(line, folder))
    if code:
        said = (folder.parent / f"{folder.name}.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{' '.join(line)}: exit code {code}: {said[-2000:]}")
    return time.monotonic() - began


def goes_on_wrong(line: list[str], folder: Path, expected: dict[str, str]) -> str | None:
    """What is not as expected once a command has run to its end; None: nothing."""
    try:
        whole(line, folder)
    except RuntimeError as error:
        return str(error)
    found = tree(folder)
    differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"differs in {', '.join(differ[:5])}" if differ else None


def make_tables(folder: Path) -> None:
    """A simulated shop, small enough for hundreds of trainings."""
    from llm_esr.simulation import simulate

    folder.mkdir(parents=True)
    events, items = simulate(3, 50, 120)
    events.write_csv(folder / "events.csv")
    items.write_csv(folder / "items.csv")


def tables_beside(folder: Path) -> Path:
    """The tables, made in a process of their own: Polars starts its threads at the first use."""
    tables = folder / "tables"
    subprocess.run([sys.executable, __file__, str(tables)], check=True)
    return tables


def import_for(commands: Iterable[Command]) -> None:
    """Import what the commands import, and start no thread: the children are forked from here."""
    import llm_esr.cli
    import llm_esr.data

    if all(line[0] in LIGHT for command in commands for line in (command.line, *command.before)):
        return
    import torch

    import llm_esr.pipeline  # noqa: F401

    # What torch, scikit-learn and SciPy would import when they are first used, in every child anew.
    for name in LATE:
        importlib.import_module(name)
    torch.set_num_threads(1)


Attempt = Callable[[Command, Sequence[Command], Path, Path, argparse.Namespace], Counts]


def run_harness(parser: argparse.ArgumentParser, commands: Sequence[Command], attempt: Attempt) -> None:
    """Break the commands that are asked for, print a line each, write the counts, and fail where anything was wrong.

    Args:
        parser: with the harness's own options.
        commands: what there is to break.
        attempt: breaks one, given all that are chosen, an empty folder, a folder with the tables, and the options.
    """
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a command's name, such as train; may be given many times")
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--keep", type=Path, help="make the folders here, and keep what went wrong")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["COLUMNS"] = "200"
    chosen = [command for command in commands if given.only is None or command.name in given.only]
    result: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        tables = tables_beside(folder)
        import_for(chosen)
        for command in chosen:
            place = folder / command.name.replace(" ", "-")
            place.mkdir()
            counts = result[command.name] = attempt(command, chosen, place, tables, given)
            print(*counts.wrong, sep="\n", end="\n" if counts.wrong else "")
            numbers = [f"{name} {value:,}" for name, value in vars(counts).items() if isinstance(value, int)]
            print(f"{command.name}: {', '.join(numbers)}, wrong {len(counts.wrong)}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps({name: vars(one) for name, one in result.items()}, indent=2) + "\n", "utf-8")
    sys.exit(any(counts.wrong for counts in result.values()))


if __name__ == "__main__":
    make_tables(Path(sys.argv[1]))
