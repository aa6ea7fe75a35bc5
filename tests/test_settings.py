"""Settings in words: the command `config`, the page docs/settings.md, and names of elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_esr.cli import main
from llm_esr.config import Config, EmbedConfig, load_config, section_with
from llm_esr.config.describe import find_settings, section_names, settings_of, settings_page, value_in_words
from llm_esr.config.single import config_with
from llm_esr.config.synonyms import SYNONYMS
from llm_esr.config.yaml_text import value_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
ALL = [setting for section in section_names() for setting in settings_of(section)]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return int(left.value.code or 0)


def test_the_page_has_every_setting_as_it_is_now() -> None:
    page = settings_page()
    assert PAGE.read_text(encoding="utf-8") == page, "write it anew: llm-esr config --markdown > docs/settings.md"
    assert all(f"| `{setting.name}` |" in page for setting in ALL)


def test_a_default_is_what_a_run_has_that_says_nothing() -> None:
    usual, bare = load_config(), Config()
    assert len(ALL) == sum(len(type(getattr(bare, section)).model_fields) for section in section_names())
    for setting in ALL:
        assert setting.default == getattr(getattr(usual, setting.section), setting.key)
        assert setting.bare == getattr(getattr(bare, setting.section), setting.key)
        assert value_of(value_in_words(setting.default)) == setting.default, "as it is shown, --set takes it"


# A value beyond each kind of limit that the words speak of.
LIMITS: dict[str, tuple[list[Any], list[Any]]] = {
    "index.recall": ([1.0, 0.01], [0, 1.01]),
    "model.dropout": ([0, 0.99], [1, -0.1]),
    "model.width": ([2], [1]),
    "runtime.threads": ([0, 1024], [1025, -1]),
    "train.clip_norm": ([None, 0.1], [0]),
    "evaluate.k": ([[1]], [[0]]),
    "model.backbone": (["gru4rec"], ["lstm"]),
    "blend.scorers": ([["ease"]], [["tea"]]),
    "data.split": (["none"], ["random"]),
}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("index.recall", "number, above 0, at most 1"),
        ("model.dropout", "number, 0 or more, below 1"),
        ("model.width", "whole number, 2 or more"),
        ("runtime.threads", "whole number, 0 or more, at most 1,024"),
        ("train.clip_norm", "number, above 0; or null"),
        ("evaluate.k", "list, each whole number, 1 or more, at most 2,147,483,647"),
        ("model.backbone", "sasrec, bert4rec, gru4rec"),
        ("blend.scorers", "list, each text-max, text, transitions,"),
        ("data.split", "leave-one-out, temporal, none"),
    ],
)
def test_the_values_in_words_are_those_that_are_taken(name: str, words: str) -> None:
    (setting,) = find_settings(name)
    assert setting.allowed.startswith(words)
    section = type(getattr(Config(), setting.section))
    for value in LIMITS[name][0]:
        section.model_validate({setting.key: value})
    for value in LIMITS[name][1]:
        with pytest.raises(ValidationError):
            section.model_validate({setting.key: value})


def test_a_section_and_single_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("config") == 0
    said = capsys.readouterr().out
    assert all(f"  {setting.name} = " in said for setting in ALL)
    assert call("config", "smoothing", "train.epochs") == 0
    said = capsys.readouterr().out
    assert [line.split(" = ")[0].strip() for line in said.splitlines() if " = " in line] == [
        "smoothing.probability", "smoothing.temperature", "train.epochs"]  # fmt: skip


def test_one_setting_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("config", "--explain", "model.borrow") == 0
    said = " ".join(capsys.readouterr().out.split())
    usual, bare = load_config().model.borrow, Config().model.borrow
    assert said.startswith("model.borrow Borrowed rows: an item met n times")
    for part in (
        f"default: {usual} (without a preset {bare})",
        "values: number, 0 or more",
        f"sasrec {load_config('sasrec').model.borrow}",
        "section: model, of the stage train; a change makes anew: train, blend, evaluate",
        f"--set model.borrow={usual}",
    ):
        assert part in said


def test_a_preset_or_file_is_held_against_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: sasrec\nmodel: {width: 32}\n")
    assert call("config", "--diff", str(mine), "--against", "sasrec", "--set", "train.epochs=3") == 0
    said = " ".join(capsys.readouterr().out.split())
    sasrec = load_config("sasrec")
    assert said.startswith("2 settings of ") and f"model.width: 32 (sasrec: {sasrec.model.width})" in said
    assert f"train.epochs: 3 (sasrec: {sasrec.train.epochs})" in said
    assert call("config", "--diff", "default") == 0
    assert capsys.readouterr().out == "default has the same settings as llm-esr\n"
    assert call("config", "--diff", "sasrec") == 0
    assert "model.views: [collaborative]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["modle"], "did you mean 'model"),
        (["--explain", "lr"], "did you mean 'train.learning_rate'?"),
        (["--explain", "xyzzy"], "no setting 'xyzzy'; sections are: data, embed"),
        (["model", "--diff", "sasrec"], "exclude each other; give one"),
        (["--set", "model.width=8"], "name a preset or a file with --diff"),
        (["--diff", "sasrek"], "did you mean 'sasrec'?"),
    ],
)
def test_a_wrong_line_is_answered_with_its_remedy(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("config", *line) == 2
    assert said in capsys.readouterr().err


def test_names_of_elsewhere_find_ours() -> None:
    names = {setting.name for setting in ALL}
    keys = {setting.key for setting in ALL}
    assert set(SYNONYMS.values()) <= names
    assert not SYNONYMS.keys() & keys, "a name of ours means itself"
    for name, ours in (
        ("lr", "train.learning_rate"),
        ("hidden_size", "model.width"),
        ("n_layers", "model.blocks"),
        ("epochs", "train.epochs"),
        ("Num-Heads", "model.heads"),
    ):
        with pytest.raises(ValueError, match=f"did you mean {ours}=3\\?"):
            load_config(None, [f"{name}=3"])
    for override, ours in (("train.lr=1", "train.learning_rate"), ("model.hidden_size=8", "model.width"),
                           ("train.n_layers=1", "model.blocks")):  # fmt: skip
        with pytest.raises(ValueError, match=f"did you mean '{ours}'?"):
            load_config(None, [override])
    with pytest.raises(ValueError, match=r"unknown setting 'hidden_size'; did you mean 'width'\?"):
        config_with(Config(), {"hidden_size": 8}, ("model", "train"))
    with pytest.raises(ValueError, match=r"unknown setting 'lr'; did you mean 'learning_rate'\?"):
        config_with(Config(), {"lr": 8}, ("model", "train"))
    with pytest.raises(ValueError, match=r"embed has no setting 'bs'; did you mean 'batch_size'\?"):
        section_with(EmbedConfig, None, {"bs": 8}, "embed")
