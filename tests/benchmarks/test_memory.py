"""What the table of memory says."""

from __future__ import annotations

import sys

import pytest
from memory import Measured, as_table


def test_the_table_has_a_line_for_each_number_of_workers_and_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["memory.py", "--workers", "1", "8"])
    took = Measured(rows=3000, peak=400_000_000)
    table = as_table([("5 MB csv", workers, took) for workers in (1, 8)])
    assert "make bench-memory ARGS='--workers 1 8'" in table
    assert "100 texts that repeat" in table
    assert table.endswith("| 5 MB csv | 1 | 3,000 | 400 MB |\n| 5 MB csv | 8 | 3,000 | 400 MB |")
