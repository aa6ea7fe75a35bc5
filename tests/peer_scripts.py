"""Scripts of `benches/peers/outside`, which import packages that the tests do without."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "benches" / "peers" / "outside"


def script_without_its_package(
    monkeypatch: pytest.MonkeyPatch, name: str, modules: dict[str, dict[str, Any]]
) -> ModuleType:
    """A script, with stand-ins for what it imports."""
    monkeypatch.syspath_prepend(str(SCRIPTS))  # scripts import each other by plain names
    for module, names in modules.items():
        stand_in = ModuleType(module)
        vars(stand_in).update(names)
        monkeypatch.setitem(sys.modules, module, stand_in)
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script
