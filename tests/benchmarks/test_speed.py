"""How commands and processes are measured, with some of a few lines in place of the library."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import speed
from memory import Source, make
from peers import Speed
from speed import as_made, in_processes, peak_memory, tried

from tocsin import Release

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


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match="failed with 1: no such file"):
        peak_memory([sys.executable, "-c", "raise SystemExit('no such file')"])


@pytest.mark.parametrize("error", [RuntimeError("503"), SystemExit("503")])
def test_what_cannot_be_measured_is_a_row_with_the_reason(error: BaseException) -> None:
    def fails() -> list[speed.Row]:
        raise error

    assert tried("HTTP", fails) == [("HTTP", "not measured", "503")]


def test_a_table_names_the_options_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["speed.py", "--save", "--peers"])
    assert as_made("bench") == "make bench ARGS='--save --peers'"
    monkeypatch.setattr(sys, "argv", ["speed.py"])
    assert as_made("bench") == "make bench"


def test_the_saved_table_names_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(speed, "ROOT", tmp_path)
    speed.report([("library", "1 texts/s", "")], 2000, save=True)
    saved = (tmp_path / "benchmarks" / "speed.md").read_text(encoding="utf-8")
    assert f"release {Release.open().name}, 2000 texts" in saved


def test_a_job_meets_no_text_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[list[str]] = []

    def job(texts: Sequence[str]) -> tuple[float, int]:
        jobs.append(list(texts))
        return 1.0, 1

    monkeypatch.setattr(speed, "batch_job", job)
    monkeypatch.setattr(speed, "hugging_face_pipeline", lambda folder, texts: Speed(1, 1))
    monkeypatch.setattr(speed, "PEERS", ())
    texts = speed.corpus_texts(4000)
    list(speed.compared(tmp_path, speed.of_all_lengths(texts), install=False))
    (met,) = jobs
    assert len(met) == len(set(met)) >= 10 * len(texts)


def test_texts_of_all_lengths_are_headlines_texts_and_paragraphs_in_no_order() -> None:
    texts = speed.corpus_texts(600)
    mixed = speed.of_all_lengths(texts)
    assert len(mixed) == len(texts)
    assert max(len(text.split()) for text in mixed[::3]) <= 10
    assert sorted(mixed[1::3]) != mixed[1::3] and set(mixed[1::3]) <= set(texts)
    assert all(sum(text in paragraph for text in texts) >= 3 for paragraph in mixed[2::3][:20])
    # What is slow reads every fifth: of all three kinds alike.
    few = mixed[::5]
    assert sum(len(text.split()) <= 10 for text in few) >= len(few) // 3


@pytest.mark.parametrize("beside", [0, 200])
@pytest.mark.parametrize("name", ["in.parquet", "in.csv"])
def test_a_file_is_of_the_size_that_was_asked_for(name: str, beside: int, tmp_path: Path) -> None:
    size = 5_000_000
    rows = make(tmp_path / name, Source(size, name.partition(".")[2], beside))
    texts = speed.corpus_texts(100)
    assert sum(len(text.encode()) + beside for text in texts) * rows / 100 == pytest.approx(size, rel=0.01)
    if name == "in.csv":
        assert (tmp_path / name).read_text(encoding="utf-8").count("\n") == rows + 1
    if name == "in.parquet":
        assert pq.read_metadata(tmp_path / name).num_rows == rows
