"""How processes are measured side by side, with workers of a few lines in place of the library."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import speed
from speed import in_processes

# Notes when it is ready and when it begins; a text is the file for that, the first worker takes its time.
_NOTES = """
import json, sys, time
note, wait = json.loads(sys.stdin.readline())[0].split("|")
time.sleep(float(wait))
with open(note, "a") as file:
    file.write("ready ")
print("ready", flush=True)
sys.stdin.readline()
with open(note, "a") as file:
    file.write("begin ")
print(0.5)
"""
_LAST_FAILS = """
import json, sys
text = json.loads(sys.stdin.readline())[0]
print("ready", flush=True)
sys.stdin.readline()
print(0.5 if text == "good" else sys.exit(3))
"""


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CORES", 3)


def test_processes_begin_when_all_are_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_WORKER", _NOTES)
    note = tmp_path / "note"
    rate = in_processes([f"{note}|{wait}" for wait in (0.5, 0, 0)])
    assert re.fullmatch("(ready ){3}(begin ){3}", note.read_text())
    assert rate == pytest.approx(3 / 0.5)


@pytest.mark.parametrize("script", [_LAST_FAILS, "raise SystemExit(3)"])
def test_a_process_that_fails_leaves_no_figure_of_the_others(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_WORKER", script)
    with pytest.raises(SystemExit, match="failed with 3"):
        in_processes(["good", "good", "bad"])
