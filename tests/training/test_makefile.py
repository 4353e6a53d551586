"""What `make` runs for people's own files; make only says it, nothing is run."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from synthetic import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def said(*arguments: str) -> str:
    """The last command that make would run, be it that a make runs this test."""
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("train", "DATA=a.csv b.xlsx"), "tocsin train --data a.csv --data b.xlsx"),
        (
            ("train", "DATA=a.csv", "ARGS=--split-by date --mix 0.3"),
            "tocsin train --data a.csv --split-by date --mix 0.3",
        ),
        (("train",), "tocsin train"),
        (("train-tiny", "DATA=a.csv"), "tocsin train --config training/train-tiny.toml --data a.csv"),
        (
            ("train-tiny", "DATA=a.csv b.csv", "ARGS=--name look"),
            "tocsin train --config training/train-tiny.toml --data a.csv --data b.csv --name look",
        ),
    ],
)
def test_each_file_is_given_to_the_command_with_the_options_behind(arguments: tuple[str, ...], command: str) -> None:
    assert " ".join(said(*arguments).split()) == f".venv/bin/{command}"


def test_a_name_with_a_blank_goes_to_the_command_itself_and_the_makefile_says_so() -> None:
    assert said("train", "DATA=my file.csv").split().count("--data") == 2
    assert 'tocsin train --data "my file.csv"' in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "holds a blank" in (ROOT / "docs" / "retraining.md").read_text(encoding="utf-8")
