"""The public names: lazily imported, typed, and with one word for one thing."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import llm_esr

STAGES = ("prepare", "embed", "index", "train", "run")
SCRIPT = """
import llm_esr

data = llm_esr.prepare("events.csv", items="catalogue.csv", out="shop", split="temporal")
reveal_type(data)
reveal_type(llm_esr.embed(data, encoder="lsa", dtype="float32"))
reveal_type(llm_esr.index(data, k=20))
model = llm_esr.train(data, epochs=5)
reveal_type(model)
reveal_type(model.evaluate().value())
reveal_type(model.recommend(users=["u17"]))
reveal_type(llm_esr.run("events.csv", out="runs/shop").recommender())
reveal_type(llm_esr.load_config("sasrec").model.width)
reveal_type(llm_esr.doctor())
reveal_type(llm_esr.simulate())
reveal_type(next(iter(llm_esr.BatchLoader(data, max_len=20))).students.items)
"""


def test_every_public_name_is_there_and_typed_from_the_same_home() -> None:
    tree = ast.parse(Path(llm_esr.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    typed = {name.asname: (node.module or "") for node in block.body if isinstance(node, ast.ImportFrom)
             for name in node.names}  # fmt: skip
    homes = llm_esr._HOMES
    assert {name: module.removesuffix(f".{name}") for name, module in typed.items()} == homes
    for name in llm_esr.__all__:
        assert getattr(llm_esr, name) is not None


def test_a_users_script_is_typed(tmp_path: Path) -> None:
    names = [name for name in llm_esr.__all__ if name != "__version__"]
    script = SCRIPT + "".join(f"reveal_type(llm_esr.{name})\n" for name in names)
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-m", "mypy", "script.py", "--cache-dir", "cache", "--config-file", "/dev/null",
               "--ignore-missing-imports"]  # fmt: skip
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    revealed = [
        line.split("Revealed type is ")[1].strip('"') for line in found.stdout.splitlines() if "Revealed" in line
    ]
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(revealed) == script.count("reveal_type"), found.stdout
    assert not [shown for shown in revealed if shown in ("Any", "builtins.object") or "-> Any" in shown], revealed
    for expected in ("Dataset", "Dataset", "Dataset", "Recommender", "float", "DataFrame", "Recommender", "int"):
        assert expected in revealed[0], (expected, revealed[0])
        revealed.pop(0)


@pytest.mark.parametrize("stage", STAGES)
def test_config_holds_many_settings_and_settings_single_ones(stage: str) -> None:
    parameters = inspect.signature(getattr(llm_esr, stage)).parameters
    assert "config" in parameters
    last = [p.name for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    assert last == ["settings"]


def test_single_settings_are_checked_by_name(tmp_path: Path) -> None:
    interactions, items = llm_esr.simulate(seed=1, n_users=20, n_items=120)
    with pytest.raises(ValueError, match="prepare has no setting 'splitt'; did you mean 'split'"):
        llm_esr.prepare(interactions, items=items, out=tmp_path / "data", splitt="none")
    data = llm_esr.prepare(interactions, items=items, out=tmp_path / "data")
    with pytest.raises(ValueError, match="embed has no setting 'dtipe'; did you mean 'dtype'"):
        llm_esr.embed(data, encoder="lsa", dtipe="float32")
    data = llm_esr.embed(data, encoder="lsa", dtype="float32", lsa_dimensions=8)
    assert data.item_embeddings is not None and data.item_embeddings.dtype == "float32"
    assert data.item_embeddings.shape[1] == 8
    with pytest.raises(ValueError, match="index has no setting"):
        llm_esr.index(data, similar_peple=3)
    assert llm_esr.index(data, similar_users=3).similar_users.shape[1] == 3
    with pytest.raises(ValueError, match="unknown setting 'epochz'; did you mean 'epochs'"):
        llm_esr.train(data, epochz=3)


def test_the_package_runs_as_a_module() -> None:
    found = subprocess.run([sys.executable, "-m", "llm_esr", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"llm-esr {llm_esr.__version__}"
