"""What is projected of imports that nobody waits for, and what the table says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pages import with_table
from prepare import PAGE, Taken, as_table, disk_use, projected, watched

PART = Taken(150_000, 60_000_000, 32.0, 2.0, 400_000_000, 150_000_000, 0.23)
WHOLE = Taken(600_000, 240_000_000, 130.0, 3.0, 400_000_000 + 450_000 * 100, 600_000_000, 0.23)


def test_time_and_disk_grow_with_the_file_and_memory_with_the_rows_beyond_those_measured() -> None:
    more = projected(PART, WHOLE, 2_400_000_000)
    assert (more.rows, more.seconds, more.disk_bytes) == (6_000_000, 1_300.0, 6_000_000_000)
    assert more.memory_bytes == WHOLE.memory_bytes + 5_400_000 * 100


def test_memory_that_does_not_grow_is_not_projected_to_grow() -> None:
    flat = replace(WHOLE, memory_bytes=PART.memory_bytes - 1)
    assert projected(PART, flat, 2_400_000_000).memory_bytes == flat.memory_bytes


def test_the_table_tells_what_was_projected_and_gets_into_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--save"])
    table = as_table(PART, WHOLE, projected(PART, WHOLE, 2_400_000_000))
    assert "| 2,400 MB (projected) | 6,000,000 | 21.7 minutes | 4,615 | 30 s | 985 MB | 6.00 GB |" in table
    assert table.count("projected") == 1 and "make bench-prepare ARGS=--save" in table
    assert table in with_table(PAGE, "benchmarks/prepare.py", table)


def test_the_most_that_a_folder_held_is_seen_though_it_is_gone_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prepare._LOOKED_EVERY", 0.01)
    big = tmp_path / "big"
    with watched(tmp_path) as sizes:
        big.write_bytes(b"x" * 1_000_000)
        while max(sizes) < 1_000_000:
            pass
        big.unlink()
    assert sizes[-1] == disk_use(tmp_path) < 1_000_000
