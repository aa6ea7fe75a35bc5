"""Settings as they may be published: of this machine's files and folders no more than the last part of their path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_esr.config import Config


def public_settings(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as JSON; of files and folders on this machine the last part of their path."""
    values = config.model_dump(mode="json")
    for section, key in (("index", "model"), ("train", "start_from"), ("align", "anchor")):
        named = values[section][key]
        if named is not None and not named.startswith("preset:"):
            values[section][key] = Path(named).name
    encoder = values["embed"]["encoder"]
    if encoder is not None:
        values["embed"]["encoder"] = public_encoder(encoder)
    return values


def public_encoder(encoder: str) -> str:
    """An encoder's name without the path that a file or a model has on this machine."""
    kind, colon, name = encoder.partition(":")
    local = kind == "file" or Path(name).is_absolute() or name.startswith(("~", "."))
    return f"{kind}{colon}{Path(name).name}" if local else encoder
