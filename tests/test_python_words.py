"""Errors say what to write where the caller is: options at the command line, arguments in Python."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.doors import in_words_of_python

EVENTS = pl.DataFrame({"user_id": ["u"] * 3, "item_id": list("abc"), "timestamp": [1, 2, 3]})


@pytest.mark.parametrize(
    ("said", "in_python"),
    [
        ("Give --overwrite to replace it, or another --out", "Give overwrite=True to replace it, or another out"),
        ("--split temporal needs timestamps", "split='temporal' needs timestamps"),
        ("name their column with --timestamp-column, or", "name their column with timestamp_column, or"),
        ("use --set embed.device=cpu or auto", "use device='cpu' or auto"),
        ("say how long with --epochs N (the", "say how long with epochs=N (the"),
        ("give --encoder lsa:x, --epochs 3: a", "give encoder='lsa:x', epochs=3: a"),
        ("run `llm-esr index` again", "run `llm_esr.index` again"),
        ("`llm-esr prepare a/inter.txt --out x`", "`llm-esr prepare a/inter.txt --out x`"),
        ("skip_unknown (--skip-unknown) passes over", "skip_unknown passes over"),
        ("an items table (items=..., --items) is", "an items table (items=...) is"),
        ("a-file--with-dashes.csv is empty", "a-file--with-dashes.csv is empty"),
        ("--set 'a': expected", "overrides: 'a': expected"),
        ("/data/--out/a.csv is empty", "/data/--out/a.csv is empty"),
        ("no user '--user 7' in", "no user '--user 7' in"),
        ("ask by histories (--history)", "ask by histories (histories=...)"),
    ],
)
def test_options_are_arguments_in_python(said: str, in_python: str) -> None:
    assert in_words_of_python(said) == in_python


@pytest.mark.parametrize("given", ["my --overwrite folder", "--out none.csv", "/a `llm-esr index` b/x", "--set x=1"])
def test_what_the_caller_gave_stays_as_it_was_written(given: str) -> None:
    with pytest.raises(FileNotFoundError) as left:
        llm_esr.Dataset.open(given)
    assert given in str(left.value) and "make it with `llm_esr.prepare`" in str(left.value)
    with pytest.raises(FileNotFoundError) as left:
        llm_esr.prepare(Path(given) / "--k 5.csv", out="nowhere")
    assert f"{given}/--k 5.csv does not exist" in str(left.value)


def test_one_mistake_is_said_in_the_words_of_each_caller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    EVENTS.drop("timestamp").write_csv(tmp_path / "events.csv")
    with pytest.raises(ValueError, match=r"^split='temporal' needs .* with timestamp_column, or use split='leave-one"):
        llm_esr.prepare(tmp_path / "events.csv", out=tmp_path / "d", split="temporal")
    with pytest.raises(SystemExit):
        main(["prepare", str(tmp_path / "events.csv"), "--out", str(tmp_path / "d"), "--split", "temporal"])
    assert "error: --split temporal needs" in capsys.readouterr().err


def test_values_that_do_not_fit_are_said_in_our_words(tiny_folder: Path) -> None:
    for settings, said in (
        ({"epochs": -1}, r"^train\.epochs: expected 1 or more \(got -1\)$"),
        ({"epochs": "x"}, r"^train\.epochs: expected a whole number \(got 'x'\)$"),
        ({"keep_memory": "perhaps"}, r"^runtime\.keep_memory: expected true or false"),
        ({"backbone": "lstm"}, r"^model\.backbone: expected 'sasrec', 'bert4rec' or 'gru4rec'"),
    ):
        with pytest.raises(ValueError, match=said):
            llm_esr.train(tiny_folder, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^min_user_count: expected a whole number \(got \[1\]\)$"):
        llm_esr.prepare(EVENTS, out="nowhere", min_user_count=[1])


def test_a_frame_in_place_of_a_data_set_is_told_what_makes_one() -> None:
    for stage in (llm_esr.embed, llm_esr.index, llm_esr.train):
        with pytest.raises(ValueError, match=r"got DataFrame; make a data set of a table with llm_esr\.prepare"):
            stage(EVENTS)
