"""What the table of memory says, and that it gets into its page."""

from __future__ import annotations

import sys
from pathlib import Path

import memory
import pytest
from memory import Measured, as_table, with_table


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "batch.md"
    monkeypatch.setattr(memory, "PAGE", made)
    return made


def test_the_table_has_a_line_for_each_number_of_workers_and_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["memory.py", "--workers", "1", "8"])
    took = Measured(rows=3000, seconds=2.0, peak=400_000_000)
    table = as_table([("5 MB csv", workers, took) for workers in (1, 8)])
    assert "make bench-memory ARGS='--workers 1 8'" in table
    assert table.endswith("| 5 MB csv | 1 | 3,000 | 1,500 | 400 MB |\n| 5 MB csv | 8 | 3,000 | 1,500 | 400 MB |")


def test_the_table_stands_between_its_marks(page: Path) -> None:
    begins, ends = (f"<!-- benchmarks/memory.py {word} -->" for word in ("begins", "ends"))
    page.write_text(f"before\n{begins}\nan old one\n{ends}\nafter\n")
    assert with_table("a new one") == f"before\n{begins}\na new one\n{ends}\nafter\n"
    page.write_text("a page\n")
    with pytest.raises(SystemExit, match="marks"):
        with_table("a table")


def test_the_page_of_the_documentation_has_its_marks() -> None:
    with_table("")
