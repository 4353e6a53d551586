"""Tables get into their pages, between the marks of the program that made them and nowhere else."""

from __future__ import annotations

from pathlib import Path

import cascade
import distributed
import memory
import pytest
import train_scale
from pages import publish, with_table

BEGINS, ENDS = (f"<!-- benchmarks/a.py {word} -->" for word in ("begins", "ends"))


def test_the_table_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    other = "<!-- benchmarks/b.py begins -->\nanother\n<!-- benchmarks/b.py ends -->"
    page.write_text(f"before\n{BEGINS}\nan old one\n{ENDS}\nafter\n{other}\n")
    assert with_table(page, "benchmarks/a.py", "a new one") == f"before\n{BEGINS}\na new one\n{ENDS}\nafter\n{other}\n"


def test_a_page_without_its_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a page\n")
    with pytest.raises(SystemExit, match=r"marks of benchmarks/a\.py, found 0"):
        with_table(page, "benchmarks/a.py", "a table")


def test_a_page_is_looked_at_before_anything_is_measured_and_written_only_if_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGINS}\n{ENDS}\n")
    publish(lambda: "a table", page, "benchmarks/a.py", save=False)
    assert page.read_text() == f"{BEGINS}\n{ENDS}\n"
    publish(lambda: "a table", page, "benchmarks/a.py", save=True)
    assert page.read_text() == f"{BEGINS}\na table\n{ENDS}\n"
    assert capsys.readouterr().out == "a table\n" * 2

    def measured() -> str:
        raise AssertionError("measured for a page that has no place for it")

    with pytest.raises(SystemExit):
        publish(measured, page, "benchmarks/b.py", save=True)


@pytest.mark.parametrize("program", [cascade, distributed, memory, train_scale])
def test_the_pages_of_the_documentation_have_their_marks(program: object) -> None:
    with_table(program.PAGE, program._PROGRAM, "")  # type: ignore[attr-defined]
