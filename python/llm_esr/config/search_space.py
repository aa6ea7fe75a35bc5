"""A search space: which settings are tried in which range, read from YAML and held against the schema; needs no torch.

train.learning_rate: {low: 1e-4, high: 1e-2, log: true}
model.blocks: {low: 1, high: 3, step: 1}
model.width: [64, 128]
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from llm_esr.config.describe import find_settings, value_in_words
from llm_esr.config.read import describe_errors
from llm_esr.config.schema import Config
from llm_esr.config.yaml_text import read_yaml
from llm_esr.files import given_path

_KEYS = ("low", "high", "step", "log")
_COMBINATIONS = 512  # of ends and choices that are held against each other beforehand
_MOST_STEPS = 10**9
_LARGEST = 2**63 - 1  # what 64 bits hold
_SHARED = "all trials share one data folder, which is prepared, embedded and indexed before"
# Sections and settings that cannot be tried, and why.
_FIXED = {
    "data": _SHARED,
    "embed": _SHARED,
    "index": _SHARED,
    "evaluate": "it says how every trial is judged",
    "checkpoint": "it changes no result",
    "runtime": "it changes no result",
    "train.seed": "it is the search's own (--seed)",
    "train.validation_users": "it says how every trial is judged",
    "train.validation_candidates": "it says how every trial is judged",
    "train.validation_ties": "it says how every trial is judged",
}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both of them too.

    Attributes:
        low: the least.
        high: the largest; where there is a step, a whole number of steps above `low`.
        step: between two numbers; None: any number, of whole ones each.
        log: drawn evenly by their logarithm.
        whole: whole numbers alone.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> list[Any]:
        """The least and the largest value."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Choices:
    """Values one by one."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> list[Any]:
        """All values."""
        return list(self.values)

    @property
    def labels(self) -> list[str]:
        """Each value as YAML has it: a text for every kind, lists and null too."""
        return [value_in_words(value) for value in self.values]


SearchSpace = dict[str, Range | Choices]


def read_space(source: str | Path | Mapping[str, Any], base: Config) -> SearchSpace:
    """Read a search space and hold every end and every choice against the schema.

    Args:
        source: a YAML file, or its mapping: `section.key` to `{low, high, step, log}` or to a list of choices.
        base: what the settings are laid over.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown setting (the nearest is suggested), one that no trial may change, a range or choice
            that the setting does not take, or one that fits no combination of the others.
    """
    if isinstance(source, Mapping):
        where, values = "space", dict(source)
    else:
        path = given_path(source)
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; expected a YAML file such as `model.width: [64, 128]` on a line of its own"
            )
        where, values = str(path), read_yaml(path)
    if not values:
        raise ValueError(f"{where} names no setting; write for instance `model.width: [64, 128]`")
    space: SearchSpace = {}
    for name, given in values.items():
        try:
            known = _known(name)
            space[known] = _part(known, given, base)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    _refuse_misfits(space, base, where)
    return space


def settled(base: Config, values: Mapping[str, Any]) -> Config:
    """A configuration with settings, by `section.key`, on top.

    Raises:
        ValueError: they do not fit each other.
    """
    sections = base.model_dump()
    for name, value in values.items():
        section, _, key = name.partition(".")
        sections[section][key] = value
    try:
        return Config.model_validate(sections)
    except ValidationError as error:
        raise ValueError(describe_errors(error)) from None


def _known(name: Any) -> str:
    """A setting's name, checked."""
    if not isinstance(name, str):
        raise ValueError(f"expected names of settings such as 'model.width', got {name!r}")
    found = find_settings(name)  # an unknown one is refused there
    if name in Config.model_fields:
        raise ValueError(f"'{name}' is a section; name its settings one by one, such as '{found[0].name}'")
    if found[0].name != name:
        raise ValueError(f"'{name}': expected section.key; did you mean '{found[0].name}'?")
    why = _FIXED.get(name, _FIXED.get(name.partition(".")[0]))
    if why is not None:
        raise ValueError(f"{name} is the same for all trials: {why}; set it for all with --set, and take it out here")
    return name


def _part(name: str, given: Any, base: Config) -> Range | Choices:
    if isinstance(given, list):
        part: Range | Choices = _choices(name, given)
    elif isinstance(given, dict):
        part = _range(name, given)
    else:
        raise ValueError(
            f"{name}: expected a list of choices, [a, b], or a range, {{low: ..., high: ...}}, got {given!r:.80}"
        )
    for value in part.ends:
        _refuse_value(name, value, base)
    return part


