"""What the table of engines says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from distributed import Job, as_table, core_seconds, measured, passing_on

from tocsin import Release


@pytest.mark.parametrize("start_up", [0.0, 10.0])
def test_start_up_is_no_part_of_what_a_text_costs(start_up: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.available_cores", lambda: 1)  # what a text costs is told with every core at work
    job = Job(whole=start_up + 8.0, part=start_up + 2.0)
    assert core_seconds(job, texts=8000, workers=1) == pytest.approx(0.001)
    jobs = {("local", 1): job, ("ray", 1): job}
    table = as_table(jobs, 8000, [1], passed_on=0.00001)
    assert "| 1.00 | 278 |" in table
    assert f"release {Release.open().name}" in table
    assert (
        "0.010 CPU seconds to read and write 1,000 texts, which makes 100,000 a second by CPU time alone: as many as "
        "100 cores" in table
    )


def test_no_cost_is_given_where_more_texts_took_no_longer() -> None:
    job = Job(whole=2.0, part=2.1)
    table = as_table({("local", 1): job, ("ray", 1): job}, 8000, [1], passed_on=0.00001)
    assert "| - | - |" in table
    assert "cores score" not in table


def test_what_is_passed_on_costs_no_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed._ROWS_PASSED_ON", 2000)
    assert 0 < passing_on(tmp_path / "texts") < 0.001
    assert len((tmp_path / "texts" / "out.jsonl").read_bytes().splitlines()) == 2000


def test_a_job_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such engine >&2\nexit 2\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SystemExit, match="no such engine"):
        measured(tmp_path, "ray", 2)
