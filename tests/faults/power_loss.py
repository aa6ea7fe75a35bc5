"""What a power cut may leave of a command, at every moment of it: `python tests/faults/power_loss.py --help`.

The way SQLite is tested: the changes that a command makes on the disk are recorded one by one. At each of them every
state is built that a cut may leave: names of files change in order, up to anywhere between the last folder that was
synced and this moment; a file that was not synced is there as a whole, half, or empty. From each state the same line
must end with the bytes of a command that nothing cut.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import COMMANDS, Command, Counts, answer, goes_on_wrong, run_forked, run_harness, tree, whole

VARIANTS = ("whole", "half", "empty")


class Recorder:
    """Records changes below a folder as events of names (mkdir, create, unlink, rename ...) and of contents.

    Attributes:
        events: lists, each with its kind first; paths are relative, contents are named by their checksum.
    """

    def __init__(self, root: Path, blobs: Path) -> None:
        self.root, self.blobs = root, blobs
        self.events: list[list[Any]] = []
        self._files: dict[str, tuple[int, str]] = {}  # path -> number of the file, checksum
        self._folders: set[str] = set()
        self._number_of: dict[int, int] = {}  # inode -> number of the file, while it has a name
        self._next = 0
        self.observe()
        self.events.append(["start"])

    def observe(self) -> None:
        """Find what changed since the last look."""
        files, folders = {}, set()
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            try:
                if path.is_dir():
                    folders.add(name)
                else:
                    files[name] = (path.stat().st_ino, self._keep(path))
            except FileNotFoundError:
                continue
        for name in sorted(folders - self._folders):
            self.events.append(["mkdir", name])
        for name in sorted(self._files.keys() - files.keys()):
            self.events.append(["unlink", name])
            del self._files[name]
        for name in sorted(self._folders - folders, reverse=True):
            self.events.append(["rmdir", name])
        self._folders = folders
        living = {number for number, _ in self._files.values()}
        for name, (inode, content) in sorted(files.items()):
            known = self._files.get(name)
            number = self._number_of.get(inode) if known is None else known[0]
            if known is None and (number is None or number not in living):
                number = self._number_of[inode] = self._next
                self._next += 1
            assert number is not None
            if known is None:
                self.events.append(["create", name, number])
            if known is None or known[1] != content:
                self.events.append(["write", number, content])
            self._files[name] = (number, content)

    def _keep(self, path: Path) -> str:
        raw = path.read_bytes()
        name = hashlib.sha256(raw).hexdigest()
        if not (self.blobs / name).exists():
            (self.blobs / name).write_bytes(raw)
        return name

    def moved(self, kind: str, one: Any, other: Any) -> None:
        """Two names changed: `rename` or `exchange`."""
        pair = [os.path.relpath(Path.cwd() / path, self.root) for path in (one, other)]
        if any(path.startswith("..") for path in pair):
            return
        self.events.append([kind, *pair])
        self._files = move(self._files, kind, *pair)
        self._folders = set(move(dict.fromkeys(self._folders), kind, *pair))

    def synced(self, handle: int) -> None:
        """A file or folder was synced."""
        inode = os.fstat(handle).st_ino
        found = Path(f"/proc/self/fd/{handle}")
        path = os.path.relpath(found.readlink(), self.root)
        if found.is_dir():
            if not path.startswith(".."):
                self.events.append(["sync-folder", path])
        elif inode in self._number_of:
            self.events.append(["sync", self._number_of[inode]])


def move(entries: dict[str, Any], kind: str, one: str, other: str) -> dict[str, Any]:
    """Entries by path after `one` was renamed to `other`, or exchanged with it, with all that lies below."""

    def below(path: str, top: str) -> bool:
        return path == top or path.startswith(top + "/")

    result = {path: v for path, v in entries.items() if not below(path, one) and not below(path, other)}
    result |= {other + path[len(one) :]: v for path, v in entries.items() if below(path, one)}
    if kind == "exchange":
        result |= {one + path[len(other) :]: v for path, v in entries.items() if below(path, other)}
    return result


def record(line: list[str], root: Path, blobs: Path) -> list[list[Any]]:
    """Run a command in a child that records; the events."""
    blobs.mkdir(exist_ok=True)
    events = blobs.parent / "events.json"

    def recorded() -> None:
        recorder = Recorder(root, blobs)
        _watch(recorder)
        try:
            answer(line, root)
        finally:
            recorder.observe()
            events.write_text(json.dumps(recorder.events), encoding="utf-8")

    code = run_forked(recorded)
    if code:
        raise RuntimeError(f"{' '.join(line)}: exit code {code} while it was recorded")
    return json.loads(events.read_text(encoding="utf-8"))


def _watch(recorder: Recorder) -> None:
    """Let the recorder look before and after each call that changes names or syncs."""
    from llm_esr.files import atomic

    def around(call: Callable[..., Any], after: Callable[..., None] | None = None) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            recorder.observe()
            result = call(*arguments, **named)
            if after is not None:
                after(result, *arguments)
            recorder.observe()
            return result

        return watched

    def exchanged(done: bool, one: Path, other: Path) -> None:
        if done:
            recorder.moved("exchange", one, other)

    for name in ("mkdir", "unlink", "remove", "rmdir", "link"):
        setattr(os, name, around(getattr(os, name)))
    for name in ("rename", "replace"):
        setattr(os, name, around(getattr(os, name), lambda _, one, other: recorder.moved("rename", one, other)))
    os.fsync = around(os.fsync, lambda _, handle: recorder.synced(handle))
    atomic._exchange = around(atomic._exchange, exchanged)


NAMES = {"mkdir", "create", "unlink", "rmdir", "rename", "exchange"}


@dataclass(frozen=True)
class State:
    """Files by path, each with its content's checksum and how much of it is there; folders."""

    files: tuple[tuple[str, str, str], ...]
    folders: tuple[str, ...]

    def build(self, root: Path, blobs: Path) -> None:
        """Make a folder be this state."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name in sorted(self.folders):
            (root / name).mkdir(parents=True, exist_ok=True)
        for name, content, variant in self.files:
            raw = (blobs / content).read_bytes() if content else b""
            kept = {"whole": len(raw), "half": len(raw) // 2, "empty": 0}[variant]
            (root / name).write_bytes(raw[:kept])


def states(events: list[list[Any]]) -> Iterator[tuple[int, State]]:
    """Every state that a cut may leave, each once, with the place of the event after which it came."""
    begin = events.index(["start"])
    seen: set[State] = set()
    lasting = begin  # all names up to here are on the disk
    content: dict[int, str] = {}
    synced: dict[int, str] = {}
    for at, event in enumerate(events):
        match event:
            case ["write", number, checksum]:
                content[number] = checksum
            case ["sync", number]:
                synced[number] = content.get(number, "")
            case ["sync-folder", folder]:
                last = [n for n, e in enumerate(events[: at + 1]) if e[0] in NAMES and folder in _folders_of(e)]
                lasting = max([lasting, *last])
            case ["start"]:
                synced = dict(content)
        if at < begin:
            continue
        ends = [lasting, *(n for n in range(lasting + 1, at + 1) if events[n][0] in NAMES)]
        for end in ends:
            files, folders = _named(events[: end + 1])
            for variant in VARIANTS:
                rows = []
                for name, number in files.items():
                    now, before = content.get(number, ""), synced.get(number, "")
                    whole_now = now == before
                    # What was synced lasts; what was written since may be there, or not, or in part.
                    rows.append((name, before if variant == "empty" and before else now,
                                 "whole" if whole_now or (variant == "empty" and before) else variant))  # fmt: skip
                state = State(tuple(sorted(rows)), tuple(sorted(folders)))
                if state not in seen:
                    seen.add(state)
                    yield at, state


def _folders_of(event: list[Any]) -> set[str]:
    return {str(Path(path).parent) for path in event[1:] if isinstance(path, str)}


def _named(events: list[list[Any]]) -> tuple[dict[str, int], set[str]]:
    """Files by path and folders after these events."""
    files: dict[str, int] = {}
    folders: dict[str, None] = {}
    for event in events:
        match event:
            case ["mkdir", path]:
                folders[path] = None
            case ["create", path, number]:
                files[path] = number
            case ["unlink", path]:
                files.pop(path, None)
            case ["rmdir", path]:
                folders.pop(path, None)
            case ["rename" | "exchange" as kind, one, other]:
                files, folders = move(files, kind, one, other), move(folders, kind, one, other)
    return files, set(folders)


@dataclass
class CutCounts(Counts):
    """How much a command changes, in how many states a cut may leave it, and how many of them were tried."""

    events: int = 0
    states: int = 0
    tried: int = 0


def cut_command(
    command: Command, chosen: Sequence[Command], folder: Path, start: Path, given: argparse.Namespace
) -> CutCounts:
    """Record a command, and go on from the states that a cut may leave; from so many of them, drawn by the seed."""
    shop, blobs = folder / "shop", folder / "blobs"
    shutil.copytree(start, shop)
    for line in command.before:
        whole(line, shop)
    before = _fingerprint(shop)
    events = record(command.line, shop, blobs)
    expected = tree(shop)
    allowed = {before, _fingerprint(shop)}
    found = list(states(events))
    counts = CutCounts(events=len(events), states=len(found))
    limit = len(found) if given.limit is None else min(given.limit, len(found))
    tried = found if limit == len(found) else random.Random(given.seed).sample(found, limit)
    for at, state in tried:
        if given.stop and counts.wrong:
            break
        counts.tried += 1
        state.build(shop, blobs)
        label = f"{command.name}, cut at {at} of {len(events)} ({' '.join(map(str, events[at]))[:120]})"
        fingerprint = _fingerprint(shop)
        if fingerprint not in allowed:
            counts.wrong.append(f"{label}: neither the old data set nor the new: {fingerprint}")
            continue
        fault = goes_on_wrong(command.line, shop, expected)
        if fault is not None:
            counts.wrong.append(f"{label}: {fault}")
    return counts


def _fingerprint(shop: Path) -> str:
    """The data set that lies there, by opening it in a child; an empty text: there is none."""
    folder = next((one for one in (shop / "data", shop / "shop" / "data") if (one / "dataset.json").exists()), None)
    if folder is None:
        return ""
    said = shop.parent / "fingerprint"

    def look() -> None:
        from llm_esr.data import Dataset

        try:
            data = Dataset.open(folder)
            said.write_text(f"{data.fingerprint} {len(data.user_ids)} {len(data.item_ids)}", encoding="utf-8")
        except Exception as error:
            said.write_text(f"error: {error}", encoding="utf-8")

    run_forked(look)
    return said.read_text(encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, help="so many states a command, drawn by the seed; default: all")
    parser.add_argument("--stop", action="store_true", help="leave a command at the first state that is wrong")
    run_harness(parser, COMMANDS, cut_command)
