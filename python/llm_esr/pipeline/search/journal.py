"""The file that a search goes on from: Optuna's journal, JSON lines, read within bounds and never as a pickle.

Optuna appends a line for each thing that happens. A process that is killed may leave half a line, which would spoil the
next one; it is cut off. Whatever else is damaged is refused with its line. Of Optuna's journals the one in a file keeps
no snapshots, which are pickles.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.jsonl"
_NAME = "llm-esr"  # of the study in its file
_LONGEST_LINE = 1 << 20  # bytes
_LARGEST_FILE = 1 << 28
# What Optuna raises where lines are JSON but do not tell of one study.
_UNFIT = (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RuntimeError, OverflowError)


def refuse_without_optuna() -> None:
    """Raise an `ImportError` that names the extra where Optuna is not installed."""
    try:
        import optuna  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        raise ImportError("a search needs the package optuna: pip install 'llm-esr[tune]'") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its lines on stderr, which are about storages and experimental classes."""
    import optuna  # noqa: PLC0415 (an extra)

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def open_study(folder: Path, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """The study of a folder that nobody else writes to, as far as it got.

    Raises:
        ValueError: a damaged file; the message has the line and what to do.
    """
    import optuna  # noqa: PLC0415 (an extra)
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock  # noqa: PLC0415

    path = folder / JOURNAL
    # A killed process cannot give Optuna's lock back; who holds the folder's lock knows that nobody has this one.
    for left in folder.glob(f"{JOURNAL}.lock*"):
        left.unlink(missing_ok=True)
    if path.exists():
        _check(path)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
        study = optuna.create_study(
            study_name=_NAME, storage=storage, direction="maximize", pruner=pruner, load_if_exists=True
        )
        study.get_trials()
    except _UNFIT as error:
        raise damaged(path, f"its lines do not tell of one study ({type(error).__name__}: {error})") from None
    return study


def _check(path: Path) -> None:
    """Refuse what is no journal, a line at a time; cut off half a line at its end."""
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise damaged(path, f"it has {size:,} bytes, and at most {_LARGEST_FILE:,} are read")
    whole = 0
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), 1):
            if len(line) > _LONGEST_LINE:
                raise damaged(path, f"line {number} has more than {_LONGEST_LINE:,} bytes")
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict) or not isinstance(record.get("op_code"), int):
                raise damaged(path, f"line {number} is no record of a search")
            whole += len(line)
    if whole < size:
        os.truncate(path, whole)


def damaged(path: Path, what: str) -> ValueError:
    """The error of a journal that cannot be gone on with."""
    return ValueError(f"{path} is damaged: {what}; restore the file, or begin anew with --overwrite or another --out")
