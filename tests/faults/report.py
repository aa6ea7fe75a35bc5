"""`make faults`: every harness at its full size, and their counts in docs/reliability.md and docs/faults.json.

Each harness is a process of its own. A part that was not run now keeps the figures that it has, with their day.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE, RECORD = ROOT / "docs" / "reliability.md", ROOT / "docs" / "faults.json"
BEGIN, END = "<!-- counts of make faults -->", "<!-- end of counts -->"
# What the harnesses share with the tests lies beside their folder.
PATHS = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": PATHS}

Part = dict[str, Any]


def harness(name: str, *options: str) -> dict[str, Any]:
    """Run a harness that writes its counts as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.json"
        subprocess.run([sys.executable, str(HERE / f"{name}.py"), "--json", str(counts), *options], env=ENVIRONMENT,
                       check=False)  # fmt: skip
        found: dict[str, Any] = json.loads(counts.read_text(encoding="utf-8"))
        return found


def kills(size: int) -> Part:
    """SIGKILL at random moments."""
    found = harness("kills", "--kills", str(size))
    rows = {name: [one["kills"], one["trials"], len(one["wrong"])] for name, one in found.items()}
    return {"title": "Kills at random moments, then the same line again: every file bit for bit, no other file",
            "columns": ["command", "kills", "runs", "different"], "rows": rows}  # fmt: skip


def power_loss(size: int) -> Part:
    """A power cut at every change on the disk."""
    options = ["--limit", str(size)] if size else []
    found = harness("power_loss", *options)
    rows = {name: [one["events"], one["states"], one["tried"], len(one["wrong"])] for name, one in found.items()}
    return {"title": "Power cut at each change on the disk, then the same line again",
            "columns": ["command", "changes", "states", "tried", "wrong"], "rows": rows}  # fmt: skip


def broken_writes(size: int, *, disk: bool) -> Part:
    """Writes that the disk refuses."""
    found = harness("broken_writes", "--steps", str(size), *(["--disk"] if disk else []))
    rows = {name: [one["tried"], one["refused"], len(one["wrong"])] for name, one in found.items()}
    kind = "A file system that is full" if disk else "Files that may not grow"
    return {"title": f"{kind}: one error with its path, the earlier files untouched, no rest",
            "columns": ["command", "limits", "refused", "wrong"], "rows": rows}  # fmt: skip


def damage(size: int) -> Part:
    """Damage to every file that is read."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, str(HERE / "damage.py"), folder, "0", str(size)]
        done = subprocess.run(line, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    found: dict[str, dict[str, int]] = json.loads(done.stdout.strip().splitlines()[-1])
    outcomes = ["refused", "right", "fallback", "unchecked", "different", "foreign"]
    rows = {name: [sum(one.values()), *(one.get(outcome, 0) for outcome in outcomes)] for name, one in found.items()}
    return {"title": "Cuts, flipped bytes, forged headers, folders and links in place of each file",
            "columns": ["file", "damages", *outcomes], "rows": rows}  # fmt: skip


PARTS: dict[str, Callable[[], Part]] = {
    "kills": lambda: kills(500),
    "power loss": lambda: power_loss(0),
    "files that may not grow": lambda: broken_writes(24, disk=False),
    "full disk": lambda: broken_writes(16, disk=True),
    "damage": lambda: damage(1_000_000),
}


def rendered(parts: dict[str, Part]) -> str:
    """The parts as tables, each with its sums, its day and machine."""
    blocks = []
    for part in parts.values():
        columns, rows = part["columns"], part["rows"]
        total = [sum(numbers) for numbers in zip(*rows.values(), strict=True)]
        lines = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
        for name, numbers in [*rows.items(), ("**in all**", total)]:
            lines.append(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |")
        blocks.append(
            "\n".join([f"**{part['title']}** ({part['day']}, {part['seconds']:,} s, {part['machine']})", "", *lines])
        )
    return "\n\n".join(blocks)


def main() -> None:
    """Run the parts that were asked for, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be given many times")
    given = parser.parse_args()
    parts: dict[str, Part] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for name in given.only or PARTS:
        began = time.monotonic()
        part = PARTS[name]()
        machine = (
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        parts[name] = part | {
            "day": time.strftime("%Y-%m-%d"),
            "seconds": round(time.monotonic() - began),
            "machine": machine,
        }
        parts = {known: parts[known] for known in PARTS if known in parts}
        RECORD.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n\n{rendered(parts)}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
