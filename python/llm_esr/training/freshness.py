"""Whether a model folder holds what a training would make: what it is made from, and its key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_esr.config import STAGES, Config
from llm_esr.files import FORMAT, key_of, read_record
from llm_esr.models.storage import weights_checksum
from llm_esr.retrieval import neighbours_match
from llm_esr.training.loss_choice import settle_loss
from llm_esr.training.other_models import refuse_own_folder, trained_folder, waits_for
from llm_esr.training.plan import check_plan
from llm_esr.training.teachers import teacher_cosines
from llm_esr.training.unfinished import LIMITS, ends_earlier, has_unfinished, trained_so_far, without_limits

if TYPE_CHECKING:
    from llm_esr.data import Dataset


def made_from_of(data: Dataset, config: Config, folder: Path) -> dict[str, Any]:
    """What a training that goes to `folder` is made from, as JSON: its sections and the checksums of what it reads.

    Raises:
        FileNotFoundError: files that the settings need.
        ValueError: similar users and items of other vectors than the data set holds.

    """
    config = settle_loss(config, data.n_items)
    made: dict[str, Any] = {"format": FORMAT, "data": data.fingerprint}
    made |= {section: getattr(config, section).model_dump(mode="json") for section in STAGES["train"]}
    if config.model.reads_vectors or config.model.collaborative_init == "pca":
        made["item_embeddings"] = _checksum(data, "item_embeddings", "embed")
    if config.model.starts_from_vectors and config.model.collaborative_init == "stored":
        made["pca_items"] = _checksum(data, "pca_items", "convert")
    reads_items = config.smoothing.probability > 0 or config.model.borrow > 0
    if (config.distill.weight or reads_items) and not neighbours_match(data):
        raise ValueError(
            f"the similar users and items of {data.folder} were found with other vectors than it holds now; "
            "run `llm-esr index` again"
        )
    for setting, value in config.other_models.items():
        section, _, field = setting.partition(".")
        # By its weights: a model that was moved is the same one.
        made[section][field] = weights_checksum(trained_folder(setting, value, folder, config.train.seed))
    if config.distill.weight:
        made["similar_users"] = _checksum(data, "similar_users", "index")
        if config.distill.teacher_weights == "similarity":
            teacher_cosines(data)  # refused before anything is trained
            made["similar_users_scores"] = _checksum(data, "similar_users_scores", "index")
    if reads_items:
        made["similar_items"] = _checksum(data, "similar_items", "index")
    return _without_unread(made)


def is_finished(data: Dataset, config: Config, folder: Path, *, overwrite: bool = False) -> bool:
    """Whether `folder` holds the finished model of this configuration and data.

    Raises:
        ValueError: it holds a finished model of other settings, and `overwrite` is not given.
            Or a training that the machine's memory cannot hold.
        FileNotFoundError: files that the settings need.
    """
    refuse_own_folder(config, folder)
    fresh = not waits_for(config, folder) and is_fresh(folder, made_from_of(data, config, folder), overwrite)
    if not fresh:
        check_plan(data, config)
    return fresh


def with_limits_as_trained(data: Dataset, config: Config, folder: Path) -> Config:
    """The configuration with `train.epochs` and `train.patience` of the finished model in `folder`.

    Only where nothing else differs: such a model made the steps that are asked for, and ended elsewhere. A model that
    others start from need not be trained anew because theirs is to be a short training.
    """
    path = folder / "model.json"
    if not path.exists() or waits_for(config, folder):
        return config
    record = read_record(path)
    before = _with_defaults(record.get("made_from"))
    now = made_from_of(data, config, folder)
    if not record.get("finished") or not isinstance(before, dict) or without_limits(before) != without_limits(now):
        return config
    limits = {name: before["train"][name] for name in LIMITS}
    return config.model_copy(update={"train": config.train.model_copy(update=limits)})


def is_fresh(folder: Path, made_from: dict[str, Any], overwrite: bool, *, resume: bool = True) -> bool:
    """Whether `folder` holds the finished model that is made from this; see `is_finished`."""
    if not (folder / "model.json").exists():
        return False
    record = read_record(folder / "model.json")
    before = _with_defaults(record.get("made_from"))
    same = key_of(made_from) in (record.get("key"), key_of(before))
    if record.get("finished") and same:
        return True
    if overwrite:
        return False
    if record.get("finished"):
        raise ValueError(
            f"{folder} holds a finished model made with other settings: "
            f"{_first_difference(before, made_from)}. Give --overwrite to replace it, "
            "or another name or output folder to keep both"
        )
    if resume and not same and has_unfinished(folder):
        _refuse_other_training(folder, before, made_from)
    return False


def _refuse_other_training(folder: Path, before: Any, now: dict[str, Any]) -> None:
    """Raise where an unfinished training cannot go on as what is asked for now; its epochs would be lost."""
    steps = without_limits(before) if isinstance(before, dict) else before
    if steps == without_limits(now):
        refused = ends_earlier(folder, now["train"])
        if refused is not None:
            raise ValueError(refused)
        return
    raise ValueError(
        f"{folder} holds an unfinished training ({trained_so_far(folder)}) made with other settings: "
        f"{_first_difference(steps, without_limits(now))}. Give --overwrite to train anew, the setting as it was to go "
        "on, or another name or output folder to keep both"
    )


def key_in(folder: Path, made_from: dict[str, Any]) -> str:
    """The key of a training that is made from this, as a record in `folder` that means the same has it."""
    path = folder / "model.json"
    before = read_record(path) if path.exists() else {}
    same = key_of(_with_defaults(before.get("made_from"))) == key_of(made_from)
    return str(before["key"]) if same and "key" in before else key_of(made_from)


def continued_keys(folder: Path, made_from: dict[str, Any]) -> list[str]:
    """The keys under which the unfinished training in `folder` was begun, where only its limits differ from these."""
    path = folder / "model.json"
    before = read_record(path) if path.exists() else {}
    if before.get("finished", True) or not isinstance(before.get("made_from"), dict):
        return []
    same = without_limits(_with_defaults(before["made_from"])) == without_limits(made_from)
    if not same or ends_earlier(folder, made_from["train"]):
        return []
    return list(dict.fromkeys([str(before.get("key")), *map(str, before.get("continued_keys") or [])]))


def _with_defaults(made_from: Any) -> Any:
    """A record's sections with the defaults of settings that came after it: a new setting outdates no model."""
    if not isinstance(made_from, dict):
        return made_from
    defaults = {section: getattr(Config(), section).model_dump(mode="json") for section in STAGES["train"]}
    known = {section: made_from.get(section) or {} for section in defaults}
    return _without_unread(made_from | {section: values | known[section] for section, values in defaults.items()})


def _without_unread(made_from: dict[str, Any]) -> dict[str, Any]:
    """Sections that are switched off with their defaults: what a training does not read makes it no other one."""
    off = {"align": made_from["align"]["anchor"] is None, "transfer": not made_from["model"]["transfer"]}
    return made_from | {
        section: getattr(Config(), section).model_dump(mode="json") for section, unread in off.items() if unread
    }


def _first_difference(before: Any, now: Any, name: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(k for k in before if k not in now)]:
            if before.get(key) != now.get(key):
                return _first_difference(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    if isinstance(before, str) and len(before) == 64:
        return f"{name} (the data changed)"
    return f"{name} was {before!r}, is {now!r}"


def _checksum(data: Dataset, name: str, stage: str) -> str:
    path = data.folder / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{data.folder} has no {name}.npy, which this configuration reads; run `llm-esr {stage}` first, "
            "or train the id-only model with --config sasrec"
        )
    return str(read_record(path, "checksum")["checksum"])
