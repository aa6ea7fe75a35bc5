"""`doctor`: what is installed and found here, and whether a folder's files are whole."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llm_esr.data.folder import TABLES
from llm_esr.doors import door
from llm_esr.files import checksum, given_path, read_record

_PACKAGES = ("torch", "numpy", "polars", "pydantic", "safetensors", "scikit-learn", "typer")
_ITSELF = "llm-esr"
_DEVELOPMENT = "dev"  # an extra for who works on the package


@dataclass(frozen=True)
class Finding:
    """One line of what the doctor found."""

    name: str
    said: str
    bad: bool = False

    def __str__(self) -> str:
        """`ok` or `BAD`, the name, what was found."""
        return f"{'BAD ' if self.bad else 'ok  '} {self.name:<22} {self.said}"


@door
def doctor(folder: str | Path | None = None) -> list[Finding]:
    """Look at the installation and, where one is given, at a run, data or model folder.

    Args:
        folder: its files are read whole and compared with the checksums in their JSON.

    Returns:
        Findings; `bad` ones need care.

    Raises:
        FileNotFoundError: the folder does not exist or is none of ours.
    """
    findings = list(_installation())
    if folder is not None:
        findings += _folder(given_path(folder))
    return findings


def _installation() -> Iterator[Finding]:
    import torch  # noqa: PLC0415 (slow to import)

    from llm_esr import __version__, _native  # noqa: PLC0415

    yield Finding("llm-esr", f"{__version__}, native module {_native.__version__}", __version__ != _native.__version__)
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in _PACKAGES:
        yield Finding(package, importlib.metadata.version(package))
    for package, extra in _extras().items():
        try:
            yield Finding(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, f"not installed; pip install 'llm-esr[{extra}]' brings it")
    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name()})"
    else:
        device = "mps" if torch.backends.mps.is_available() else "cpu"
    yield Finding("device", f"{device}; torch uses {torch.get_num_threads()} of {os.cpu_count()} cores")


def _extras() -> dict[str, str]:
    """The packages that extras bring, each with the first extra that does, as the installed package states them."""
    try:
        lines = importlib.metadata.requires(_ITSELF) or []
    except importlib.metadata.PackageNotFoundError:
        return {}  # read from its sources, without an installation
    found: dict[str, str] = {}
    for line in lines:
        package = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", line)
        if package and extra and extra[1] != _DEVELOPMENT and package[0] != _ITSELF:
            found.setdefault(package[0], extra[1])
    return found


def _folder(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    data_folders = [
        path.parent for path in (folder / "dataset.json", folder / "data" / "dataset.json") if path.exists()
    ]
    patterns = ("model.json", "models/*/model.json", "models/*/*/model.json")
    model_files = [path for pattern in patterns for path in folder.glob(pattern)]
    if not data_folders and not model_files:
        raise FileNotFoundError(f"{folder} is no run, data or model folder: it holds no dataset.json and no model.json")
    for data_folder in data_folders:
        yield from _data_folder(data_folder)
    for path in sorted(model_files):
        yield from _model_folder(path)


def _data_folder(folder: Path) -> Iterator[Finding]:
    from llm_esr.data import Dataset  # noqa: PLC0415 (brings polars)
    from llm_esr.retrieval import scores_match  # noqa: PLC0415

    try:
        data = Dataset.open(folder)
    except (ValueError, OSError) as error:
        yield Finding(str(folder), str(error), bad=True)
        return
    yield Finding(str(folder), f"{data.n_users:,} users, {data.n_items:,} items, {data.n_interactions:,} interactions")
    for path in sorted(_below(folder, "*.json")):
        try:
            read_record(path)
        except (ValueError, OSError) as error:
            yield Finding(str(path), str(error), bad=True)
    for name, promised in sorted(_promised_checksums(folder).items()):
        path = folder / name
        if not path.exists():
            yield Finding(str(path), "is missing; make the stage again", bad=True)
        elif checksum(path) != promised:
            remedy = f"delete {path.parent}" if path.parent.name == TABLES else "make the stage again"
            yield Finding(str(path), f"differs from its checksum: damaged or replaced; {remedy}", bad=True)
        else:
            yield Finding(str(path), "whole")
    if (folder / "similar_users.npy").exists() and not scores_match(data):
        where = str(folder / "similar_users_scores.npy")
        yield Finding(where, "holds cosines of other similar users; run `llm-esr index` again", bad=True)


def _below(folder: Path, pattern: str) -> list[Path]:
    """Files of a data folder and of the tables in it."""
    return [*folder.glob(pattern), *(folder / TABLES).glob(pattern)]


def _promised_checksums(folder: Path) -> dict[str, str]:
    """File name -> checksum, as `dataset.json` and the JSON beside each later array say."""
    promised: dict[str, str] = dict(read_record(folder / "dataset.json", "files")["files"])
    for path in _below(folder, "*.npy"):
        beside, name = path.with_suffix(".json"), str(path.relative_to(folder))
        if name not in promised and beside.exists():
            with suppress(ValueError, OSError):  # named already
                promised[name] = read_record(beside, "checksum")["checksum"]
    return promised


def _model_folder(path: Path) -> Iterator[Finding]:
    from llm_esr.serving import Recommender  # noqa: PLC0415 (brings torch)

    folder = path.parent
    try:
        record = read_record(path)
        if not record.get("finished"):
            yield Finding(str(folder), "training not finished; the same `train` or `run` goes on with it")
            return
        model = Recommender.load(folder)
    except (ValueError, OSError) as error:
        yield Finding(str(folder), str(error), bad=True)
        return
    made = "nothing to train" if model.seed is None else f"seed {model.seed}, {record['epochs']} epochs"
    choice = f"; {record['choice']}" if record.get("choice") else ""
    yield Finding(str(folder), f"{model.name}, {made}; loads{choice}")
