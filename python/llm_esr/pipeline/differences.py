"""The differences between a run's models, user by user, from the ranks that each evaluation leaves beside a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_esr.config import EvaluateConfig, load_config
from llm_esr.evaluation import read_rows
from llm_esr.evaluation.evaluate import protocol_name
from llm_esr.evaluation.groups import GroupCounts, make_groups, thresholds
from llm_esr.evaluation.paired import RankedUsers, is_difference, paired_rows
from llm_esr.evaluation.ranking import HeldOut, Ranks
from llm_esr.evaluation.table import MAIN_GROUPS
from llm_esr.files import FORMAT, verify_beside, write_json
from llm_esr.files.arrays import open_array
from llm_esr.files.lock import lock_record
from llm_esr.pipeline.run_folder import ModelId, RunFolder
from llm_esr.semantics.vector_files import write_vectors
from llm_esr.serving.judging import name_alone

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.evaluation import Report


def keep_ranks(folder: RunFolder, model: ModelId, report: Report) -> None:
    """Store where the targets stand under a model, int64 [3, U]: users, above, tied."""
    for ranked in report.ranked:
        if ranked.seed == model.seed and ranked.model in (model.name, name_alone(model.name)):
            array = np.stack([ranked.users, ranked.above, ranked.tied])
            path = _file(folder, model, ranked.model, ranked.split, ranked.protocol)
            write_vectors(path.parent, path.stem, array, {})


def differences(
    folder: RunFolder, data: Dataset, primary: str, config: EvaluateConfig, part: HeldOut = "test"
) -> list[dict[str, Any]]:
    """Rows of the primary model against each other one, and of its network alone against theirs.

    Over the seeds that both have, where their ranks are stored; in the groups that the primary model's figures have.
    """
    records = folder.finished()
    finished = sorted(records)
    protocol = protocol_name(config)
    max_len = _reads_at_most(folder, records, primary) if config.group_rule == "paper" else None

    def stored(name: str) -> dict[int | None, RankedUsers]:
        base = [model for model in finished if name in (model.name, name_alone(model.name))]
        found = ((model.seed, _read(folder, model, name, part, protocol)) for model in base)
        return {seed: ranked for seed, ranked in found if ranked is not None}

    def paired(one: str, other: str) -> tuple[dict[Any, RankedUsers], dict[Any, RankedUsers]]:
        """The ranks of two models by seed; what needs no training stands beside every seed of the other."""
        first, second = stored(one), stored(other)
        if None in first and None not in second:
            first = dict.fromkeys(second, first[None])
        elif None in second and None not in first:
            second = dict.fromkeys(first, second[None])
        return first, second

    rows: list[dict[str, Any]] = []
    for one, other in _pairs(primary, [model.name for model in finished]):
        first, second = paired(one, other)
        seeds = [seed for seed in first if seed in second]
        seeds = [seed for seed in seeds if np.array_equal(first[seed].users, first[seeds[0]].users)]
        seeds = [seed for seed in seeds if np.array_equal(second[seed].users, first[seeds[0]].users)]
        if not seeds:
            continue
        ranked = first[seeds[0]]
        rows += paired_rows(
            [first[seed] for seed in seeds],
            [second[seed] for seed in seeds],
            _groups(data, part, ranked, config, max_len),
            sorted(set(config.k)),
            ties=config.ties,
            resamples=config.resamples,
        )
    return rows


def replace_differences(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put these differences in place of those that `metrics.json` has."""
    with lock_record(path):
        kept = [row for row in read_rows(path) if not is_difference(row["model"])] if path.exists() else []
        write_json(path, {"format": FORMAT, "rows": kept + rows})


def _pairs(primary: str, names: list[str]) -> Iterator[tuple[str, str]]:
    for other in dict.fromkeys(names):
        if other != primary:
            yield primary, other
            yield name_alone(primary), other
            yield name_alone(primary), name_alone(other)


def _reads_at_most(folder: RunFolder, records: Mapping[ModelId, dict[str, Any]], name: str) -> int | None:
    """How many of a history's newest items a model reads, by its stored configuration; None: all of them."""
    trained = [model for model, record in records.items() if model.name == name and "scorer" not in record]
    return load_config(folder.model(min(trained)) / "config.yaml").model.max_len if trained else None


def _groups(
    data: Dataset, part: HeldOut, ranked: RankedUsers, config: EvaluateConfig, max_len: int | None
) -> list[Any]:
    """The main groups of `evaluate`; what they need of the ranks is who was ranked."""
    targets = np.asarray(data.targets(part))[ranked.users]
    nobody = np.zeros(len(targets), np.bool_)
    ranks = Ranks(ranked.users, targets, ranked.above, ranked.tied, nobody, None)
    counts = GroupCounts.of(data, part, config.group_rule, max_len)
    groups = make_groups(data, ranks, counts, thresholds(counts, config), config)
    return [group for group in groups if group.name in MAIN_GROUPS]


def _file(folder: RunFolder, model: ModelId, name: str, split: str, protocol: str) -> Path:
    alone = "-no-blend" if name != model.name else ""
    return folder.model(model) / f"ranks-{split}-{protocol}{alone}.npy"


def _read(folder: RunFolder, model: ModelId, name: str, split: str, protocol: str) -> RankedUsers | None:
    path = _file(folder, model, name, split, protocol)
    if not path.exists():
        return None
    verify_beside(path, "delete it and evaluate again")
    array = open_array(path, None, "delete it and evaluate again")
    if array.dtype != np.int64 or array.ndim != 2 or len(array) != 3:
        raise ValueError(f"{path} is damaged: int64 [3, U] was expected; delete it and evaluate again")
    return RankedUsers(name, model.seed, split, protocol, *array)
