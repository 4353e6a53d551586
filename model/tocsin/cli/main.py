"""Entry point of the `tocsin` command: the library's own sub-commands and those that installed extras hang in.

Exit codes: 0 done, 1 the work failed, 2 the command was put together wrongly.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperGroup

from tocsin.cli.classify import classify
from tocsin.cli.console import err
from tocsin.cli.info import info
from tocsin.errors import TocsinError, UsageError, how_to_install

# What to install for a sub-command that lives in another room.
_EXTRAS = {"tocsin_serving": "serve", "tocsin_training": "train"}


class _LazyGroup(TyperGroup):
    """Loads only the sub-command that was asked for: `tocsin classify` never pays for torch or bentoml."""

    def list_commands(self, ctx: object) -> list[str]:
        return [*self.commands, *sorted(_extra_commands())]

    def get_command(self, ctx: object, cmd_name: str) -> object:  # type: ignore[override]
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        entry_point = _extra_commands().get(cmd_name)
        return None if entry_point is None else _load(entry_point)


def _extra_commands() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group="tocsin.commands")}


def _load(entry_point: EntryPoint) -> object:
    """A command from a plain function, or a group from a Typer app."""
    target = entry_point.load()
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command()(function)
    command = typer.main.get_command(target)
    command.name = entry_point.name
    _take_literally(command)
    return command


def _take_literally(command: Any) -> None:  # noqa: ANN401  click's, of which Typer brings its own
    """Show help as it is written: Rich takes what is in brackets, as in tocsin[ray], for markup and leaves it out."""
    for said in (command, *command.params):
        if getattr(said, "help", None):
            said.help = escape(said.help)
    for below in getattr(command, "commands", {}).values():
        _take_literally(below)


app = typer.Typer(
    cls=_LazyGroup,
    name="tocsin",
    help="Reads news text and says which conflict events it reports, in ACLED's vocabulary.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(classify)
app.command()(info)


def main() -> None:
    """Run the command; errors meant for people become one plain message on stderr."""
    try:
        app()
    except TocsinError as error:
        _fail(str(error), code=2 if isinstance(error, UsageError) else 1)
    except ModuleNotFoundError as error:
        entry_point = _extra_commands().get(sys.argv[1] if len(sys.argv) > 1 else "")
        if entry_point is None:
            raise
        extra = _EXTRAS[entry_point.module.partition(".")[0]]
        _fail(f"`tocsin {entry_point.name}` needs {error.name}: {how_to_install(extra)}", code=2)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and there is nobody left to tell.
        _drop_output()
        sys.exit(0)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)


def _fail(message: str, code: int) -> NoReturn:
    err.print(f"[bold red]error:[/] {escape(message)}")
    try:
        sys.stdout.flush()
    except OSError:
        # What could not be written has been told of; Python would try again, and complain, when it ends.
        _drop_output()
    sys.exit(code)


def _drop_output() -> None:
    """Send what is still to go to stdout nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
