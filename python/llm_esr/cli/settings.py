"""The command that lists settings: config."""

from __future__ import annotations

import shutil
import textwrap
from typing import Annotated

import typer

from llm_esr.cli.options import SetOption
from llm_esr.config.describe import (
    Setting,
    default_in_words,
    differences_of,
    find_settings,
    presets_that_set,
    redone_by,
    section_meaning,
    section_names,
    settings_of,
    settings_page,
    value_in_words,
)
from llm_esr.files import printable

_WIDEST = 100  # longer lines of words are hard to read


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(config)


def config(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION|SETTING]...", help="Only these; default: all sections.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="SETTING", help="All there is to say of one setting.")
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option("--diff", metavar="PRESET|FILE", help="Where a preset or a YAML file differs from another."),
    ] = None,
    against: Annotated[
        str, typer.Option("--against", metavar="PRESET|FILE", help="What --diff holds it against.")
    ] = "llm-esr",
    set_: SetOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="All of it as the page docs/settings.md.")] = False,
) -> None:
    """List the settings by section: default, values, meaning."""
    if sum([bool(names), explain is not None, diff is not None, markdown]) > 1:
        raise ValueError("config: sections or settings, --explain, --diff and --markdown exclude each other; give one")
    if set_ and diff is None:
        raise ValueError("config: --set is laid over what --diff names; name a preset or a file with --diff")
    if markdown:
        typer.echo(settings_page(), nl=False)
    elif explain is not None:
        for number, setting in enumerate(find_settings(explain)):
            _explain(setting, first=number == 0)
    elif diff is not None:
        _show_differences(diff, against, set_ or [])
    elif names:
        for setting in [setting for name in names for setting in find_settings(name)]:
            _show(setting)
    else:
        for section in section_names():
            _say(f"{section}: {section_meaning(section)}")
            for setting in settings_of(section):
                _show(setting)
            typer.echo()


def _show(setting: Setting) -> None:
    typer.echo(f"  {setting.name} = {default_in_words(setting)}")
    _say(f"{setting.meaning} [{setting.allowed}]", indent=6)


def _explain(setting: Setting, *, first: bool) -> None:
    if not first:
        typer.echo()
    typer.echo(setting.name)
    _say(setting.meaning, indent=2)
    _say(f"default: {default_in_words(setting)}", indent=2)
    _say(f"values:  {setting.allowed}", indent=2)
    if others := presets_that_set(setting):
        _say("presets: " + ", ".join(f"{name} {value_in_words(value)}" for name, value in others.items()), indent=2)
    _say(f"section: {setting.section}, {redone_by(setting.section)}", indent=2)
    shown = value_in_words(setting.default)
    _say(
        f"set it:  --set {setting.name}={shown}, or in a YAML file {setting.section}: {{{setting.key}: {shown}}}",
        indent=2,
    )


def _show_differences(one: str, other: str, overrides: list[str]) -> None:
    found = differences_of(one, other, overrides)
    if not found:
        typer.echo(printable(f"{one} has the same settings as {other}"))
        return
    _say(f"{len(found)} settings of {one} differ from {other}'s:")
    for setting, mine, theirs in found:
        _say(f"{setting.name}: {value_in_words(mine)} ({other}: {value_in_words(theirs)})", indent=2)


def _say(text: str, indent: int = 0) -> None:
    """A paragraph, broken at the terminal's width."""
    width = min(_WIDEST, shutil.get_terminal_size((80, 24)).columns)
    space = " " * indent
    lines = textwrap.wrap(printable(text), max(width, 40), initial_indent=space, subsequent_indent=space + "  ",
                          break_on_hyphens=False, break_long_words=False)  # fmt: skip
    typer.echo("\n".join(lines))
