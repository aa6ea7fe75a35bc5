"""YAML as people write settings: no word or date is guessed into something else, and nothing is given twice.

Differs from YAML 1.1, as PyYAML reads it: `no`, `off` and `yes` are words (a switch still takes them), a date is a
text, a number with a leading zero is a text, `1e-3` is a number, and a key that stands twice is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from llm_esr.files import read_text_file


class _Loader(yaml.SafeLoader):
    """Reads the core schema alone."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own form)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML's, but a key that comes twice is an error with both lines."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{name}' is given twice, in line {lines[name]} and in line {line}; keep one"
                )
            lines[name] = line
        return super().construct_mapping(node, deep)


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     "-+0123456789."),
):  # fmt: skip
    _exact = re.compile(rf"^(?:{_pattern})$")
    if _kind == "float":  # 007 is no number, and 7 is a whole one
        _exact = re.compile(rf"^(?!0[0-9])(?:{_pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _exact, [*_first.replace("\0", ""), ""])


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file; empty for an empty file.

    Raises:
        ValueError: not UTF-8, not YAML, no mapping, or a key given twice.
    """
    return mapping_of(read_text_file(path), str(path))


def mapping_of(text: str, where: str) -> dict[str, Any]:
    """The mapping of a YAML text; see `read_yaml`."""
    try:
        values = value_of(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None)
        said = problem if problem is not None and "given twice" in problem else f"not YAML: {error}"
        raise ValueError(f"{where}: {said}" if said is problem else f"{where} is {said}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected sections such as 'model:', got {type(values).__name__}")
    return values


def value_of(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, Loader=_Loader)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader above would not read as a text."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = isinstance(value_of(text), str)
    except yaml.YAMLError:
        plain = True  # PyYAML quotes what is no scalar
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


_Dumper.add_representer(str, _quoted)


def yaml_of(value: Any) -> str:
    """A value as YAML text."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
