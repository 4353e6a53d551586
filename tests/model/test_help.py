"""`--help` shows what was written, in every command of every room: nothing of it is taken for markup and left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from tocsin.cli.main import app

# So wide that nothing is wrapped; a terminal without colours.
WIDE = {"COLUMNS": "3000", "TERM": "dumb"}


def commands(command: Any, context: typer.Context, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    """Every command with the words it is called by."""
    yield names, command
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), context, *names, name)


def written(command: Any) -> Iterator[str]:  # noqa: ANN401
    """Paragraphs of its help and that of its options as they stand in the source."""
    for said in (command, *command.params):
        for paragraph in (getattr(said, "help", None) or "").split("\n\n"):
            # Escaped on the way, lest it be taken for markup.
            yield paragraph.replace("\\[", "[")


def plain(text: str) -> str:
    """Without white space, and without what Markdown makes bold or sets in another type."""
    return "".join(text.replace("`", "").replace("*", "").split())


def test_every_word_of_the_help_is_shown() -> None:
    root = typer.main.get_command(app)
    found = list(commands(root, typer.Context(root)))
    assert {"score", "train", "data", "corpus"} <= {names[0] for names, _ in found if names}
    for names, command in found:
        shown = CliRunner().invoke(app, [*names, "--help"], env=WIDE)
        assert shown.exit_code == 0, shown.output
        for paragraph in written(command):
            assert plain(paragraph) in plain(shown.output), f"tocsin {' '.join(names)} --help"


def test_what_stands_in_brackets_is_shown() -> None:
    shown = " ".join(CliRunner().invoke(app, ["score", "--help"], env=WIDE).output.split())
    assert "needs tocsin[ray]." in shown
    assert "needs tocsin[report]." in shown
    assert "a table [labels] with lines" in CliRunner().invoke(app, ["remap", "--help"], env=WIDE).output
