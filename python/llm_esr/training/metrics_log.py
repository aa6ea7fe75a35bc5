"""`metrics.jsonl`: one JSON object a line, appended as the training goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from llm_esr.files import sync_folder
from llm_esr.files.refusals import writing


class MetricsLog:
    """An append-only log that a resumed training cuts back to its checkpoint.

    Args:
        path: the file; its folder is made.
        writes: whether it is this process that writes; if not, nothing is touched.

    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, **values: Any) -> None:
        """Write one line, and wait until the disk has it: the next checkpoint counts on it."""
        if not self.writes:
            return
        new = not self.path.exists()
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self.path.parent)

    def cut(self, length: int) -> None:
        """Drop what was written after the checkpoint; nothing where the file is shorter."""
        if self.writes and self.length > length:
            with self.path.open("r+b") as file:
                file.truncate(length)
