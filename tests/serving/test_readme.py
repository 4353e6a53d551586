"""What the README tells people to run, run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:3000"


@pytest.fixture
def clone(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """An environment for commands run in a fresh clone, after `make serve` and with its commands on the PATH."""
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "tocsin").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tocsin.cli.main "$@"\n')
    (commands / "tocsin").chmod(0o755)
    return {**environment, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}


def shell_lines(*programs: str) -> list[str]:
    """The README's commands that begin with one of some programs, in order, without those that need a store."""
    lines = [line.strip() for line in README.splitlines() if line.startswith("    ")]
    return [line for line in lines if line.partition(" ")[0] in programs and "s3://" not in line]


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_the_client_prints_what_the_readme_says(live: str, tmp_path: Path, environment: dict[str, str]) -> None:
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "SyncHTTPClient" in block)
    (printed,) = re.findall(r"prints `(\[\[.*?)`", README)
    script = code.replace(ADDRESS, live)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == printed, done.stderr


def test_the_lines_about_files_run_in_a_fresh_clone(tmp_path: Path, clone: dict[str, str]) -> None:
    for command in shell_lines("printf", "tocsin", "zcat", "gzip"):
        run(command, tmp_path, clone)
    labelled = (tmp_path / "labelled.csv").read_text(encoding="utf-8").splitlines()
    assert len(labelled) == 3
    assert "shelling_artillery_missile_attack" in labelled[1]
    assert (tmp_path / "from_a_pipe.csv").read_text(encoding="utf-8").splitlines() == labelled


@pytest.mark.skipif(shutil.which("jq") is None or shutil.which("curl") is None, reason="needs jq and curl")
def test_the_stream_of_lines_is_answered_line_by_line(live: str, tmp_path: Path, clone: dict[str, str]) -> None:
    (command,) = shell_lines("jq")
    assert ADDRESS in command
    answers = run(command.replace(ADDRESS, live), tmp_path, clone).splitlines()
    (source,) = re.findall(r"datasets/\S+\.jsonl", command)
    assert len(answers) == len((ROOT / source).read_text(encoding="utf-8").splitlines())
    assert not any('"error"' in answer for answer in answers)
