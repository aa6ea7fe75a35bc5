"""A configuration from a preset, a YAML file and `section.key=value` strings."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from llm_esr.config.schema import Config
from llm_esr.config.synonyms import meant_by, plain
from llm_esr.config.yaml_text import mapping_of, read_yaml, value_of, yaml_of
from llm_esr.doors import door
from llm_esr.files import given_path

# Another name of a preset -> the preset.
ALIASES = {"default": "llm-esr"}
DEFAULT = "llm-esr"

_WORDS = [
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^Input should be greater than or equal to (.+)$", r"expected \1 or more"),
        (r"^Input should be greater than (.+)$", r"expected more than \1"),
        (r"^Input should be less than or equal to (.+)$", r"expected \1 or less"),
        (r"^Input should be less than (.+)$", r"expected less than \1"),
        (r"^Input should be a valid integer.*$", "expected a whole number"),
        (r"^Input should be a (?:valid|finite) number.*$", "expected a number"),
        (r"^Input should be a valid boolean.*$", "expected true or false"),
        (r"^Input should be a valid string.*$", "expected a text"),
        (r"^Input should be a valid list.*$", "expected a list"),
        (r"^Input should be a valid dictionary or instance of .*$", "expected a section of settings"),
        (r"^Input should be (.+)$", r"expected \1"),
    )
]

# What a message shows of a value: YAML's references can make one that would fill the memory as text.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 6, 6
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("llm_esr.config") / "presets"
    return sorted([p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")])


@door
def load_config(source: str | Path | None = None, overrides: Sequence[str] | None = None) -> Config:
    """Read a configuration.

    Args:
        source: the name of a preset, or the path of a YAML file. Both may name a preset or file to build on with the
            key `preset`; their own values go on top. None: the preset `llm-esr`.
        overrides: `section.key=value` strings; values are read as YAML.

    Raises:
        FileNotFoundError: neither a preset nor a file.
        ValueError: an unknown key (the nearest name is suggested), a value that does not fit, or presets that build on
            each other in a circle.
    """
    values = _layers(DEFAULT if source is None else source, ())
    for override in overrides or []:
        _set(values, override)
    return _build(values)


def load_other(setting: str, preset: str, overrides: Sequence[str] | None = None) -> Config:
    """`load_config` of the preset that a setting says as `preset:NAME`; its errors name the setting."""
    try:
        return load_config(preset, overrides)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{setting}: {error}") from None


def model_name(source: str | Path) -> str:
    """The name under which a model made from `source` is stored: a preset's name or the YAML's stem.

    Raises:
        ValueError: a file whose name reads like a row of a table that is no model.

    """
    text = str(source)
    if not _is_file(text):
        return ALIASES.get(text, text)
    name = Path(text).stem
    if " - " in name or ", " in name:
        raise ValueError(
            f"{text}: a model's name holds neither ' - ' nor ', ', which tables keep for differences of models and for "
            "networks without their blend; rename the file"
        )
    return name


def _is_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or "/" in text


def _layers(source: str | Path, above: tuple[str, ...]) -> dict[str, Any]:
    """The values of a preset or file over those that it builds on; `above` is what builds on it."""
    name = str(source)
    chain = (*above, name)
    if name in above:
        raise ValueError(f"presets build on each other in a circle: {' -> '.join(chain)}; take `preset:` out of one")
    values = _values(name)
    base = values.pop("preset", None)
    return values if base is None else _merge(_layers(base, chain), values)


def _values(text: str) -> dict[str, Any]:
    """What one preset or file says itself."""
    if _is_file(text):
        path = given_path(text)
        if not path.exists():
            raise FileNotFoundError(f"configuration {path} does not exist; presets are: {', '.join(preset_names())}")
        return _sections(read_yaml(path))
    name = ALIASES.get(text, text)
    if name not in preset_names():
        near = difflib.get_close_matches(text, [*preset_names(), *ALIASES], n=1)
        hint = f", did you mean '{near[0]}'?" if near else ";"
        raise FileNotFoundError(
            f"no preset '{text}'{hint} presets: {', '.join([*ALIASES, *preset_names()])}; "
            "a file of your own ends in .yaml"
        )
    body = (resources.files("llm_esr.config") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return _sections(mapping_of(body, f"preset {name}"))


def _sections(values: dict[str, Any]) -> dict[str, Any]:
    """What a file says; a section without a setting, `data:`, says nothing."""
    return {name: value for name, value in values.items() if value is not None}


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot:
        meant = _named(name) if equals else None
        hint = f"; did you mean --set {meant}={text.strip()}?" if meant else ", such as --set model.width=64"
        raise ValueError(f"--set {override!r}: expected section.key=value{hint}")
    part = values.setdefault(section, {})
    if not isinstance(part, dict):
        raise ValueError(f"--set {override!r}: '{section}' is not a section")
    try:
        part[key] = value_of(text)
    except yaml.YAMLError:
        raise ValueError(f"--set {override!r}: {text!r} is not a YAML value; put quotes around it") from None


def _build(values: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError(describe_errors(error)) from None


def describe_errors(error: ValidationError) -> str:
    """What pydantic found, as one line in our words."""
    return "; ".join(_describe(e) for e in error.errors())


def in_our_words(message: str) -> str:
    """What pydantic says of a value, as this package says it: `expected 1 or more`."""
    message = message.removeprefix("Value error, ")
    for pattern, words in _WORDS:
        message, found = pattern.subn(words, message)
        if found:
            break
    return message


def _describe(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        message = in_our_words(str(error["msg"]))
        came = "" if isinstance(error.get("input"), dict) else f" (got {_SHORT.repr(error.get('input'))})"
        return f"{name}: {message}{came}" if name and not message.startswith(name) else message
    *path, key = [str(part) for part in error["loc"]]
    known = _known_names(path)
    # The right word in the wrong section is a likelier slip than two words that look alike.
    near = _named(key) or next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)
    hint = f"; did you mean '{near}'?" if near else f"; known: {', '.join(known)}"
    return f"unknown setting '{name}'{hint}"


def _named(key: str) -> str | None:
    """The setting that a key names without its section, or by what it is called elsewhere."""
    return next((name for name in _all_names() if name.endswith("." + plain(key))), meant_by(key))


def _known_names(path: list[str]) -> list[str]:
    if not path:
        return list(Config.model_fields)
    section = Config.model_fields[path[0]].annotation
    assert isinstance(section, type) and issubclass(section, BaseModel)
    return [f"{path[0]}.{name}" for name in section.model_fields]


def _all_names() -> list[str]:
    return [name for section in Config.model_fields for name in _known_names([section])]


def dump_config(config: Config) -> str:
    """The configuration as YAML, every value written out."""
    return yaml_of(config.model_dump(mode="json"))