def _choices(name: str, given: list[Any]) -> Choices:
    if not given:
        raise ValueError(f"{name}: the list of choices is empty")
    choices = Choices(tuple(given))
    twice = next((label for label, times in Counter(choices.labels).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"{name}: {twice} is given twice; keep one")
    return choices


def _range(name: str, given: dict[Any, Any]) -> Range:
    unknown = next((key for key in given if key not in _KEYS), None)
    if unknown is not None:
        near = difflib.get_close_matches(str(unknown), _KEYS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; a range has: {', '.join(_KEYS)}"
        raise ValueError(f"{name}: a range has no '{unknown}'{hint}")
    kinds = _kinds(name)
    if not kinds & {int, float}:
        raise ValueError(f"{name} takes no range of numbers; give a list of choices, [a, b]")
    whole = float not in kinds
    low, high = _number(name, given, "low", whole=whole), _number(name, given, "high", whole=whole)
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{name}: log is true or false, got {log!r:.80}")
    if low > high:
        raise ValueError(f"{name}: low {low:g} lies above high {high:g}; exchange them")
    if log and low <= 0:
        raise ValueError(f"{name}: a range by logarithm begins above 0, got low {low:g}; raise it, or leave log out")
    if given.get("step") is None:
        return Range(low, high, log=log, whole=whole)
    step = _number(name, given, "step", whole=whole)
    if step <= 0 or step > high - low:
        raise ValueError(f"{name}: expected a step above 0 and at most high - low, {high - low:g}, got {step:g}")
    if log:
        raise ValueError(f"{name}: a range has a step or goes by logarithm, not both; take out one")
    if (high - low) / step > _MOST_STEPS:
        raise ValueError(
            f"{name}: step {step:g} divides {low:g} to {high:g} into more than {_MOST_STEPS:,} steps; leave step out"
        )
    # In decimals, as they were written: 0.1 + 2 x 0.1 is 0.3 there.
    steps = (Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))
    last = Decimal(str(low)) + steps * Decimal(str(step))
    return Range(low, int(last) if whole else float(last), step, whole=whole)


def _number(name: str, given: dict[Any, Any], key: str, *, whole: bool) -> Any:
    value = given.get(key)
    fits = isinstance(value, int) or (isinstance(value, float) and not whole and math.isfinite(value))
    if not fits or isinstance(value, bool):
        kind = "whole number" if whole else "number"
        came = "none" if key not in given else f"{value!r:.80}"
        raise ValueError(f"{name}: expected {key} to be a {kind}, got {came}")
    assert value is not None
    if abs(value) > _LARGEST:
        raise ValueError(f"{name}: {key} lies beyond {_LARGEST:,}; give a smaller number")
    return value if whole else float(value)


def _kinds(name: str) -> set[Any]:
    """The types that a setting takes, those of a union one by one."""
    section, _, key = name.partition(".")
    kind = Config.model_fields[section].annotation
    assert kind is not None
    annotation = kind.model_fields[key].annotation
    return {annotation, *(part for part in get_args(annotation) if isinstance(part, type))}


def _refuse_value(name: str, value: Any, base: Config) -> None:
    """Refuse what the setting itself does not take, whatever the others are."""
    section, _, key = name.partition(".")
    part = getattr(base, section)
    try:
        type(part).model_validate(part.model_dump() | {key: value})
    except ValidationError as error:
        own = [one for one in error.errors() if one["loc"][:1] == (key,)]
        if own:
            raise ValueError(
                f"{name} {value_in_words(value)}: {own[0]['msg']}; see `llm-esr config --explain {name}`"
            ) from None


def _refuse_misfits(space: SearchSpace, base: Config, where: str) -> None:
    """Refuse an end or a choice that fits none of the others' ends and choices."""
    fitting: dict[str, set[str]] = {name: set() for name in space}
    why: dict[tuple[str, str], str] = {}
    for values in _combinations(space):
        try:
            settled(base, values)
        except ValueError as error:
            for name, value in values.items():
                why.setdefault((name, value_in_words(value)), str(error))
            continue
        for name, value in values.items():
            fitting[name].add(value_in_words(value))
    for (name, value), message in why.items():
        if value not in fitting[name]:
            raise ValueError(f"{where}: {name} {value} fits no other value of this space: {message}")


def _combinations(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """All combinations of ends and choices, or of very many some in which each one stands beside different others."""
    ends = [part.ends for part in space.values()]
    if math.prod(map(len, ends)) <= _COMBINATIONS:
        rows: Iterator[tuple[Any, ...]] = itertools.product(*ends)
    else:
        # Strides without a common period: a value meets many of the others'.
        strides = [1 + place for place in range(len(ends))]
        rows = (
            tuple(
                values[(row * stride + row // len(values)) % len(values)]
                for values, stride in zip(ends, strides, strict=True)
            )
            for row in range(_COMBINATIONS)
        )
    return (dict(zip(space, row, strict=True)) for row in rows)
