"""`tune`: trainings with settings from a search space, the best of which becomes a preset file.

OUT/study.jsonl         every trial and figure, as it happened (`journal.py`)
OUT/tune.json           what is searched: a search goes on only as it began
OUT/models/trial-N/     the best trial's model; the others' are taken away
OUT/best.yaml           its settings
OUT/tune.html           plots and table
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from llm_esr.config import Config, load_config
from llm_esr.config.search_space import SearchSpace, read_space, settled
from llm_esr.data import Dataset
from llm_esr.doors import door
from llm_esr.evaluation import early_stopping_users
from llm_esr.files import FORMAT, given_path, is_there, printable, read_record, write_json
from llm_esr.files.lock import LOCK, lock_folder
from llm_esr.pipeline.grid import what_is_missing
from llm_esr.pipeline.search.figure import Figure
from llm_esr.pipeline.search.journal import JOURNAL, open_study, quiet, refuse_without_optuna
from llm_esr.pipeline.search.page import PAGE_NAME, write_page
from llm_esr.pipeline.search.result import PRESET, TrialResult, Tuning, best_of, short, write_preset
from llm_esr.pipeline.search.trials import (
    PRUNERS,
    Measure,
    UnpromisingError,
    Watcher,
    counted,
    finish,
    next_trial,
    refuse_other_trials,
    results,
    settings_of,
)
from llm_esr.scoring import NetworkScorer
from llm_esr.semantics.vector_files import stored_checksum
from llm_esr.training import train

if TYPE_CHECKING:
    import optuna

    from llm_esr.serving import Recommender
    from llm_esr.training.trainer import EpochReport, Trainer

RECORD = "tune.json"
# What trials read beside the interactions: with others, their figures are not to be compared.
_READ = ("item_embeddings", "similar_users", "similar_items")
_TRIAL = "trial-"
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Search:
    """What all trials have in common."""

    data: Dataset
    model: str
    base: Config
    space: SearchSpace
    figure: Figure
    folder: Path
    seed: int

    @property
    def about(self) -> dict[str, Any]:
        """What a search is: it goes on only where all of this is as it was."""
        return {
            "data": self.data.fingerprint,
            "vectors": {
                name: stored_checksum(self.data.folder, name)
                for name in _READ
                if is_there(self.data.folder / f"{name}.npy")
            },
            "space": {name: repr(part) for name, part in self.space.items()},
            "maximize": str(self.figure),
            "seed": self.seed,
            "settings": self.base.model_dump(mode="json", exclude={"runtime", "checkpoint"}),
        }

    def config_of(self, settings: Mapping[str, Any]) -> Config:
        return settled(self.base, {"train.seed": self.seed} | dict(settings))

    def model_folder(self, number: int) -> Path:
        return self.folder / "models" / f"{_TRIAL}{number}" / str(self.seed)


@door
def tune(
    data: Dataset | str | Path,
    space: str | Path | Mapping[str, Any],
    *,
    out: str | Path,
    trials: int = 20,
    model: str | Path = "llm-esr",
    maximize: str = "ndcg@10",
    pruner: str = "median",
    seed: int = 42,
    overrides: Sequence[str] = (),
    keep_all: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    say: Say | None = None,
) -> Tuning:
    """Search for settings: train with some, judge on validation, let the next ones follow from what was found.

    The test part is never looked at. A search that was stopped or killed goes on where it stood, the training it was in
    included; the same data, space and seed give the same trials.

    Args:
        data: a `Dataset` or its folder, with vectors and neighbours where the model reads them; all trials share it.
        space: a YAML file, or its mapping: `section.key` to `{low, high, step, log}` or to a list of choices.
        out: the search's folder.
        trials: how many there are in all, those of an earlier call included.
        model: a preset or YAML file, which the trials' settings are laid over.
        maximize: a metric (`ndcg@10`, `hr@20`, `mrr@10`), a group (`tail_item`) or both (`tail_item.hr@20`).
        pruner: what stops unpromising trials: `median`, `hyperband` or `none`.
        seed: of the trials' settings and of every training.
        overrides: `section.key=value` strings over the model, for all trials.
        keep_all: keep every trial's folder; False: only the best one's.
        overwrite: begin anew where another search lies.
        progress: show a line a trial.
        say: takes the lines in place of the terminal.

    Returns:
        The trials, the best one and its preset file.

    Raises:
        ValueError: a space, settings or figure that do not fit, another search in `out`, no trial that could be
            trained, or a damaged file.
        FileNotFoundError: a file or folder that is not there.
        ImportError: optuna is not installed (extra `tune`).
    """
    refuse_without_optuna()
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"trials (--trials): expected a whole number from 1, got {trials!r}")
    if pruner not in PRUNERS:
        raise ValueError(f"pruner (--pruner): expected {', '.join(PRUNERS)}, got {pruner!r}")
    figure = Figure.parse(maximize)
    base = load_config(model, overrides)
    if base.train.seed != seed and any(one.partition("=")[0].strip() == "train.seed" for one in overrides):
        raise ValueError(f"train.seed={base.train.seed} (--set): a search has one seed for all; give --seed instead")
    base = settled(base, {"train.seed": seed})
    searched = read_space(space, base)
    folder = given_path(out)
    opened = data if isinstance(data, Dataset) else Dataset.open(data)
    if base.needs_vectors and opened.item_embeddings is None:
        raise ValueError(f"{model} reads item vectors, and {opened.folder} has none. {what_is_missing()}")
    figure.refuse_where_absent(opened, base)
    search = _Search(opened, str(model), base, searched, figure, folder, seed)
    _refuse_foreign(folder)
    console = Console(stderr=True)
    tell = say or (_printer(console) if progress else lambda line: None)
    with lock_folder(folder, "searched"), quiet():
        study = _open(search, PRUNERS[pruner](base.train.epochs), overwrite=overwrite)
        _take_away(search, study, keep_all=keep_all)
        shown = console if progress and say is None else None
        while len(counted(study, searched)) < trials:
            _run_trial(search, study, trials, tell, shown)
            _take_away(search, study, keep_all=keep_all)
            _note_best(search, study)
        return _conclude(search, study, tell)


def _run_trial(search: _Search, study: optuna.Study, trials: int, tell: Say, shown: Console | None) -> None:
    """One training from its settings to its figure, written down whatever comes of it."""
    began = time.monotonic()
    trial = next_trial(study, search.space, search.seed)
    place, settings = len(counted(study, search.space)) + 1, settings_of(trial, search.space)
    known = dict(study.get_trials(deepcopy=False)[trial.number].intermediate_values)
    value: float | None = None
    why = ""
    title = f"trial {place}/{trials}"
    status = None if shown is None else shown.status(title)
    if status is not None:
        status.start()
    try:
        watcher = Watcher(
            trial, known, search.model_folder(trial.number + 1), _measure(search),
            lambda epoch, found: None if status is None else status.update(f"{title}, epoch {epoch}: {found:.4f}"),
        )  # fmt: skip
        model = _train(search, settings, trial.number + 1, watcher)
        value, state = search.figure.of(model, search.data, model.config), "complete"
    except UnpromisingError as stopped:
        state, why = "pruned", str(stopped)
    except (ValueError, MemoryError, torch.OutOfMemoryError) as error:
        # Settings that do not fit each other, diverge or do not fit the memory; the next ones may.
        state, why = "failed", " ".join(str(error).split()) or type(error).__name__
    finally:
        if status is not None:
            status.stop()
    finish(study, trial, value, state, why)
    best = best_of(results(study, search.space))
    tried = ", ".join(f"{name}={short(value)}" for name, value in settings.items())
    came = f"{value:.4f}" if value is not None else f"{state}: {why}"
    stands = "" if best is None or best.value is None else f" (best {best.value:.4f}, trial {best.number})"
    tell(f"{title}  {came}{stands}  {tried}  ({time.monotonic() - began:.0f} s)")


def _train(search: _Search, settings: Mapping[str, Any], number: int, watcher: Watcher) -> Recommender:
    config = search.config_of(settings)
    name = f"{_TRIAL}{number}"
    return train(
        search.data, config=config, name=name, out=search.model_folder(number), callbacks=[watcher], progress=False
    )


def _measure(search: _Search) -> Measure:
    """The figure after an epoch, of the weights that would be taken; the usual one is what a training knows."""
    if search.figure.stops_trainings:
        return lambda trainer, report: report.validation or 0.0

    def measure(trainer: Trainer, report: EpochReport) -> float:
        network: Any = trainer.model if trainer.averaged is None else trainer.averaged.model
        users = early_stopping_users(search.data, "validation", search.base.train.validation_users)
        was_training = network.training
        try:
            scorer = NetworkScorer(network, trainer.name, str(network.device))
            return search.figure.of(scorer, search.data, search.base, users)
        finally:
            network.train(was_training)

    return measure


def _conclude(search: _Search, study: optuna.Study, tell: Say) -> Tuning:
    found = results(study, search.space)
    if best_of(found) is None:
        raise ValueError(f"no trial of {search.folder} could be finished; the last one: {found[-1].why or 'pruned'}")
    preset = _note_best(search, study)
    assert preset is not None
    page = write_page(search.folder, study, search.figure.in_words, found)
    if page is None:
        tell("no plots: they need matplotlib, pip install 'llm-esr[tune]'")
    return Tuning(search.folder, search.figure.in_words, found, preset, page)


def _note_best(search: _Search, study: optuna.Study) -> Path | None:
    """Keep the best trial's settings as a preset file: a search that is killed has one, too."""
    best = best_of(results(study, search.space))
    if best is None:
        return None
    config = search.config_of(best.settings)
    return write_preset(search.folder, search.model, config, best, search.figure.in_words)


