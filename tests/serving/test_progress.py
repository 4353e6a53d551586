"""What a job says of itself while it runs: the numbers, the file at work, and a line where there is no terminal."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from tocsin import InputError
from tocsin_serving.batch import FileSummary, JobOptions, job, plan
from tocsin_serving.batch.outputs import FilePair
from tocsin_serving.batch.progress import Display


def pairs_of(folder: Path, *names: str) -> list[FilePair]:
    (folder / "in").mkdir()
    for name in names:
        (folder / "in" / name).write_text("text\n" + 'An airstrike.\n" "\n' * 30)
    return plan(folder / "in", folder / "out")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rows_that_were_kept_are_not_this_run_s_speed(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_serving.batch.csv_format.CHUNK_ROWS", 20)
    pairs, seen = pairs_of(tmp_path, "a.csv"), list[FileSummary]()

    def stop(summary: FileSummary, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(pairs, JobOptions(release=str(tiny_release)), stop)
    begun = time.monotonic()
    job.run(pairs, JobOptions(release=str(tiny_release), resume=True), lambda summary, share: seen.append(summary))
    assert [(summary.rows_read, summary.rows_rejected, summary.rows_kept) for summary in seen] == [
        (40, 20, 20),
        (60, 30, 20),
    ]
    assert 0 < seen[0].seconds < seen[1].seconds < time.monotonic() - begun
    assert seen[1].rows_per_second == pytest.approx(40 / seen[1].seconds)


def test_without_a_terminal_a_line_comes_every_half_minute(tmp_path: Path) -> None:
    first, second = pairs_of(tmp_path, "a.csv", "b.csv")
    written, clock = io.StringIO(), Clock()
    with Display([first, second], Console(file=written, width=300), clock=clock) as show:
        for clock.now in range(16, 113, 16):
            seen = FileSummary(first, rows_read=clock.now * 100, rows_rejected=clock.now, seconds=clock.now)
            show(seen, clock.now / 128)
        clock.now = 144
        show(FileSummary(second, rows_read=5000, rows_kept=2000, rows_rejected=7, seconds=30), 0.5)
        show(FileSummary(second, InputError("b.csv cannot be read")), 1.0)
    a, b = first.source_name, second.source_name
    assert written.getvalue().splitlines() == [
        "0 of 2 files: 3,200 rows, 32 rejected, 12%, 4 min to go; "
        f"{a}: 3,200 rows, 32 rejected, 100 rows/s, 25%, 96 s to go",
        "0 of 2 files: 6,400 rows, 64 rejected, 25%, 3 min to go; "
        f"{a}: 6,400 rows, 64 rejected, 100 rows/s, 50%, 64 s to go",
        "0 of 2 files: 9,600 rows, 96 rejected, 38%, 3 min to go; "
        f"{a}: 9,600 rows, 96 rejected, 100 rows/s, 75%, 32 s to go",
        f"1 of 2 files: 16,200 rows, 119 rejected, 75%, 47 s to go; {b}: 5,000 rows, 7 rejected, 100 rows/s, 50%",
        "Left out: b.csv cannot be read",
    ]


@pytest.mark.parametrize("known", [True, False])
def test_of_all_files_each_is_the_share_that_its_bytes_are(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = pairs = pairs_of(tmp_path, "a.csv", "b.csv")
    if known:
        (tmp_path / "in" / "b.csv").write_text("text\n" + "x" * (9 * (tmp_path / "in" / "a.csv").stat().st_size - 5))
    else:
        (tmp_path / "in" / "b.csv").unlink()
    written = io.StringIO()
    with Display(pairs, Console(file=written, width=300), every=0) as show:
        show(FileSummary(small, rows_read=100, seconds=1), 1.0)
        show(FileSummary(large, rows_read=100, seconds=1), 0.5)
    first, second = (line.partition(";")[0] for line in written.getvalue().splitlines())
    assert ", 10%" in first if known else ", 50%" in first
    assert ", 55%" in second if known else ", 75%" in second


def test_on_a_terminal_there_is_a_bar_for_all_files_and_one_for_the_one_at_work(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, *(f"{n:02}.csv" for n in range(60)))
    written = io.StringIO()
    console = Console(file=written, width=300, force_terminal=True)
    show = Display(pairs, console)
    for pair in (pairs[39], pairs[40]):
        show(FileSummary(pair, rows_read=3000, rows_rejected=30, seconds=10), 0.5)
    console.print(show._bars.get_renderable())
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    assert "40 of 60 files" in lines[0]
    assert pairs[40].source_name in lines[1]
    assert "3,000 rows, 30 rejected, 300 rows/s" in lines[1]


def test_where_stderr_is_for_rejects_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pair,) = pairs_of(tmp_path, "a.csv")
    clock = Clock()
    with Display([pair], None, clock=clock) as show:
        clock.now = 100
        show(FileSummary(pair, rows_read=10, seconds=1), 0.5)
    assert capsys.readouterr().err == ""
