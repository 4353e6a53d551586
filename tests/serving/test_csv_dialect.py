"""CSV as others write it: any delimiter, quote, escape and encoding, and the output in the same."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import make_tiny_release
from typer.testing import CliRunner

from tocsin import InputError, UsageError
from tocsin.cli.main import app
from tocsin_serving.batch import FileSummary, JobOptions, job, plan, score_file
from tocsin_serving.batch.dialect import Dialect
from tocsin_serving.batch.report import output_rows

QUOTED = 'He said "stop, now" after an airstrike'
# Name -> input, options, and how Python's csv reads it.
CASES: dict[str, tuple[bytes, dict[str, str], dict[str, Any]]] = {
    "caret": (b'id^text^n\n1^"a ^ strike"^x\n', {}, {"delimiter": "^"}),
    "Hive": (b"id\x01text\x01n\n1\x01a strike, here\x01x\n", {}, {"delimiter": "\x01"}),
    "given": (b"id:text:n\n1:a strike:x\n", {"delimiter": ":"}, {"delimiter": ":"}),
    "tab by name": (b"id\ttext\tn\n1\ta, strike\tx\n", {"delimiter": "tab"}, {"delimiter": "\t"}),
    "by number": (b"id#text#n\n1#a strike#x\n", {"delimiter": "\\x23"}, {"delimiter": "#"}),
    "single quotes": (b"id,text,n\n1,'a ''strike'', \"here\"',x\n", {"quote": "'"}, {"quotechar": "'"}),
    "escapes": (
        rb"id,text,n" + b"\n" + rb'1,"He said \"stop, now\" \\ after an airstrike",x' + b"\n",
        {"escape": "\\"},
        {"escapechar": "\\", "doublequote": False},
    ),
    "no quotes": (
        b'id\ttext\tn\n1\t"a" strike" \tx\n',
        {"quote": "none"},
        {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None},
    ),
    "no quotes, escapes": (
        b'id,text,n\n1,"a"\\, strike\\\nhere,x\n',
        {"quote": "none", "escape": "\\"},
        {"quoting": csv.QUOTE_NONE, "quotechar": None, "escapechar": "\\"},
    ),
    "Excel's separator": (b'\xef\xbb\xbfsep=;\r\nid;text;n\r\n1;"a; strike";x\r\n', {}, {"delimiter": ";"}),
    "Windows": ("id;text;n\n1;“a strike” – café €;x\n".encode("cp1252"), {"encoding": "cp1252"}, {"delimiter": ";"}),
    "Chinese": ("id,text,n\n1,a strike 空袭,x\n".encode("gb18030"), {"encoding": "gb18030"}, {}),
    "UTF-16": (
        "id\ttext\tn\r\n1\ta strike \U0001f525\tx\r\n".encode("utf-16"),
        {"encoding": "utf-16"},
        {"delimiter": "\t"},
    ),
}


def scored(
    content: bytes,
    options: dict[str, Any],
    folder: Path,
    release: Path,
    **more: Any,  # noqa: ANN401
) -> tuple[FileSummary, Path]:
    source, target = folder / "in.csv", folder / "out.csv"
    source.write_bytes(content)
    return score_file(source, target, release=release, **options, **more), target


def read(content: bytes, encoding: str, dialect: dict[str, Any]) -> list[list[str]]:
    lines = content.decode(encoding).removeprefix("\ufeff").splitlines(keepends=True)
    return list(csv.reader([line for line in lines if not line.startswith("sep=")], strict=True, **dialect))


def rejects(target: Path) -> list[dict[str, Any]]:
    lines = target.with_name(f"{target.name}.rejects.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("case", CASES)
def test_a_dialect_is_read_and_written(case: str, tmp_path: Path, tiny_release: Path) -> None:
    content, options, dialect = CASES[case]
    encoding = options.get("encoding", "utf-8")
    summary, target = scored(content, options, tmp_path, tiny_release, scores=True)
    assert (summary.rows_scored, summary.rows_rejected) == (1, 0)
    header, row = read(target.read_bytes(), encoding, dialect)
    assert [header[:3], row[:3]] == read(content, encoding, dialect)
    cells = dict(zip(header, row, strict=True))
    assert isinstance(json.loads(cells["events"]), list)
    assert len(json.loads(cells["scores"])) > 20
    # The line above the header, and the byte order mark.
    assert target.read_bytes()[:4] == content[:4]


@pytest.mark.parametrize("case", ["escapes", "Excel's separator", "Windows", "UTF-16", "no quotes, escapes"])
def test_what_was_written_in_a_dialect_is_read_again(case: str, tmp_path: Path, tiny_release: Path) -> None:
    content, options, _ = CASES[case]
    _, target = scored(content, options, tmp_path, tiny_release)
    words: dict[str, Any] = {"delimiter": None, "quote": '"', "escape": None, "encoding": "utf-8"} | options
    (pair,) = plan(target, tmp_path / "again.csv", None, Dialect.of(**words))
    (row,) = output_rows(target, pair.source_format, JobOptions())
    assert "strike" in row["text"]
    assert isinstance(json.loads(row["events"]), list)


def test_escaped_quotes_are_text_and_come_out_escaped(tmp_path: Path, tiny_release: Path) -> None:
    content = b'id,text\n1,"He said \\"stop, now\\" after an airstrike"\n'
    _, target = scored(content, {"escape": "\\"}, tmp_path, tiny_release)
    assert target.read_bytes().splitlines()[1].startswith(b'1,"He said \\"stop, now\\" after an airstrike",')


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'1,"He said \\"stop, now\\" after"', r"has 3 cells, the header has 2: where a backslash .* --escape '\\'"),
        (b'1,"He said\n\\"stop, now\\" then"', r"rows may have run together; .*--escape '\\'"),
        (b"1,caf\xe9", "not valid UTF-8: where the file is in another encoding, name it, such as --encoding cp1252"),
    ],
)
def test_a_row_in_another_dialect_is_rejected_with_the_option(
    row: bytes, reason: str, tmp_path: Path, tiny_release: Path
) -> None:
    summary, target = scored(b"id,text\n" + row + b"\n2,An airstrike.\n", {}, tmp_path, tiny_release)
    assert (summary.rows_scored, summary.rows_rejected) == (1, 1)
    assert re.search(reason, rejects(target)[0]["reason"])


@pytest.mark.parametrize(("encoding", "bad"), [("cp1252", b"\x81"), ("gb18030", b"\xff"), ("shift_jis", b"\x81")])
def test_a_row_that_is_not_of_the_encoding_is_rejected_as_it_stood(
    encoding: str, bad: bytes, tmp_path: Path, tiny_release: Path
) -> None:
    content = b"id,text\n1,a" + bad + b"\n2,An airstrike.\n"
    summary, target = scored(content, {"encoding": encoding}, tmp_path, tiny_release)
    assert summary.rows_scored == 1
    (reject,) = rejects(target)
    assert reject["reason"].startswith(f"not valid {encoding}: ")
    assert base64.b64decode(reject["raw_base64"]) == b"1,a" + bad


def test_utf16_that_is_cut_off_or_not_announced_is_refused(tmp_path: Path, tiny_release: Path) -> None:
    content = "id,text\n1,An airstrike.\n".encode("utf-16")
    with pytest.raises(InputError, match="give --encoding utf-16"):
        scored(content, {}, tmp_path, tiny_release)
    with pytest.raises(InputError, match=r"is not utf-16-le: .*truncated data"):
        scored(content[:-1], {"encoding": "utf-16"}, tmp_path, tiny_release)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": "||"}, "--delimiter takes one character"),
        ({"delimiter": "\\q"}, "--delimiter takes one character"),
        ({"quote": "\n"}, "--quote takes one character"),
        ({"delimiter": '"'}, "--delimiter and --quote are the same character"),
        ({"encoding": "klingon"}, "--encoding klingon: no such encoding. Common ones"),
        ({"encoding": "hex"}, "--encoding hex: no such encoding"),
        ({"encoding": "u32"}, "--encoding u32: UTF-32 is not read; save the file as UTF-8"),
        ({"header": False}, "--no-header needs --delimiter"),
        ({"quote": "none"}, "--quote none: .* Give --escape as well"),
    ],
)
def test_a_dialect_that_cannot_be_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path, tiny_release: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        scored(b"id,text\n1,An airstrike.\n", options, tmp_path, tiny_release)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["in.csv"])


@pytest.mark.parametrize("column", ["2", "column_2"])
def test_a_file_without_a_header_is_read_whole_and_its_output_names_the_columns(
    column: str, tmp_path: Path, tiny_release: Path
) -> None:
    content = b"\n[1]\tAn airstrike hit.\t\n2\tA protest.\tx\n3\n4\t\tx\n"
    options = {"delimiter": "tab", "header": False, "text_column": column}
    summary, target = scored(content, options, tmp_path, tiny_release)
    assert (summary.rows_read, summary.rows_scored, summary.rows_rejected) == (4, 2, 2)
    header, *rows = read(target.read_bytes(), "utf-8", {"delimiter": "\t"})
    assert header[:4] == ["column_1", "column_2", "column_3", "events"]
    assert [row[:3] for row in rows] == [["[1]", "An airstrike hit.", ""], ["2", "A protest.", "x"]]
    assert [reject["row"] for reject in rejects(target)] == [3, 4]
    assert json.loads((tmp_path / "out.csv.manifest.json").read_bytes())["settings"]["input_format"].endswith(
        "header False"
    )
    assert scored(content, options, tmp_path, tiny_release, resume=True)[0] == summary


def test_a_column_of_texts_without_a_header_loses_no_line(tmp_path: Path, tiny_release: Path) -> None:
    options = {"delimiter": ",", "header": False, "text_column": "1"}
    summary, target = scored(b"\nAn airstrike.\n\nA protest.\n", options, tmp_path, tiny_release)
    assert (summary.rows_read, summary.rows_scored) == (4, 2)
    assert [reject["row"] for reject in rejects(target)] == [1, 3]


def test_a_column_that_is_not_there_is_named_without_a_header_too(tmp_path: Path, tiny_release: Path) -> None:
    with pytest.raises(UsageError, match=r"'column_3' is not in .*Its columns: column_1, column_2\."):
        scored(b"1,a\n", {"delimiter": ",", "header": False, "text_column": "3"}, tmp_path, tiny_release)


@pytest.mark.parametrize(("delimiter", "advice"), [(None, "Choose one with --text-column"), (",", "with --delimiter")])
def test_a_table_read_as_one_column_asks_for_its_delimiter(
    delimiter: str | None, advice: str, tmp_path: Path, tiny_release: Path
) -> None:
    with pytest.raises(UsageError, match=f"'note' is not in .*{advice}"):
        scored(b"id;words\n1;a\n", {"text_column": "note", "delimiter": delimiter}, tmp_path, tiny_release)


def test_the_command_takes_files_without_a_header(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "in.csv").write_text("2024-03-05;An airstrike hit the market.\n")
    command = ["score", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), "--no-header", "--text-column", "2"]
    report = ["--report", str(tmp_path / "report.html"), "--date-column", "1"]
    more = ["--delimiter", ";", "--workers", "1", "--release", str(tiny_release), *report]
    done = CliRunner().invoke(app, [*command, *more])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "An airstrike hit the market." in page
    assert "Over time" in page


def test_dialects_are_for_csv(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "An airstrike."}\n')
    with pytest.raises(UsageError, match="are for CSV; leave them out"):
        plan(tmp_path / "in.jsonl", tmp_path / "out.jsonl", None, Dialect(delimiter="^"))


def test_a_dialect_is_in_the_manifest_and_a_job_in_another_is_not_resumed(tmp_path: Path, tiny_release: Path) -> None:
    content = b"id^text\n1^An airstrike.\n"
    first, _ = scored(content, {"delimiter": "^", "encoding": "cp1252"}, tmp_path, tiny_release)
    settings = json.loads((tmp_path / "out.csv.manifest.json").read_bytes())["settings"]
    assert settings["input_format"] == settings["output_format"] == "csv, delimiter '^', encoding 'cp1252'"
    again, _ = scored(content, {"delimiter": "^", "encoding": "cp1252"}, tmp_path, tiny_release, resume=True)
    assert again == first
    with pytest.raises(UsageError, match="input_format"):
        scored(content, {"delimiter": "^", "encoding": "cp1251"}, tmp_path, tiny_release, resume=True)


def test_a_job_in_a_dialect_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_serving.batch.csv_format.CHUNK_ROWS", 2)
    rows = [f'{n}^"caf\xe9 \\"{n}\\" airstrike"' for n in range(9)]
    content = ("sep=^\nid^text\n" + "\n".join(rows) + "\n").encode("latin-1")
    options: dict[str, Any] = {"escape": "\\", "encoding": "latin-1"}
    (tmp_path / "whole").mkdir()
    _, whole = scored(content, options, tmp_path / "whole", tiny_release)
    dialect = Dialect.of(delimiter=None, quote='"', **options)
    (tmp_path / "in.csv").write_bytes(content)

    def stop(summary: FileSummary, share: float) -> None:
        raise KeyboardInterrupt

    pairs = plan(tmp_path / "in.csv", tmp_path / "out.csv", None, dialect)
    with pytest.raises(KeyboardInterrupt):
        job.run(pairs, JobOptions(release=str(tiny_release)), stop)
    (summary,) = job.run(pairs, JobOptions(release=str(tiny_release), resume=True))
    assert (summary.rows_scored, summary.rows_rejected) == (9, 0)
    assert (tmp_path / "out.csv").read_bytes() == whole.read_bytes()


def test_a_label_that_the_encoding_has_not_is_said(tmp_path: Path) -> None:
    taxonomy = Path(__file__).resolve().parents[2] / "datasets" / "taxonomy.toml"
    other = tmp_path / "taxonomy.toml"
    other.write_text(taxonomy.read_text("utf-8").replace('"Air/drone strike"', '"\u0423\u0434\u0430\u0440"'))
    release = make_tiny_release(tmp_path / "tiny", taxonomy_file=other)
    with pytest.raises(UsageError, match="which cp1252 has not; save the input as UTF-8"):
        scored(b"id,text\n1,An airstrike.\n", {"encoding": "cp1252"}, tmp_path, release)
