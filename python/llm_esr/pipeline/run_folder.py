"""A run's folder: `run.json`, `data/`, `models/<name>[/<seed>]/`, `metrics.json`, `tables.md`; every path relative."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_esr.config import Section
from llm_esr.files import FORMAT, is_there, read_record, write_json
from llm_esr.files.lock import lock_record


@dataclass(frozen=True)
class ModelId:
    """One cell of a run's grid: a trained model, or a scorer that needs no training and has no seed."""

    name: str
    seed: int | None

    def __str__(self) -> str:
        """As in the folder: `name/seed`, or `name`."""
        return self.name if self.seed is None else f"{self.name}/{self.seed}"

    def __lt__(self, other: ModelId) -> bool:
        """By name, then seed."""
        return (self.name, self.seed or 0) < (other.name, other.seed or 0)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps things."""

    path: Path

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.path / "data"

    @property
    def record(self) -> Path:
        """`run.json`."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """`metrics.json`."""
        return self.path / "metrics.json"

    @property
    def tables(self) -> Path:
        """The table as Markdown."""
        return self.path / "tables.md"

    def model(self, model: ModelId) -> Path:
        """A model's folder."""
        folder = self.path / "models" / model.name
        return folder if model.seed is None else folder / str(model.seed)

    def finished(self) -> dict[ModelId, dict[str, Any]]:
        """The finished models and their `model.json`."""
        found: dict[ModelId, dict[str, Any]] = {}
        for path in sorted(self.path.glob("models/*/model.json")):
            record = read_record(path)
            if "scorer" in record:
                found[ModelId(path.parent.name, None)] = record
        for path in sorted(self.path.glob("models/*/*/model.json")):
            record = read_record(path)
            if record.get("finished") and path.parent.name.isdigit():
                found[ModelId(path.parent.parent.name, int(path.parent.name))] = record
        return found

    def unfinished(self) -> list[ModelId]:
        """The models whose training has come to a checkpoint and not to its end."""
        found = []
        for path in sorted(self.path.glob("models/*/*/model.json")):
            record = read_record(path)
            if not record.get("finished") and path.parent.name.isdigit() and any(path.parent.glob("checkpoint/*.*")):
                found.append(ModelId(path.parent.parent.name, int(path.parent.name)))
        return found

    def read(self) -> dict[str, Any]:
        """`run.json`, or what an empty run would hold.

        Raises:
            ValueError: damaged, or of a later version.
        """
        if not is_there(self.record):
            return {"format": FORMAT, "primary": None, "data": "data", "settings": {}, "evaluated": {}}
        record: dict[str, Any] = read_record(self.record)
        if record.get("format") != FORMAT:
            raise ValueError(f"{self.record} has format {record.get('format')}; this version reads {FORMAT}")
        return read_record(self.record, "primary", "settings", "evaluated")

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """`run.json` for the block to change, held against other processes; written where it differs afterwards."""
        with lock_record(self.record):
            record = self.read()
            before = deepcopy(record)
            yield record
            if record != before or not self.record.exists():
                write_json(self.record, record)

    def update(self, **fields: Any) -> None:
        """Replace fields of `run.json`."""
        with self.changing() as record:
            record.update(fields)

    def remember(self, section: str, settings: Section) -> None:
        """Note the settings that a data stage was last made with, to name a difference later."""
        with self.changing() as record:
            record["settings"][section] = settings.model_dump(mode="json")

    def note_evaluated(self, model: str, key: str) -> None:
        """Note under which key a model's figures were made."""
        with self.changing() as record:
            record["evaluated"][model] = key

    def forget_evaluated(self, models: Iterable[str]) -> None:
        """The figures of these models are to be made again."""
        with self.changing() as record:
            for model in models:
                record["evaluated"].pop(model, None)
