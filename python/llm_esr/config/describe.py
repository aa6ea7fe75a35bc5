"""Every setting in words: what `llm-esr config` lists, and docs/settings.md is made from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from llm_esr.config.parts import KnownNames
from llm_esr.config.read import load_config, preset_names
from llm_esr.config.schema import STAGES, Config
from llm_esr.config.sections.section import Section
from llm_esr.config.synonyms import meant_by
from llm_esr.config.yaml_text import yaml_of

_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}
_BOUNDS = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        section: the section that it stands in.
        key: its name there.
        default: its value where nobody says another: that of the preset `llm-esr`.
        bare: its value in a file that builds on no preset.
        allowed: which values it takes, in words.
        meaning: what it does.
    """

    section: str
    key: str
    default: Any
    bare: Any
    allowed: str
    meaning: str

    @property
    def name(self) -> str:
        """`section.key`, as `--set` takes it."""
        return f"{self.section}.{self.key}"


def section_names() -> list[str]:
    """The sections of a configuration, in their order."""
    return list(Config.model_fields)


def section_meaning(section: str) -> str:
    """What a section is about, in a line."""
    return " ".join((_section(section).__doc__ or "").split("\n\n")[0].split())


def settings_of(section: str) -> list[Setting]:
    """The settings of a section, in their order."""
    usual = getattr(load_config(), section)
    return [
        Setting(
            section,
            key,
            getattr(usual, key),
            field.get_default(call_default_factory=True),
            _allowed(field.annotation, field.metadata),
            " ".join((field.description or "").split()),
        )
        for key, field in _section(section).model_fields.items()
    ]


def find_settings(name: str) -> list[Setting]:
    """The settings that a name means: a section's, or one as `section.key` or as `key`.

    Raises:
        ValueError: no section and no setting; the nearest is suggested.
    """
    if name in section_names():
        return settings_of(name)
    found = [setting for setting in _all() if name in (setting.name, setting.key)]
    if found:
        return found
    near = meant_by(name) or next(iter(difflib.get_close_matches(name, [s.name for s in _all()], n=1)), None)
    key = next(iter(difflib.get_close_matches(name, [s.key for s in _all()], n=1)), None)
    suggested = near or key
    hint = f"; did you mean '{suggested}'?" if suggested else f"; sections are: {', '.join(section_names())}"
    raise ValueError(f"no setting '{name}'{hint}")


def value_in_words(value: Any) -> str:
    """A value as `--set` takes it: `true`, `null`, `[5, 10]`."""
    if isinstance(value, list):
        return f"[{', '.join(map(value_in_words, value))}]"
    text = yaml_of(value).removesuffix("\n").removesuffix("\n...")
    return text or "''"


def redone_by(section: str) -> str:
    """What is made anew where a setting of the section changes."""
    stage = next((name for name, sections in STAGES.items() if section in sections), None)
    if stage is None:
        return "of no stage; a change makes nothing anew"
    return f"of the stage {stage}; a change makes anew: {', '.join(list(STAGES)[list(STAGES).index(stage) :])}"


def presets_that_set(setting: Setting) -> dict[str, Any]:
    """Presets in which the setting differs from its default, with its value there."""
    values = {name: _value(load_config(name), setting) for name in preset_names()}
    return {name: value for name, value in values.items() if value != setting.default}


def default_in_words(setting: Setting) -> str:
    """The default, and beside it what a file without a preset has, where that differs."""
    usual, bare = value_in_words(setting.default), value_in_words(setting.bare)
    return usual if usual == bare else f"{usual} (without a preset {bare})"


def differences_of(
    one: str | Path, other: str | Path | None = None, overrides: Sequence[str] = ()
) -> list[tuple[Setting, Any, Any]]:
    """The settings in which a preset or file differs from another, with both values.

    Args:
        one: the preset or file that is asked about.
        other: what it is held against; None: the preset `llm-esr`.
        overrides: laid over `one`.
    """
    first, second = load_config(one, overrides), load_config(other)
    pairs = [(setting, _value(first, setting), _value(second, setting)) for setting in _all()]
    return [(setting, mine, theirs) for setting, mine, theirs in pairs if mine != theirs]


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Every setting by section: its default, the values that it takes, and what it means. The default is what the",
        "preset `llm-esr` says, which holds where nobody names another; a YAML file that builds on no preset has other",
        "values in places. `llm-esr config model` lists a section, `llm-esr config --explain model.borrow` says all",
        "there is of one setting, and `llm-esr config --diff sasrec` how a preset or a file of your own differs from",
        "`llm-esr`. `--set section.key=value` changes one setting, a YAML file many ([the guide](index.md)). Written",
        "by `llm-esr config --markdown`.",
    ]
    for section in section_names():
        lines += ["", f"## {section}", "", f"{section_meaning(section)} This section is {redone_by(section)}.", ""]
        lines += ["| setting | default | values | meaning |", "|---|---|---|---|"]
        for setting in settings_of(section):
            cells = (f"`{setting.name}`", f"`{default_in_words(setting)}`", setting.allowed, setting.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _all() -> Iterator[Setting]:
    for section in section_names():
        yield from settings_of(section)


def _section(name: str) -> type[Section]:
    section = Config.model_fields[name].annotation
    assert isinstance(section, type) and issubclass(section, Section)
    return section


def _value(config: Config, setting: Setting) -> Any:
    return getattr(getattr(config, setting.section), setting.key)


def _allowed(annotation: Any, metadata: Sequence[Any]) -> str:
    """Which values a type takes, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _allowed(parts[0], parts[1:])
    if origin in (Union, UnionType):
        words = [_allowed(part, metadata) for part in parts if part is not NoneType]
        return "; or ".join([*words, *(["null"] if NoneType in parts else [])])
    if origin is Literal:
        return ", ".join(map(value_in_words, parts))
    if origin is list:
        return f"list, each {_allowed(parts[0], ())}"
    known = [item.func for item in metadata if isinstance(item, AfterValidator) and isinstance(item.func, KnownNames)]
    if known:
        return ", ".join(known[0].names)
    bounds = [_BOUNDS[name].format(f"{bound:,}") for name, bound in _bounds(metadata)]
    return ", ".join([_KINDS[annotation], *bounds])


def _bounds(metadata: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)
        for kind in (at.Ge, at.Gt, at.Le, at.Lt):
            if isinstance(item, kind):
                yield kind.__name__.lower(), getattr(item, kind.__name__.lower())
