"""Commands killed at random moments, and started again until they are done: `python tests/faults/kills.py --help`.

A child is killed with SIGKILL at a random moment of its command; the same line is called again (and perhaps killed
again) until it ends by itself. Then every file must have the bytes of a run that nobody killed, and no other file may
lie there.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commands import COMMANDS, Command, Counts, finish, fork, goes_on_wrong, run_harness, tree, whole


@dataclass
class KillCounts(Counts):
    """How often a command was killed, in how many trials."""

    kills: int = 0
    trials: int = 0


def kill_command(command: Command, kills: int, seed: int, folder: Path, start: Path) -> KillCounts:
    """Kill a command so often, each trial once or more before it may end.

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
    counts = KillCounts()
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
        fault = goes_on_wrong(command.line, shop, expected)
        if fault is None:
            shutil.rmtree(shop)
        else:
            shop.rename(folder / f"trial{counts.trials}")
            after = ", ".join(f"{moment:.3f}" for moment in moments)
            counts.wrong.append(f"{command.name}, killed after {after} s of {took:.3f}: {fault}")
    return counts


def kill_share(
    command: Command, chosen: Sequence[Command], place: Path, tables: Path, given: argparse.Namespace
) -> KillCounts:
    """A command's share of the kills."""
    wanted = max(1, round(given.kills * command.share / sum(one.share for one in chosen)))
    return kill_command(command, wanted, given.seed, place, tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500, help="in all")
    run_harness(parser, COMMANDS, kill_share)
