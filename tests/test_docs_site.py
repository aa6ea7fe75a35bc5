"""The site of docs/ has a place for every page and a word on every public name; `make docs` builds it, strictly."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import llm_esr

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages(part)]


def test_every_page_has_its_place_in_the_site() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    found = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.suffix in {".md", ".ipynb"}]
    listed = pages(site["nav"])
    assert sorted(listed) == sorted(found) and site["strict"] is True


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "api.md").read_text()
    named = set(re.findall(r"^::: llm_esr\.(\w+)$", text, re.MULTILINE))
    assert named == set(llm_esr.__all__) - {"__version__"}


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads((DOCS / "notebooks" / "quickstart.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5 and not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_every_callback_of_the_page_has_ten_lines() -> None:
    text = (DOCS / "callbacks.md").read_text()
    for name in ("TensorBoard", "Weights & Biases", "MLflow"):
        block = text.split(f"## {name}\n")[1].split("```python\n")[1].split("```")[0]
        assert len(block.splitlines()) == 10, name
        compile(block, name, "exec")


def test_the_quick_demo_is_the_demo_over_a_smaller_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo_module = importlib.import_module("llm_esr.pipeline.demo")
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr(demo_module, "run", lambda interactions, **given: runs.append({"rows": interactions, **given}))
    demo_module.demo(tmp_path, quick=True, n_users=3000)
    demo_module.demo(tmp_path, n_users=700, n_items=300)
    assert [run["rows"]["user_id"].n_unique() for run in runs] == [600, 700]
    assert [run["config"]["train"]["epochs"] for run in runs] == [10, 60]
