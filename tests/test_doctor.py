"""What the doctor says of an installation."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from llm_esr import doctor

EXTRAS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_every_package_of_an_extra_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a wheel states them; what is installed here may be older than pyproject.toml.
    stated = ["numpy>=1.26", *(f"{package} ; extra == '{extra}'" for extra in EXTRAS for package in EXTRAS[extra])]
    stated.append("nowhere-to-be-found>=1; (sys_platform != 'win32') and extra == \"text\"")
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: stated)
    said = {finding.name: finding for finding in doctor()}
    for extra, packages in EXTRAS.items():
        for package in packages:
            name = re.split(r"[\s\[<>=!~;]", package)[0]
            if extra != "dev" and name != "llm-esr":
                assert re.match(r"\d|not installed; pip install", said[name].said) and not said[name].bad
    assert said["nowhere-to-be-found"].said == "not installed; pip install 'llm-esr[text]' brings it"
    assert "ruff" not in said and "llm-esr" in said


def test_sources_that_are_not_installed_have_no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert "hnswlib" not in {finding.name for finding in doctor()}
