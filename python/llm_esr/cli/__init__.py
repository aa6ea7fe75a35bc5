"""The command line: `llm-esr`, a command for each stage, each use of a model, and whole runs.

A mistake of the user is one line, `error: ...`, and exit code 2; `--debug` shows where it came from.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, TextIO

import typer
from pydantic import ValidationError

from llm_esr import __version__
from llm_esr.cli import models, new_items, runs, search, serving, settings, stages
from llm_esr.cli.terminal import mend_width
from llm_esr.config import describe_errors
from llm_esr.doors import Terminated, UnforeseenError, at_the_command_line
from llm_esr.files import printable
from llm_esr.files.refusals import FULL

MISTAKE = 2
INTERRUPTED = 130
TERMINATED = 143
UNFORESEEN = 70
_ONE_PROCESS = {"prepare", "convert", "embed", "index", "run", "demo", "add-items", "export", "tune"}  # they write

# Typer carries its own copy of click in new releases and uses click's in old ones; the class is found, not imported.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="llm-esr",
    help="Sequential recommendation for the long tail: LLM embeddings, dual views, self-distillation.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
stages.register(app)
models.register(app)
serving.register(app)
new_items.register(app)
runs.register(app)
search.register(app)
settings.register(app)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere in the line).")
    ] = False,
) -> None:
    # --debug is read from the whole line in `main`; it stands here for the help page.
    if version:
        typer.echo(f"llm-esr {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif context.invoked_subcommand in _ONE_PROCESS and os.environ.get("WORLD_SIZE", "1") != "1":
        if os.environ.get("RANK", "0") != "0":
            raise typer.Exit(MISTAKE)  # rank 0 says it
        raise ValueError(
            f"{context.invoked_subcommand} takes one process, and WORLD_SIZE is {os.environ['WORLD_SIZE']}; train and "
            "evaluate under torchrun, and do the rest without it"
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    warnings.showwarning = _one_line_warning
    mend_width()
    code = 0
    try:
        # `app()` would turn Ctrl-C into a bare exit code; its two steps leave the exceptions to us.
        command = typer.main.get_command(app)
        with (
            at_the_command_line(),
            _terminated_in_words(),
            command.make_context("llm-esr", [a for a in given if a != "--debug"]) as context,
        ):
            command.invoke(context)
    except typer.Exit as left:
        code = left.exit_code
    except _UsageError as error:
        name = error.ctx.command_path if error.ctx is not None else "llm-esr"
        _complain(f"{error.format_message()} (see `{name} --help`)")
        code = MISTAKE
    except ValidationError as error:
        code = _mistake(describe_errors(error), debug)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has had enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # With PYTHONWARNINGS=error a warning is raised, and says as much as a mistake does.
    except (ValueError, OSError, ImportError, Warning) as error:
        code = _mistake(_message(error), debug)
    except SystemExit:
        raise
    except (KeyboardInterrupt, typer.Abort) as error:
        _complain(str(error) or "the same command goes on with what is missing", "interrupted")
        code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except BaseException as error:  # also a panic, which is no `Exception`
        code = _unforeseen(error, given, debug)
    sys.exit(code)


@contextmanager
def _terminated_in_words() -> Iterator[None]:
    """Let SIGTERM end what runs as Ctrl-C does, with a line and nothing half written; trainings and servers hear it."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unforeseen(error: BaseException, given: list[str], debug: bool) -> int:
    """What nobody thought of: the last line of defence."""
    if debug:
        traceback.print_exc()
    hint = "" if debug else " with what --debug shows"
    error = error.__cause__ if isinstance(error, UnforeseenError) and error.__cause__ is not None else error
    said = " ".join(str(error).split())[:300]
    _complain(
        f"llm-esr {shlex.join(given)}: {type(error).__name__}: {said or 'no message'}; this should have been a clear "
        f"message: please report it{hint}",
        "unforeseen error",
    )
    return UNFORESEEN


def _mistake(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    _complain(message)
    return MISTAKE


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"what is printed could not be written: {error.strerror}; print it where there is room"
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line) or type(error).__name__


def _complain(message: str, kind: str = "error") -> None:
    print(printable(f"{kind}: {message}"), file=sys.stderr)


def _one_line_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning | RuntimeWarning):
        print(printable(f"warning: {message}"), file=file or sys.stderr)
