"""The command line: its options, its errors, and how quickly it answers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llm_esr import __version__
from llm_esr.cli import main
from llm_esr.cli.options import names, numbers, settings_from
from llm_esr.config import DataConfig

COMMANDS = ("prepare", "convert", "embed", "index", "train", "evaluate", "recommend", "similar", "run", "demo",
            "config", "doctor")  # fmt: skip


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return int(left.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_without_arguments_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)


@pytest.mark.parametrize("command", ["prepare", "run"])
def test_every_data_setting_is_an_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "x", "--out", "y", "--no-such-option") == 2
    # An option that takes a value complains about a missing one; an unknown option is called unknown.
    for name in DataConfig.model_fields:
        if name == "keep_unseen_items":
            continue
        capsys.readouterr()
        call(command, "x", "--out", "y", "--" + name.replace("_", "-"))
        assert "No such option" not in capsys.readouterr().err


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from llm_esr.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules or 'polars' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        ["run", "e.csv", "--out", "o", "--set", "train.epochs=-1"],
        ["run", "e.csv", "--out", "o", "--models", "no-such-model"],
        ["run", "e.csv", "--out", "o", "--seeds", "a"],
        ["demo", "--set", "model.width=-1"],
        ["train", "data", "--set", "train.loss=x"],
        ["evaluate", "o", "--k", "0"],
        ["evaluate", "o", "--set", "evaluate.candidates=x"],
        ["embed", "data", "--set", "embed.dtype=x"],
        ["index", "data", "--k", "0", "--set", "index.similar_items=-1"],
    ],
)
def test_a_wrong_setting_is_refused_before_torch_is_imported(line: list[str]) -> None:
    code = (
        "import sys\nfrom llm_esr.cli import main\n"
        f"try:\n    main({line!r})\nexcept SystemExit as left:\n    assert left.code == 2\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("error: "), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_terminal_is_one_error() -> None:
    line = [sys.executable, "-m", "llm_esr", "run", "--help"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: what is printed could not be written: No space left on device; print it where there is room\n"
    )


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"llm-esr {__version__}\n"


def test_a_mistake_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("train", str(tmp_path), "--set", "model.widht=64") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: unknown setting 'model.widht'; did you mean 'model.width'?\n"


def test_debug_shows_where_a_mistake_was_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("train", str(tmp_path), "--set", "model.widht=64", "--debug") == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("did you mean 'model.width'?\n")


def test_an_unknown_option_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "x.csv", "--out", "y", "--ietms", "z") == 2
    said = capsys.readouterr().err
    # Typer's releases differ in the colon and the quotes.
    assert re.match(r"error: No such option(: --ietms| '--ietms')", said)
    assert said.count("\n") == 1


def test_an_interrupt_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("stopped after step 7; the same command goes on from there")

    monkeypatch.setattr("llm_esr.cli.stages.stage_config", interrupted)
    assert call("train", str(tmp_path)) == 130
    said = capsys.readouterr().err
    assert "interrupted: stopped after step 7" in said
    assert "Traceback" not in said


def test_data_options_become_settings_of_their_type() -> None:
    given = settings_from(
        text_columns="title, brand",
        timestamp_column="none",
        validation_from="1700000000",
        test_from="2024-05-01",
        min_user_count=None,
    )
    assert given == {
        "text_columns": ["title", "brand"],
        "timestamp_column": None,
        "validation_from": 1_700_000_000,
        "test_from": "2024-05-01",
    }
    DataConfig(**given)


def test_lists_are_comma_separated() -> None:
    assert numbers("5,10, 20", "--k") == [5, 10, 20]
    assert names("a, b,") == ["a", "b"]
    assert names(None) is None
    with pytest.raises(ValueError, match="--k '5,x'"):
        numbers("5,x", "--k")
