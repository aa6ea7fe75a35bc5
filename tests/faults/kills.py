"""Commands killed at random moments, and started again until they are done: `python tests/faults/kills.py --help`.

A process that has imported everything and started no thread forks one child a command, which is as good as a process
of its own and starts in a few milliseconds. The child is killed with SIGKILL at a random moment of the command; the
same line is called again (and perhaps killed again) until it ends by itself. Then every file must have the bytes of a
run that nobody killed, and no other file may lie there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
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
    """What became of the kills of one command."""

    seconds: float = 0  # of the command, unhindered
    kills: int = 0
    trials: int = 0
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


def kill_command(command: Command, kills: int, seed: int, folder: Path, start: Path) -> Iterator[Counts]:
    """Kill a command so often, each trial once or more before it may end; the counts after each trial.

    Args:
        command: what is killed.
        kills: how often in all.
        seed: of the moments.
        folder: an empty folder for the trials.
        start: a folder that holds the tables.
    """
    # Every trial lies at the same place: data sets say where their tables came from.
    begun, shop = folder / "begun", folder / "shop"
    shutil.copytree(start, shop)
    for line in command.before:
        whole(line, shop)
    shutil.copytree(shop, begun)
    took = whole(command.line, shop)
    expected = tree(shop)
    shop.rename(folder / "expected")
    counts = Counts(took)
    draws = random.Random(f"{seed} {command.name}")
    while counts.kills < kills:
        counts.trials += 1
        shutil.copytree(begun, shop)
        moments = []
        # One kill, and with a chance of a third each one more where the first has left off.
        while not moments or (draws.random() < 1 / 3 and counts.kills < kills):
            moments.append(draws.uniform(0, took))
            if finish(fork(command.line, shop), moments[-1]) is not None:
                break  # it was done before
            counts.kills += 1
        fault = _fault(command.line, shop, expected)
        if fault is None:
            shutil.rmtree(shop)
        else:
            shop.rename(folder / f"trial{counts.trials}")
            after = ", ".join(f"{moment:.3f}" for moment in moments)
            counts.wrong.append(f"{command.name}, killed after {after} s of {took:.3f}: {fault}")
        yield counts


def _fault(line: list[str], folder: Path, expected: dict[str, str]) -> str | None:
    """What is not as expected once the command has run to its end; None: nothing."""
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
    subprocess.run([sys.executable, __file__, "--tables", str(tables)], check=True)
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


def kill_all(kills: int, seed: int, folder: Path, names: list[str] | None = None) -> dict[str, Counts]:
    """Kill every command, the kills shared among them; what became of each."""
    tables = tables_beside(folder)
    chosen = [command for command in COMMANDS if names is None or command.name in names]
    import_for(chosen)
    shares = sum(command.share for command in chosen)
    result = {}
    for command in chosen:
        wanted = max(1, round(kills * command.share / shares))
        place = folder / command.name.replace(" ", "-")
        place.mkdir()
        said = 0
        for counts in kill_command(command, wanted, seed, place, tables):
            result[command.name] = counts
            for wrong in counts.wrong[said:]:
                print(wrong, flush=True)
            said = len(counts.wrong)
        of = f"{len(counts.wrong)} of {counts.trials} wrong"
        print(f"{command.name} ({counts.seconds:.2f} s): {counts.kills} kills, {of}", flush=True)
    return result


def main() -> None:
    """Kill, print a line a command, write the counts as JSON where asked, and fail where anything differed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a command's name, such as train; may be given many times")
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--keep", type=Path, help="make the folders here, and keep those that went wrong")
    parser.add_argument("--tables", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.tables is not None:
        make_tables(given.tables)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["COLUMNS"] = "200"
    with tempfile.TemporaryDirectory() as temporary:
        result = kill_all(given.kills, given.seed, given.keep or Path(temporary), given.only)
    if given.json is not None:
        rows = {name: {"kills": c.kills, "trials": c.trials, "wrong": c.wrong} for name, c in result.items()}
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(counts.wrong for counts in result.values()))


if __name__ == "__main__":
    main()
