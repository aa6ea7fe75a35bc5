"""`embed.tune`: an encoder tuned on the items' attributes, beside the vectors that it makes.

The tuned encoder is an ordinary sentence-transformers folder, `encoder/` in the data folder, with a record of what it
was made from and of figures before and after.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from llm_esr.config import EmbedConfig
from llm_esr.data import Dataset
from llm_esr.doors import warn
from llm_esr.files import FORMAT, atomic_folder, is_there, key_of, read_record, write_json
from llm_esr.semantics.attribute_views import item_attributes
from llm_esr.semantics.encoders import encoder_identity
from llm_esr.semantics.encoders.sentence_transformers import PREFIX, load_sentence_model, without_bars
from llm_esr.semantics.prompts import item_prompts
from llm_esr.semantics.tuning_acceptance import Trial, acceptance_lines, make_trial, stored

if TYPE_CHECKING:
    from llm_esr.semantics.tuning_levels import TunedEncoder

FOLDER = "encoder"
RECORD = "tuning.json"
_WORK = "tuning"  # checkpoints of a tuning that goes on
_NO_FALL = 0.95  # share of the figure before: a few hundred hits sway by chance


def tune_settings(config: EmbedConfig) -> dict[str, Any]:
    """The settings that the tuned encoder depends on, for keys."""
    return {name: value for name, value in config.model_dump(mode="json").items() if name.startswith("tune")}


def tuned_prompts(data: Dataset, config: EmbedConfig) -> list[str]:
    """The whole texts of the items as a tuned encoder reads them: none of their attributes is left out."""
    if config.tune_header is None:
        return item_prompts(data, config.item_template, config.max_characters)
    attributes = item_attributes(data, config.tune_attributes, config.tune_header)
    return [attributes.text(row)[: config.max_characters] for row in attributes.rows]


def check_base(data: Dataset, name: str) -> None:
    """Refuse an encoder that cannot be tuned.

    Raises:
        ValueError: one that is not of sentence-transformers, or the folder that the tuned one goes to.
    """
    if not name.startswith(PREFIX):
        raise ValueError(
            f"embed.tune attributes (--tune) tunes a sentence encoder, and the encoder is '{name}'; give --encoder "
            "sentence-transformers:NAME_OR_FOLDER"
        )
    if Path(name.removeprefix(PREFIX)).resolve() == (data.folder / FOLDER).resolve():
        raise ValueError(
            f"the encoder '{name}' is what tuning makes, and would be replaced by itself; give the encoder that it is "
            "to be tuned from, or copy the folder"
        )


def tune_encoder(data: Dataset, name: str, config: EmbedConfig, bars: Progress) -> str:
    """Tune an encoder on the items' attributes and save it in the data folder, unless a fresh one is there.

    Args:
        data: a data set with text columns.
        name: the encoder to start from, `sentence-transformers:NAME_OR_FOLDER`.
        config: the section `embed`.
        bars: where progress is shown.

    Returns:
        The tuned encoder's name.

    Raises:
        ValueError: too few attributes, or an encoder without the layers that are to be trained.
        ImportError: sentence-transformers, or peft for level lora, is not installed.
    """
    # Here, for they bring torch, which other encoders do without.
    from llm_esr.semantics.contrastive_tuning import train  # noqa: PLC0415
    from llm_esr.semantics.tuning_levels import make_level  # noqa: PLC0415

    folder = data.folder / FOLDER
    sources = {
        "data": data.fingerprint,
        "encoder": encoder_identity(name),
        "settings": tune_settings(config) | {"item_template": config.item_template},
    }
    key = key_of({"stage": "tune", "format": FORMAT, **sources})
    if tuned_fresh(folder, key):
        return f"{PREFIX}{folder}"
    attributes = item_attributes(data, config.tune_attributes, config.tune_header)
    model = load_sentence_model(name.removeprefix(PREFIX), None if config.device == "auto" else config.device)
    bar = bars.add_task("texts for tuning", total=None)
    level = make_level(model, attributes, config, lambda count: bars.advance(bar, count))
    trial = make_trial(data, tuned_prompts(data, config), attributes, config)
    work = data.folder / _WORK / key[:16]
    before = _figures_before(level, trial, work, bars)
    train(level, attributes, config, work, bars)
    level.finish()
    after = _figures(level, trial, bars, "figures after tuning")
    record = {
        "format": FORMAT,
        "key": key,
        "encoder": name,
        "made_from": sources,
        "attributes": attributes.separators,
        "items": len(attributes.trained),
        "before": before,
        "after": after,
    }
    with atomic_folder(folder) as made:
        with without_bars():
            level.model.save(str(made), create_model_card=False)
        write_json(made / RECORD, record)
    shutil.rmtree(data.folder / _WORK, ignore_errors=True)
    return f"{PREFIX}{folder}"


def tuned_fresh(folder: Path, key: str) -> bool:
    """Whether a folder holds the tuned encoder of this key."""
    try:
        return bool(read_record(folder / RECORD, "key")["key"] == key)
    except (ValueError, OSError):
        return False


def tuning_lines(folder: Path) -> list[str]:
    """What the terminal says of the tuned encoder in a data folder; nothing where it was taken away."""
    if not is_there(folder / FOLDER / RECORD):
        return []
    record = read_record(folder / FOLDER / RECORD, "attributes", "items", "before", "after")
    columns = ", ".join(
        name if separator is None else f"{name} (at '{separator.strip()}')"
        for name, separator in record["attributes"].items()
    )
    lines = [f"tuned on {record['items']:,} items by {columns} -> {folder / FOLDER}"]
    return lines + acceptance_lines(record["before"], record["after"])


def warn_if_worse(folder: Path) -> None:
    """Say so where texts tell less than before which items are met together."""
    record = read_record(folder / FOLDER / RECORD, "before", "after")
    for name, of in (("near", "items"), ("near_tail", "tail items")):
        before, after = record["before"].get(name), record["after"].get(name)
        if before is not None and after is not None and after < _NO_FALL * before:
            warn(
                f"tuning made the vectors of {of} worse: the item met next is less often among the 10 nearest "
                f"({before:.4f} -> {after:.4f}); the encoder as it was may serve better: leave embed.tune out, or try "
                "another embed.tune_level, a smaller embed.tune_learning_rate or another embed.tune_drop_ratio"
            )
            return


def _figures_before(level: TunedEncoder, trial: Trial, work: Path, bars: Progress) -> dict[str, float | None]:
    """The figures of the encoder as it was; kept beside the checkpoints, for they take as long as those after."""
    path = work / "before.json"
    try:
        return dict(read_record(path, "figures")["figures"])
    except (ValueError, OSError):
        figures = _figures(level, trial, bars, "figures before tuning")
        write_json(path, {"figures": figures})
        return figures


def _figures(level: TunedEncoder, trial: Trial, bars: Progress, what: str) -> dict[str, float | None]:
    bar = bars.add_task(what, total=len(trial.texts))
    return stored(trial.judge(lambda texts: level.encode(texts, lambda count: bars.advance(bar, count))))
