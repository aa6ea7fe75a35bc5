"""What the doctor says of an installation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from llm_esr import doctor


def test_every_package_of_an_extra_is_listed() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    said = {finding.name: finding for finding in doctor()}
    for extra, packages in project["optional-dependencies"].items():
        for package in packages if extra != "dev" else []:
            finding = said[re.split(r"[\s\[<>=!~;]", package)[0]]
            assert re.match(r"\d|not installed; pip install", finding.said) and not finding.bad
