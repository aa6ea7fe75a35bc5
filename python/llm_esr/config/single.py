"""Single settings by their plain name, such as `epochs=20`, laid over what a function was given as `config`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from llm_esr.config.read import describe_errors, in_our_words
from llm_esr.config.schema import Config
from llm_esr.config.sections.section import Section
from llm_esr.config.synonyms import meant_by

_S = TypeVar("_S", bound=Section)


def section_with(kind: type[_S], config: _S | None, settings: Mapping[str, Any], function: str) -> _S:
    """A section with single settings on top.

    Args:
        kind: the section.
        config: what lies below; None: the defaults.
        settings: by field name.
        function: who asks, for the message.

    Raises:
        ValueError: an unknown name (the nearest is suggested) or a value that does not fit.

    """
    for name in settings:
        if name not in kind.model_fields:
            near = _near(name, kind.model_fields, cutoff=0.5)
            hint = f"; did you mean '{near}'?" if near else f"; known: {', '.join(kind.model_fields)}"
            raise ValueError(f"{function} has no setting '{name}'{hint}")
    if config is not None and not isinstance(config, kind):
        said = (
            f"{kind.__name__} or None; single settings go by their names, such as {next(iter(kind.model_fields))}=..."
        )
        raise ValueError(f"{function}: config is a {type(config).__name__}; expected {said}")
    # Only what was set: whether a column was named or is a default decides what its absence means.
    values = config.model_dump(exclude_unset=True) if config is not None else {}
    try:
        return kind.model_validate({**values, **settings})
    except ValidationError as error:
        parts = ((".".join(map(str, e["loc"])), in_our_words(e["msg"]), e.get("input")) for e in error.errors())
        raise ValueError("; ".join(f"{name}: {words} (got {came!r})" for name, words, came in parts)) from None


def config_with(config: Config, settings: Mapping[str, Any], sections: tuple[str, ...]) -> Config:
    """A configuration with single settings on top, each found in the first of `sections` that has its name.

    Raises:
        ValueError: an unknown name (the nearest is suggested) or a value that does not fit.

    """
    values = config.model_dump()
    fields = {section: type(getattr(config, section)).model_fields for section in sections}
    for name, value in settings.items():
        section = next((section for section in sections if name in fields[section]), None)
        if section is None:
            near = _near(name, [n for names in fields.values() for n in names])
            raise ValueError(f"unknown setting '{name}'" + (f"; did you mean '{near}'?" if near else ""))
        values[section][name] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError(describe_errors(error)) from None


def _near(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The setting among these that a wrong name means: by what it is called elsewhere, or by its letters."""
    keys = list(known)
    meant = (meant_by(name) or "").rpartition(".")[2]
    return meant if meant in keys else next(iter(difflib.get_close_matches(name, keys, n=1, cutoff=cutoff)), None)
