"""Neighbours on the command line: `index --explain` and `similar`, as a reader of the terminal sees them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len

import llm_esr
from llm_esr.cli import main
from llm_esr.files import read_json


@pytest.fixture(scope="module")
def shop(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: data and one small model."""
    folder = tmp_path_factory.mktemp("shop") / "run"
    shutil.copytree(tiny_folder, folder / "data")
    (folder / "data" / "similar_users.npy").unlink()
    llm_esr.train(folder / "data", config="sasrec", out=folder / "models" / "sasrec" / "42", progress=False, epochs=1,
                  width=8, heads=1)  # fmt: skip
    return folder


@pytest.fixture
def run(shop: Path, tmp_path: Path) -> Path:
    """A copy that a test may write to."""
    return shutil.copytree(shop, tmp_path / "run")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def some_user(run: Path) -> str:
    data = llm_esr.Dataset.open(run / "data")
    return next(name for name in data.user_ids if len(data.history(data.user_index[name], "train")) > 2)


def test_a_user_is_explained_by_what_the_neighbours_met(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = some_user(run)
    assert call("index", run, "--explain", user, "--quiet") == 0
    said = capsys.readouterr().out
    assert "59 similar users each of" in said, "there were none that fit the vectors"
    data = llm_esr.Dataset.open(run / "data")
    number = data.user_index[user]
    assert f"{user} met in training ({len(data.history(number, 'train'))} items, oldest first):" in said
    assert data.similar_users is not None and data.similar_users_scores is not None
    titles = data.titles() or []
    for rank, (other, cosine) in enumerate(
        zip(data.similar_users[number, :5], data.similar_users_scores[number, :5], strict=True), 1
    ):
        assert f"  {rank}. {data.user_ids[other]}  cosine {cosine:.3f}  (" in said
        assert f"{titles[data.history(int(other), 'train')[-1] - 1]} (" in said


def test_explaining_alone_leaves_neighbours_of_other_settings_as_they_are(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("index", run, "--users-by", "both", "--model", run, "--k", "7", "--quiet") == 0
    assert "7 similar users each of" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in (run / "data").glob("similar_*")}
    assert read_json(run / "data" / "similar_users.json")["users_by"] == "both"
    assert call("index", run, "--explain", some_user(run)) == 0
    said = capsys.readouterr().out
    assert "similar users each" not in said
    assert "by text and the user vectors of a model; * marks" in said
    assert {path.name: path.read_bytes() for path in (run / "data").glob("similar_*")} == before
    assert call("index", run, "--explain", some_user(run), "--k", "3", "--quiet") == 0
    assert "3 similar users each of" in capsys.readouterr().out
    assert read_json(run / "data" / "similar_users.json")["shape"][1] == 3


def test_an_unknown_user_is_refused_before_anything_is_searched(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("index", run, "--explain", "u599") == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: no user 'u599' in the data; did you mean 'u59'") and said.out == ""
    assert not (run / "data" / "similar_users.npy").exists()


def test_a_user_without_neighbours_is_told_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("index", run, "--teacher-min-history", "99", "--explain", some_user(run), "--quiet") == 0
    assert "nobody is similar" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["text", "trained", "co-occurrence"])
def test_similar_items_are_printed_with_titles_and_cosines(
    by: str, shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert call("similar", shop, "i1", "i7", "--by", by, "-k", "2") == 0
    said = capsys.readouterr().out
    model = llm_esr.Recommender.load(shop / "models" / "sasrec" / "42")
    found = model.similar_items(["i1", "i7"], k=2, by=by)
    titles = model.data.titles() or []
    for name in ("i1", "i7"):
        assert f"to {titles[model.data.item_index[name] - 1]} ({name}):" in said
    for row in found.iter_rows(named=True):
        (line,) = (line for line in said.splitlines() if f" {row['item_id']} " in line and row["title"] in line
                   and f"{row['score']:.3f}" in line)  # fmt: skip
        assert f" {row['rank']} " in line


@pytest.mark.parametrize("where", ["run", "data", "bare run"])
def test_a_folder_of_data_is_enough_for_texts_and_co_occurrence(
    where: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if where == "bare run":
        shutil.rmtree(run / "models")
    folder = run / "data" if where == "data" else run
    assert call("similar", folder, "i1", "-k", "2") == 0
    assert capsys.readouterr().out.startswith("similar by text to ")
    assert call("similar", folder, "i1", "-k", "2", "--by", "co-occurrence") == 0
    assert capsys.readouterr().out.startswith("similar by co-occurrence to ")
    assert call("similar", folder, "i1", "--by", "trained") == (0 if where == "run" else 2)
    said = capsys.readouterr()
    if where != "run":
        assert f"error: {run / 'data'} holds data and no model, so none of its items has a trained vector" in said.err
    (run / "data" / "item_embeddings.npy").unlink()
    assert call("similar", folder, "i1") == 0
    by = "the model's vectors" if where == "run" else "co-occurrence"
    assert capsys.readouterr().out.startswith(f"similar by {by} to ")


def test_neighbours_that_are_fresh_are_called_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ((), ("--threads", "1"), ("--recall", ".5"), ("--k", "59", "--method", "exact")):
        capsys.readouterr()
        assert call("index", run, "--quiet", *line) == 0
        assert capsys.readouterr().out.startswith("fresh: 59 similar users each of 60, by text ->") == bool(line)


@pytest.mark.parametrize("columns", ["60", "100"])
def test_long_titles_are_cut_to_the_terminal(
    columns: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(llm_esr.Dataset, "titles", lambda data: ["a lamp\u3000" * 300] * data.n_items)
    for line in (("similar", run, "i1"), ("index", run, "--explain", some_user(run), "--quiet")):
        assert call(*line) == 0
        said = capsys.readouterr().out.splitlines()
        titled = [text for text in said if "a lamp" in text]
        assert len(titled) > 5 and all("..." in text for text in titled)
        assert max(map(cell_len, titled)) in range(int(columns) - 4, int(columns) + 1)


def test_an_unknown_item_is_one_line(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("similar", shop, "i999") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("error: items: no item 'i999' in the data")
