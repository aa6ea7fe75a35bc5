"""Figures of models that are there already: `llm-esr evaluate`, and the table of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from llm_esr.config import load_config
from llm_esr.config.layers import as_overrides
from llm_esr.config.parts import POPULARITY
from llm_esr.doors import door, warn
from llm_esr.evaluation import Report, evaluate_popularity, merge_rows, read_rows, render
from llm_esr.files import atomic_file, atomic_path, given_path, printable, read_record
from llm_esr.files.parquet import write_parquet
from llm_esr.loading.staging import best_device
from llm_esr.pipeline.differences import keep_ranks
from llm_esr.pipeline.run_folder import ModelId, RunFolder
from llm_esr.serving import Recommender
from llm_esr.serving.judging import judge
from llm_esr.world import open_world


def write_tables(folder: RunFolder) -> list[dict[str, Any]]:
    """Make `tables.md` from `metrics.json`, whose rows are returned."""
    rows = read_rows(folder.metrics)
    with atomic_file(folder.tables, "w") as file:
        file.write(render(rows, "markdown", notes=vector_notes(folder)).rstrip() + "\n")
    return rows


def vector_notes(folder: RunFolder) -> list[str]:
    """Which encoder made the item vectors of a run's data, a line for the foot of its tables; or none."""
    record = folder.data / "item_embeddings.json"
    encoder = read_record(record).get("encoder") if record.exists() else None
    return [] if encoder is None else [f"item vectors by {printable(encoder)}"]


@door
def evaluate_folder(
    path: str | Path,
    *,
    part: Literal["validation", "test"] = "test",
    name: str | None = None,
    seed: int | None = None,
    changes: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    blend: bool = True,
    ranks: str | Path | None = None,
) -> Report:
    """Evaluate a model folder, or the models of a run, beside popularity; a run keeps the figures.

    Processes that `torchrun` started, all of which call this, share the users; rank 0 writes.

    Args:
        path: a run folder or a model folder.
        part: `test` or `validation`.
        name: only models of this name.
        seed: only models of this seed.
        changes: settings of the section `evaluate` in place of those of the training.
        overrides: `evaluate.key=value` strings, on top.
        blend: judge blends, too; False: networks alone.
        ranks: a Parquet file for where each user's target stands under each model (`Report.ranks`); None: none.

    Raises:
        FileNotFoundError: neither a run nor a model, or none that is finished.
        ValueError: settings that do not fit, or a data set without that part.
        RankFailedError: another of several processes failed.
    """
    with open_world() as world:
        if ranks is not None and Path(ranks).suffix != ".parquet":
            raise ValueError(f"--ranks {ranks}: ranks are written as Parquet; give a name that ends in .parquet")
        path = given_path(path)
        if (path / "model.json").exists():
            run = _run_of(path)
            folders = [path]
        else:
            run = RunFolder(path)
            folders = [run.model(model) for model in chosen_models(run, name, seed)]
        changed = [*as_overrides({"evaluate": changes or {}}), *overrides]
        rows: list[dict[str, Any]] = []
        reports: dict[ModelId, Report] = {}
        frames: list[pl.DataFrame] = []
        judged: set[tuple[str, str]] = set()
        for folder in folders:
            has_network = "scorer" not in read_record(folder / "model.json")
            if not blend and not has_network and len(folders) > 1:
                continue  # networks alone were asked for
            device = world.device(best_device()) if world.several else "auto"
            model = Recommender.load(folder, blend=blend or not has_network, extensions=False, device=device)
            config = load_config(folder / "config.yaml", changed).evaluate
            data = model.data
            world.agree(
                {"data set": data.fingerprint, "settings": config.model_dump_json(), "model": str(folder.resolve())}
            )
            setting = (data.fingerprint, config.model_dump_json())
            if setting not in judged:
                judged.add(setting)
                baseline = evaluate_popularity(data, config, part=part, shared_by=world)
                rows += baseline.rows
                frames += [] if ranks is None else [baseline.ranks(data)]
            if model.name == POPULARITY:
                continue  # it is in the table already
            report = judge(model, data, config, part=part, shared_by=world)
            rows += report.rows
            frames += [] if ranks is None else [report.ranks(data)]
            reports[ModelId(model.name, model.seed)] = report
        if run is not None and world.is_first:
            try:
                _keep(run, rows, reports)
            except OSError as error:
                # The figures are there, and may have taken an hour.
                warn(f"the figures are shown and not kept: {error}; keep them with a run folder that can be written")
        if ranks is not None and world.is_first:
            with atomic_path(given_path(ranks)) as target:
                write_parquet(pl.concat(frames), target)
        return Report(rows)


def _keep(run: RunFolder, rows: list[dict[str, Any]], reports: Mapping[ModelId, Report]) -> None:
    merge_rows(run.metrics, rows)
    for cell, report in reports.items():
        keep_ranks(run, cell, report)
    # Other thresholds may stand in the file now; the next `run` looks again.
    run.forget_evaluated([POPULARITY, *map(str, reports)])
    write_tables(run)


def _run_of(model: Path) -> RunFolder | None:
    """The run that a model folder, `models/<name>/<seed>` or `models/<name>`, belongs to."""
    above = list(model.resolve().parents)[1:3]
    return next((RunFolder(root) for root in above if (root / "run.json").exists()), None)


def chosen_models(run: RunFolder, name: str | None, seed: int | None) -> list[ModelId]:
    """The finished models of a run, of one name or seed where these are given.

    Raises:
        FileNotFoundError: there is none.
    """
    finished = sorted(run.finished())
    if not finished:
        raise FileNotFoundError(f"{run.path} holds no finished model; train one with `llm-esr run` or `llm-esr train`")
    chosen = [m for m in finished if name in (None, m.name) and seed in (None, m.seed)]
    if not chosen:
        wanted = " ".join(str(part) for part in (name, None if seed is None else f"of seed {seed}") if part)
        raise FileNotFoundError(f"{run.path} has no model {wanted}; it has: {', '.join(map(str, finished))}")
    return chosen
