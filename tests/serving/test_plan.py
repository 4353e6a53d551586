"""Which files a job reads and writes: none left out without a word, none that is read written over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tocsin import InputError, UsageError
from tocsin_serving.batch import plan
from tocsin_serving.batch.outputs import FilePair
from tocsin_serving.batch.report import check_report


def files(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\nAn airstrike.\n")


def names(pairs: list[FilePair], folder: Path) -> list[str]:
    return sorted(str(pair.source.relative_to(folder)) for pair in pairs if isinstance(pair.source, Path))


def test_an_output_that_links_to_an_input_is_refused(tmp_path: Path) -> None:
    files(tmp_path / "in" / "a.csv", tmp_path / "in" / "b.csv")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.csv").symlink_to("../in/a.csv")
    with pytest.raises(UsageError, match=r"out/b\.csv would be written, but it is .*in/a\.csv, which is read"):
        plan(tmp_path / "in", tmp_path / "out")


def test_an_output_that_is_another_input_is_refused(tmp_path: Path) -> None:
    files(tmp_path / "in" / "x.csv", tmp_path / "in" / "in" / "x.csv")
    with pytest.raises(UsageError, match=r"in/x\.csv would be written, but it is read"):
        plan(tmp_path / "in", tmp_path)


@pytest.mark.parametrize("ending", ["rejects.jsonl", "manifest.json"])
def test_rejects_and_manifest_that_are_the_input_are_refused(ending: str, tmp_path: Path) -> None:
    source = tmp_path / f"x.jsonl.{ending}"
    files(source)
    with pytest.raises(UsageError, match="would be written, but it is read"):
        plan(source, tmp_path / "x.jsonl", "jsonl")


def test_other_files_beside_the_input_are_no_reason_to_refuse(tmp_path: Path) -> None:
    files(tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "out.csv.rejects.jsonl")
    (pair,) = plan(tmp_path / "in.csv", tmp_path / "out.csv")
    assert pair.target == tmp_path / "out.csv"


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("taken", ["in.html", "out.html", "out.html.rejects.jsonl", "out.html.manifest.json"])
def test_a_report_that_would_replace_what_the_job_reads_or_writes_is_refused(
    taken: str, link: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    files(tmp_path / "in.html")
    pairs = plan(tmp_path / "in.html", tmp_path / "out.html", "csv")
    check_report(tmp_path / "report.html", pairs, overwrite=False)
    for overwrite in (True, False):
        if taken.endswith(".html"):
            with pytest.raises(UsageError, match=rf"would replace .*{taken}, which this job reads or writes"):
                check_report(tmp_path / taken, pairs, overwrite=overwrite)
    files(tmp_path / taken)
    link(tmp_path / taken, tmp_path / "linked.html")
    with pytest.raises(UsageError, match=rf"linked\.html would replace .*{taken}"):
        check_report(tmp_path / "linked.html", pairs, overwrite=True)


@pytest.mark.parametrize("pattern", ["", "**/*.csv", "*/*.csv"])
def test_a_folder_that_cannot_be_listed_is_refused(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path / "in" / "seen" / "a.csv", tmp_path / "in" / "2025" / "b.csv")
    scandir = os.scandir

    def locked(path: Any = ".") -> Any:  # noqa: ANN401
        # Root may list anything, whatever its mode.
        if str(path).endswith("2025"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(InputError, match=r"in/2025 cannot be listed: Permission denied"):
        plan(str(tmp_path / "in" / pattern), tmp_path / "out")


@pytest.mark.parametrize("pattern", ["", "*.csv", "**/*.csv"])
def test_a_link_to_nothing_is_refused_where_it_is_called_like_an_input(pattern: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    files(folder / "a.csv")
    (folder / "notes.txt").symlink_to("gone")
    assert names(plan(str(folder / pattern), tmp_path / "out"), folder) == ["a.csv"]
    (folder / "b.csv").symlink_to("gone")
    with pytest.raises(InputError, match=r"b\.csv is a link to a file that is not there"):
        plan(str(folder / pattern), tmp_path / "out")


@pytest.mark.parametrize("pattern", ["", "**/*"])
def test_files_that_are_left_out_are_named(pattern: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    ours = ("a.csv.manifest.json", "a.csv.rejects.jsonl", ".hidden.txt")
    files(*(folder / name for name in ("a.csv", "b.tsv", "c.ndjson", "d.txt", "deep/e.csv.bz2", *ours)))
    left_out: list[str] = []
    found = plan(str(folder / pattern), tmp_path / "out", left_out=left_out.extend)
    assert names(found, folder) == ["a.csv", "b.tsv", "c.ndjson"]
    assert left_out == [str(folder / "d.txt"), str(folder / "deep" / "e.csv.bz2")]


@pytest.mark.parametrize("pattern", ["", "*"])
def test_a_format_that_is_given_holds_for_all_files_of_a_folder(pattern: str, tmp_path: Path) -> None:
    folder, left_out = tmp_path / "in", list[str]()
    files(folder / "a.csv", folder / "b.txt", folder / "c", folder / "a.csv.manifest.json")
    found = plan(str(folder / pattern), tmp_path / "out", "csv", left_out=left_out.extend)
    assert names(found, folder) == ["a.csv", "b.txt", "c"]
    assert {(str(pair.source_format), str(pair.target_format)) for pair in found} == {("csv", "csv")}
    assert left_out == []
    files(folder / "d.jsonl")
    with pytest.raises(UsageError, match=r"d\.jsonl is jsonl by its name; leave --format csv out"):
        plan(folder, tmp_path / "out", "csv")


def test_linked_folders_are_read_once_for_each_name_and_never_in_circles(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    files(folder / "a.csv", folder / "deep" / "b.csv", tmp_path / "elsewhere" / "c.csv")
    (folder / "2025").symlink_to("../elsewhere")
    (folder / "deep" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "other").symlink_to("../in/deep")
    found = names(plan(folder, tmp_path / "out"), folder)
    assert found == ["2025/c.csv", "2025/other/b.csv", "a.csv", "deep/b.csv"]


def test_names_that_cannot_be_used_are_refused_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path / "in.csv")
    long = tmp_path / ("x" * 300 + ".csv")
    for source in ("-", tmp_path / "in.csv"):
        with pytest.raises(UsageError, match=r"xxx\.csv: File name too long"):
            plan(source, long, "csv")
    with pytest.raises(UsageError, match=r"xxx\.html: File name too long"):
        check_report(long.with_suffix(".html"), [], overwrite=False)
    stat = Path.stat

    def locked(path: Path, **options: Any) -> os.stat_result:  # noqa: ANN401
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", locked)
    with pytest.raises(UsageError, match=r"locked/out\.csv: Permission denied"):
        plan("-", tmp_path / "locked" / "out.csv", "csv")


@pytest.mark.parametrize(("ending", "unpack"), [(".gz", "gunzip"), (".zst", "unzstd"), (".GZ", "gunzip")])
def test_parquet_that_was_packed_once_more_is_refused_with_what_to_do(ending: str, unpack: str, tmp_path: Path) -> None:
    packed = tmp_path / "in" / f"a.parquet{ending}"
    files(tmp_path / "in" / "b.csv", packed, tmp_path / "in" / f".hidden.parquet{ending}")
    message = rf"a\.parquet{ending}: Parquet is compressed within .* leave {ending} out .*{unpack}.*--format parquet"
    for source in (packed, tmp_path / "in", tmp_path / "in" / "*"):
        with pytest.raises(UsageError, match=message):
            plan(source if source == packed else str(source), tmp_path / "out")
    files(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=rf"out\.parquet{ending}: Parquet is compressed within"):
        plan(tmp_path / "a.parquet", tmp_path / f"out.parquet{ending}")
    (pair,) = plan(packed, tmp_path / "out.parquet", "parquet")
    assert str(pair.source_format) == "parquet"
    packed.unlink()
    assert names(plan(tmp_path / "in", tmp_path / "out"), tmp_path / "in") == ["b.csv"]