def _take_away(search: _Search, study: optuna.Study, *, keep_all: bool) -> None:
    """Remove the folders of trials that are over and are not the best."""
    if keep_all:
        return
    over: list[TrialResult] = results(study, search.space)
    best = best_of(over)
    for one in over:
        if one is not best:
            shutil.rmtree(search.model_folder(one.number).parent, ignore_errors=True)


def _open(search: _Search, pruner: optuna.pruners.BasePruner, *, overwrite: bool) -> optuna.Study:
    """The folder's study; where it may be overwritten, another search and a damaged one make room for a new one."""
    try:
        if is_there(search.folder / RECORD) and (changed := _difference(search)) is not None:
            raise ValueError(
                f"out (--out): {search.folder} holds another search: {changed}. Name another folder to keep both, or "
                "begin anew with --overwrite"
            )
        if is_there(search.folder / RECORD):
            study = open_study(search.folder, pruner)
            refuse_other_trials(study, search.space, search.folder / JOURNAL)
            return study
    except ValueError:
        if not overwrite:
            raise
    _clear(search.folder)
    write_json(search.folder / RECORD, {"format": FORMAT, **search.about})
    return open_study(search.folder, pruner)


def _difference(search: _Search) -> str | None:
    """In what the search in the folder is another one, in words."""
    record = read_record(search.folder / RECORD, "format", *search.about)
    now = search.about
    if record["data"] != now["data"]:
        return "its data were others"
    if record["vectors"] != now["vectors"]:
        return "the vectors or neighbours of its data were others (embed, index)"
    for part in ("settings", "space"):
        before, after = _flat(record[part]), _flat(now[part])
        name = next((name for name in {**before, **after} if before.get(name) != after.get(name)), None)
        if name is not None:
            return f"{name} was {before.get(name, 'not there')}, is {after.get(name, 'not there')}"
    name = next((name for name in ("maximize", "seed") if record[name] != now[name]), None)
    return None if name is None else f"{name} was {record[name]}, is {now[name]}"


def _flat(values: Any) -> dict[str, Any]:
    """Entries of sections by `section.key`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"out (--out): {folder} is a file; expected a folder for the search")
    if not is_there(folder / RECORD) and any(path.name != LOCK for path in folder.iterdir()):
        raise ValueError(f"out (--out): {folder} holds files that are no search; name a new or empty folder")


def _clear(folder: Path) -> None:
    """Take away what a search left, and nothing else."""
    for path in (folder / "models").glob(f"{_TRIAL}*"):
        if path.name.removeprefix(_TRIAL).isdigit():
            shutil.rmtree(path)
    for name in (RECORD, JOURNAL, PRESET, PAGE_NAME):
        (folder / name).unlink(missing_ok=True)


def _printer(console: Console) -> Say:
    return lambda line: console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
