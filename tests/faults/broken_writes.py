"""Disks that take no more, in the middle of every command: `python tests/faults/broken_writes.py --help`.

A command runs where no file may grow beyond so many bytes (EFBIG), or on a small file system that is full after so
many (ENOSPC). It must end with one error that names a path of its own; what lay there before must be untouched, and
nothing else left but what was finished. Without the limit the same line must go on to the usual bytes.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commands import (
    COMMANDS,
    EMBED,
    INDEX,
    PREPARE,
    RUN,
    TRAIN,
    Command,
    Counts,
    answer,
    run_forked,
    run_harness,
    tree,  # fmt: skip
    whole,
)

from llm_esr.data.folder import TABLES

RECOMMEND = ["recommend", "shop", "--users", "all", "--out", "lists.parquet", "--k", "5"]
WRITERS = (
    *COMMANDS,
    Command("recommend", RECOMMEND, (RUN,)),
    Command("recommend again", [*RECOMMEND[:-1], "7"], (RUN, RECOMMEND)),
    Command("blend", [*TRAIN, "--set", "blend.scorers=[transitions]"], (PREPARE, EMBED, INDEX)),
)
MISTAKE = 2


@dataclass
class RefusedCounts(Counts):
    """How many limits were tried, and how many of them a command ran into."""

    tried: int = 0
    refused: int = 0


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at a folder.

    Raises:
        PermissionError: this process may not mount one.
    """
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        raise PermissionError("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, free: int) -> None:
    """Leave so many bytes free."""
    left = os.statvfs(place)
    size = left.f_bavail * left.f_frsize - free
    (place / "filler").write_bytes(b"\0" * max(size, 0))


def limited(line: list[str], folder: Path, most: int | None) -> tuple[int | None, str]:
    """Run a command in a child whose files may have so many bytes; its exit code and what it printed."""
    reading, writing = os.pipe()

    def child() -> None:
        os.close(reading)
        if most is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        answer(line, folder, writing)

    code = run_forked(child)  # what it prints is shorter than a pipe is wide
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as said:
        return code, said.read()


def fault_of(code: int | None, said: str, before: dict[str, str], after: dict[str, str]) -> str | None:
    """What is not as promised of a command that was refused; None: nothing."""
    errors = [line for line in said.splitlines() if line.startswith(("error", "unforeseen", "Traceback"))]
    if code != MISTAKE or len(errors) != 1 or not errors[0].startswith("error: "):
        return f"exit code {code}: {said[-300:]}"
    known = ("data", "models", "shop", "lists.parquet")
    if "it was not written" not in errors[0] or not any(name in errors[0] for name in known):
        return f"its message names no path or no remedy: {errors[0]}"
    hidden = [name for name in after if any(part.startswith(".") for part in Path(name).parts)]
    changed = [name for name, checksum in before.items() if after.get(name) not in (checksum, None)]
    # A finished stage may stand where an older one stood; half a file may not.
    return f"left {hidden[:3]}" if hidden else f"changed {changed[:3]}" if changed else None


def differing(expected: dict[str, str], end: dict[str, str]) -> list[str]:
    """Names that are not as expected; a table of neighbours may be missing: it is kept only where there is room."""
    names = [name for name in expected.keys() | end.keys() if expected.get(name) != end.get(name)]
    return [name for name in names if name in end or TABLES not in Path(name).parts]


def break_command(
    command: Command, _: Sequence[Command], folder: Path, start: Path, given: argparse.Namespace
) -> RefusedCounts:
    """Run a command with each limit, of a file's size or of the disk's."""
    disk, largest = given.disk, 1 << 19 if given.disk else 1 << 16
    # Closer together where files are small.
    limits = sorted({int(largest * (n / given.steps) ** 2) for n in range(given.steps)})
    shop, begun, counts = folder / "shop", folder / "begun", RefusedCounts()
    shutil.copytree(start, shop)
    for line in command.before:
        whole(line, shop)
    shutil.copytree(shop, begun)
    whole(command.line, shop)
    expected = tree(shop)
    before = tree(begun)
    for limit in limits:
        shutil.rmtree(shop, ignore_errors=True)
        if disk:
            with small_disk(shop, 1 << 26):
                shutil.copytree(begun, shop, dirs_exist_ok=True)
                fill(shop, limit)
                code, said = limited(command.line, shop, None)
                after = {name: what for name, what in tree(shop).items() if name != "filler"}
                (shop / "filler").unlink()
                again, said_again = limited(command.line, shop, None)
                end = tree(shop)
            shop.rmdir()
        else:
            shutil.copytree(begun, shop)
            code, said = limited(command.line, shop, limit)
            after = tree(shop)
            again, said_again = limited(command.line, shop, None)
            end = tree(shop)
        counts.tried += 1
        fault = None if code == 0 else fault_of(code, said, {n: c for n, c in before.items() if n in after}, after)
        counts.refused += code != 0
        if fault is None and again:
            fault = f"does not go on: {said_again[-300:]}"
        elif fault is None and (differ := differing(expected, end)):
            fault = f"differs in {differ[:3]}"
        if fault is not None:
            kind = "bytes free" if disk else "bytes a file"
            counts.wrong.append(f"{command.name}, {limit:,} {kind}: {fault}")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--disk", action="store_true", help="a full file system; default: files of a largest size")
    parser.add_argument("--steps", type=int, default=24, help="how many limits, from 0 to 64 KiB (disk: 512 KiB)")
    run_harness(parser, WRITERS, break_command)
