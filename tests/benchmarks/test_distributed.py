"""What the table of engines says, and that it gets into its page."""

from __future__ import annotations

import sys
from pathlib import Path

import distributed
import pytest
from distributed import Job, as_table, core_seconds, measured, with_table


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "distributed.md"
    monkeypatch.setattr(distributed, "PAGE", made)
    return made


@pytest.mark.parametrize("start_up", [0.0, 10.0])
def test_start_up_is_no_part_of_what_a_text_costs(start_up: float) -> None:
    job = Job(whole=start_up + 8.0, part=start_up + 2.0)
    assert core_seconds(job, texts=8000, workers=1) == pytest.approx(0.001)
    jobs = {("local", 1): job, ("ray", 1): job}
    assert as_table(jobs, 8000, [1]).endswith("| 1.00 | 278 |")


def test_no_cost_is_given_where_more_texts_took_no_longer() -> None:
    job = Job(whole=2.0, part=2.1)
    assert as_table({("local", 1): job, ("ray", 1): job}, 8000, [1]).endswith("| - | - |")


def test_the_table_stands_between_its_marks(page: Path) -> None:
    begins, ends = (f"<!-- benchmarks/distributed.py {word} -->" for word in ("begins", "ends"))
    page.write_text(f"before\n{begins}\nan old one\n{ends}\nafter\n")
    assert with_table("a new one") == f"before\n{begins}\na new one\n{ends}\nafter\n"


def test_a_page_without_its_marks_is_refused(page: Path) -> None:
    page.write_text("a page\n")
    with pytest.raises(SystemExit, match="marks"):
        with_table("a table")


def test_the_page_of_the_documentation_has_its_marks() -> None:
    with_table("")


def test_a_job_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such engine >&2\nexit 2\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SystemExit, match="no such engine"):
        measured(tmp_path, "ray", 2)
