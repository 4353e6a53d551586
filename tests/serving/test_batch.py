"""Batch jobs: nothing lost, nothing changed, the library's answers, and plain refusals."""

from __future__ import annotations

import csv
import gzip
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import assert_same_predictions

from tocsin import EventClassifier, InputError, Prediction, TocsinError, UsageError
from tocsin_serving.batch import FileSummary, JobOptions, check_scored, chunks, job, plan, score_file
from tocsin_serving.batch.chunks import Answers, Chunk, Reader
from tocsin_serving.batch.files import FileFormat, Input, format_by_name
from tocsin_serving.batch.parquet_format import ParquetWriter
from tocsin_serving.batch.scoring import ChunkScorer
from tocsin_serving.batch.workspace import Spool

TEXTS = [
    "An airstrike hit the market.",
    'A "peaceful protest"\nwas held, with shelling; and\r\nlooting.',
    "Nothing happened.",
    "An airstrike hit the market.",
    "\u0642\u0635\u0641 \u0627\u0644\u0645\u062f\u064a\u0646\u0629 \U0001f525 <b>HTML</b> and a protest \x00 here",
    "A ground offensive, " + "told at length, " * 60 + "and a peaceful protest.",
]

Write = Callable[[Path, list[str]], None]
Read = Callable[[Path], list[dict[str, Any]]]


def write_csv(path: Path, texts: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([f"00{n}", text] for n, text in enumerate(texts))])


def read_csv(path: Path) -> list[dict[str, Any]]:
    def parsed(row: dict[str, str]) -> dict[str, Any]:
        typed: dict[str, Any] = {name: json.loads(row[name]) for name in ("events", "scores") if name in row}
        flags = {name: row[name] == "true" for name in ("needs_review", "truncated")}
        return {**row, **typed, **flags, "no_event_probability": float(row["no_event_probability"])}

    with path.open(newline="", encoding="utf-8") as file:
        return [parsed(row) for row in csv.DictReader(file)]


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"id": f"00{n}", "text": text}) + "\n" for n, text in enumerate(texts)))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def write_parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"id": [f"00{n}" for n in range(len(texts))], "text": texts}), path)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist(maps_as_pydicts="strict")
    return rows


FORMATS: dict[str, tuple[Write, Read]] = {
    ".csv": (write_csv, read_csv),
    ".jsonl": (write_jsonl, read_jsonl),
    ".parquet": (write_parquet, read_parquet),
}


INT96_DAYS = [(1, 1, 1), (1500, 2, 28), (2024, 3, 5), (9999, 12, 31)]


def write_int96(path: Path, days: list[tuple[int, int, int]]) -> None:
    """Midnights in the type that Spark wrote for long: nanoseconds of the day, then the Julian day.

    Arrow writes INT96 only for the years that nanoseconds reach, so the values are put in afterwards.
    """
    marks = [datetime(2000, 1, 1) + timedelta(number) for number in range(len(days))]
    table = pa.table({"text": ["An airstrike."] * len(days), "when": pa.array(marks, pa.timestamp("ns"))})
    pq.write_table(
        table, path, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none", store_schema=False
    )
    content = path.read_bytes()
    for mark, day in zip(marks, days, strict=True):
        assert content.count(_int96(mark)) >= 1
        content = content.replace(_int96(mark), _int96(datetime(*day)))
    path.write_bytes(content)


def _int96(day: datetime) -> bytes:
    return struct.pack("<qi", 0, day.toordinal() + 1_721_425)


def prediction(row: dict[str, Any]) -> Prediction:
    names = ("events", "no_event_probability", "needs_review", "truncated", "language", "model_version")
    # The reason for a review is no column.
    return Prediction(
        **{name: row[name] for name in names}, review_reason=None, scores=row.get("scores"), event_type_scores=None
    )


def rejects(output: Path) -> list[dict[str, Any]]:
    return read_jsonl(output.with_name(output.name + ".rejects.jsonl"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_job_gives_the_librarys_answers_and_keeps_rows(
    suffix: str, tmp_path: Path, release: Path, classifier: EventClassifier
) -> None:
    write, read = FORMATS[suffix]
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write(source, TEXTS)
    summary = score_file(source, target, release=release, scores=True)
    rows = read(target)

    assert (summary.rows_read, summary.rows_scored, summary.rows_rejected) == (6, 6, 0)
    assert [row["id"] for row in rows] == [f"00{n}" for n in range(6)]
    assert [row["text"] for row in rows] == TEXTS
    assert_same_predictions(classifier.classify_batch(TEXTS), [prediction(row) for row in rows])
    for row, text in zip(rows, TEXTS, strict=True):
        first = row["events"][0] if row["events"] else {}
        for name in ("label", "sub_event_type", "event_type", "disorder_type"):
            assert (row[name] or None) == first.get(name)
        assert row["text_sha256"] == sha256(text.encode()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        source.name,
        target.name,
        f"{target.name}.manifest.json",
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_workers_change_nothing(suffix: str, tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / f"in{suffix}"
    FORMATS[suffix][0](source, [f"{text} {n}" for n in range(5) for text in TEXTS])
    for module in ("csv_format", "parquet_format"):
        monkeypatch.setattr(f"tocsin_serving.batch.{module}.CHUNK_ROWS", 4)
    monkeypatch.setattr("tocsin_serving.batch.jsonl_format._CHUNK_BYTES", 500)
    outputs = [tmp_path / f"{workers}{suffix}" for workers in (1, 2)]
    for workers, output in enumerate(outputs, 1):
        score_file(source, output, release=release, workers=workers)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_beside_workers_the_job_s_own_process_has_no_encoder(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded that nobody asks")

    # Workers start anew and know nothing of this.
    monkeypatch.setattr("tocsin.classifier.Encoder", refuse)
    FORMATS[".csv"][0](tmp_path / "in.csv", TEXTS)
    assert score_file(tmp_path / "in.csv", tmp_path / "out.csv", release=tiny_release, workers=2).rows_scored
    with pytest.raises(AssertionError):
        score_file(tmp_path / "in.csv", tmp_path / "alone.csv", release=tiny_release, workers=1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_last_chunk_keeps_other_workers_waiting_for_few_rows(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"in{suffix}"
    FORMATS[suffix][0](source, [f"text {number}" for number in range(chunks.CHUNK_ROWS + 1)])
    read_as = format_by_name(source.name)
    assert read_as is not None
    with closing(Input(source, read_as)) as file:
        found = [chunk.read for chunk in job.open_reader(file, JobOptions().columns).chunks()]
    assert found == [chunks.CHUNK_ROWS, 1]


def test_csv_cells_are_kept_as_text(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b'\xef\xbb\xbfid;text;n\r\n007;"a ""strike"";\r\nhere";1.50\r\n\r\n008; spaced ;NA\r\n')
    score_file(source, target, release=tiny_release)
    with target.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file, delimiter=";")
    assert target.read_bytes().startswith(b"\xef\xbb\xbf")
    assert header[:3] == ["id", "text", "n"]
    assert [row[:3] for row in rows] == [["007", 'a "strike";\r\nhere', "1.50"], ["008", " spaced ", "NA"]]


def test_csv_cells_keep_carriage_returns(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b'id,text,"an\rote"\n1,"a strike\rhere",q\n2,plain,"\r"\n')
    score_file(source, target, release=tiny_release)
    with target.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[:3] == ["id", "text", "an\rote"]
    assert [row[:3] for row in rows] == [["1", "a strike\rhere", "q"], ["2", "plain", "\r"]]
    assert {len(row) for row in rows} == {len(header)}
    assert target.read_bytes().count(b"\n") == 3
    assert b"\r\n" not in target.read_bytes()


def test_json_objects_are_kept_byte_for_byte(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    line = rb'{"n":1.10,"big":123456789012345678901234567890, "text":"airstrike \ud800 \u00e9" , "a":{"b":[]} }'
    source.write_bytes(line + b"\r\n")
    score_file(source, target, release=tiny_release)
    written = target.read_bytes()
    assert written.startswith(line[:-1].rstrip())
    assert "events" in json.loads(written)


def test_parquet_types_are_kept(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    table = pa.table(
        {
            "n": pa.array([1, 2], pa.int16()),
            "when": pa.array([0, 1], pa.timestamp("ms", "UTC")),
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "nested": pa.array([[{"x": 1}], []]),
        }
    ).replace_schema_metadata({"origin": "here"})
    pq.write_table(table, source)
    score_file(source, target, release=tiny_release)
    written = pq.read_table(target)
    assert written.select(table.column_names).equals(table)
    assert written.schema.metadata[b"origin"] == b"here"


def test_parquet_times_of_any_year_are_kept(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    write_int96(source, INT96_DAYS)
    score_file(source, target, release=tiny_release)
    assert pq.read_table(target).column("when").to_pylist() == [datetime(*day) for day in INT96_DAYS]


def test_bad_csv_rows_are_rejected_with_their_reason(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b"id,text\n1,fine\n2, \n3\n4,bad \xff\n5,fine,too\n6,fine\n")
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_read, summary.rows_scored, summary.rows_rejected) == (6, 2, 4)
    assert [row["id"] for row in read_csv(target)] == ["1", "6"]
    found = rejects(target)
    assert [reject["row"] for reject in found] == [2, 3, 4, 5]
    assert [reject["reason"] for reject in found] == [
        "text is empty",
        "has 1 cells, the header has 2",
        "not valid UTF-8: where the file is in another encoding, name it, such as --encoding cp1252",
        "has 3 cells, the header has 2",
    ]
    assert found[0]["raw"] == "2, "
    assert found[0]["file"] == str(source)
    assert "raw_base64" in found[2]


def test_a_blank_line_of_csv_is_an_empty_text_where_there_is_one_column_and_else_no_row(
    tmp_path: Path, tiny_release: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"text\nAn airstrike.\n\nA protest.\n")
    summary = score_file(source, tmp_path / "one.csv", release=tiny_release)
    assert (summary.rows_read, summary.rows_scored) == (3, 2)
    (reject,) = rejects(tmp_path / "one.csv")
    assert (reject["row"], reject["reason"], reject["raw"]) == (2, "text is empty", "")
    source.write_bytes(b"id,text\n1,An airstrike.\n\n2,A protest.\n")
    summary = score_file(source, tmp_path / "two.csv", release=tiny_release)
    assert (summary.rows_read, summary.rows_scored) == (2, 2)


def test_bad_json_lines_are_rejected_with_their_reason(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [b'{"text": "fine"}', b"", b"{", b'{"text": 1}', b'{"text": null}', b'{"t": "x"}', b'["text"]']
    lines += [b'{"text": "\xff"}', b'{"text": ""}', b'{"text": "fine", "label": "mine"}', b"[" * 100_000]
    source.write_bytes(b"\n".join(lines))
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_read, summary.rows_scored, summary.rows_rejected) == (10, 1, 9)
    assert [reject["row"] for reject in rejects(target)] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert rejects(target)[0]["raw"] == "{"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_too_long_for_memory_is_rejected_with_its_hash_and_the_others_are_scored(
    place: int, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_serving.batch.jsonl_format._MAX_LINE", 3000)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    # The last is read on in two pieces, and none but the last is without its end.
    long = b'{"text": "' + b"long " * 300_000 + b'"}' + b"\n" * (place < 2)
    lines = [b'{"text": "An airstrike."}\n', b'{"text": "%s"}\n' % (b"x" * 2987)]
    source.write_bytes(b"".join([*lines[:place], long, *lines[place:]]))
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_read, summary.rows_scored, summary.rows_rejected) == (3, 2, 1)
    assert summary.reject_reasons == {"line is longer than ... bytes": 1}
    (reject,) = rejects(target)
    assert reject["row"] == place + 1
    assert reject["raw"] == long[:1000].decode()
    assert f"it has {len(long):,} with its end, their SHA-256 is {sha256(long).hexdigest()}," in reject["reason"]


def test_one_array_too_long_for_memory_is_no_json_lines(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_serving.batch.jsonl_format._MAX_LINE", 3000)
    (tmp_path / "in.jsonl").write_text(json.dumps([{"text": "An airstrike."}] * 1000))
    with pytest.raises(InputError, match="It looks like one JSON array"):
        score_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", release=tiny_release)


@pytest.mark.parametrize(
    "first", ['{"id": 1}', '{"id": 1, "te', 'xt": "cut off before"}', "null", '{"text": "mine", "label": "war"}']
)
def test_a_first_line_at_fault_refuses_no_other(first: str, tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(f'{first}\n{{"text": "An airstrike.", "when": 1}}\n{{"text": "A protest."}}\n')
    (summary,) = job.run(plan(source, target), JobOptions(release=str(tiny_release), date_column="when"))
    assert (summary.rows_scored, summary.rows_rejected) == (2, 1)
    assert [reject["row"] for reject in rejects(target)] == [1]
    assert [row["text"] for row in read_jsonl(target)] == ["An airstrike.", "A protest."]


def test_a_broken_first_line_hides_no_missing_column(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = ['{"id": 1, "te', *(f'{{"id": {n}, "body": "a"}}' for n in range(1000))]
    source.write_text("\n".join([*lines, '{"text": "late"}']))
    with pytest.raises(UsageError, match=r"'text' is not in .*Its columns: id, body\."):
        score_file(source, tmp_path / "out.jsonl", release=tiny_release)


def test_bad_parquet_rows_are_rejected_with_their_reason(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    text = pa.array([b"fine", None, b" ", b"\xff"], pa.binary())
    broken = pa.StringArray.from_buffers(4, text.buffers()[1], text.buffers()[2], text.buffers()[0])
    pq.write_table(pa.table({"id": [1, 2, 3, 4], "text": broken}), source)
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_scored, summary.rows_rejected) == (1, 3)
    assert [reject["reason"] for reject in rejects(target)] == ["text is null", "text is empty", "not valid UTF-8"]


def test_rejected_parquet_rows_are_kept_whatever_they_hold(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    far = 2**60
    pair = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    columns = {
        "text": pa.array([None], pa.string()),
        "a": pa.array([3]),
        "when": pa.array([far], pa.timestamp("us")),
        "zoned": pa.array([far], pa.timestamp("us", "Europe/Rome")),
        "nowhere": pa.array([1], pa.timestamp("us", "No/Where")),
        "pair": pair,
    }
    rows = pa.table([*columns.values(), pa.array([4])], names=[*columns, "a"])
    pq.write_table(rows, source)
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_scored, summary.rows_rejected) == (0, 1)
    (reject,) = rejects(target)
    cells = json.loads(reject["raw"], object_pairs_hook=list)
    assert [name for name, _ in cells] == [*columns, "a"]
    assert [value for name, value in cells if name == "a"] == [3, 4]
    kept = dict(cells)
    assert str(far) in kept["when"]
    assert kept["zoned"].endswith("+0100")
    assert kept["nowhere"] == "unreadable timestamp[us, tz=No/Where]"
    assert kept["pair"] == "unreadable struct<x: int64, x: int64>"


def test_sentences_point_into_their_document(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    documents = ["An airstrike hit. A protest followed.", "", "One more. And two. And three."]
    write_csv(source, documents)
    summary = score_file(source, target, release=tiny_release, split_sentences=True)
    rows = read_csv(target)
    assert (summary.rows_read, summary.rows_scored, summary.rows_written) == (3, 2, 5)
    assert [(row["document_row"], row["sentence_number"]) for row in rows] == [
        ("1", "0"),
        ("1", "1"),
        ("3", "0"),
        ("3", "1"),
        ("3", "2"),
    ]
    for row in rows:
        assert row["text"][int(row["sentence_start"]) : int(row["sentence_end"])] == row["sentence"]


def test_a_folder_goes_to_a_folder(tmp_path: Path, tiny_release: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    write_csv(folder / "a.csv", TEXTS)
    write_jsonl(folder / "deep" / "b.jsonl", TEXTS)
    (folder / "notes.txt").write_text("ignored")
    options = JobOptions(release=str(tiny_release))
    summaries = job.run(plan(folder, output), options)
    assert [summary.rows_scored for summary in summaries] == [6, 6]
    assert (output / "deep" / "b.jsonl").is_file()
    assert [pair.source.name for pair in plan(str(folder / "**" / "*.jsonl"), output)] == ["b.jsonl"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_read_keeps_no_other_from_being_scored(
    workers: int, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.csv", "d.csv", "e.csv"):
        write_csv(folder / name, [f"{text} {name} {n}" for n in range(300) for text in TEXTS])
    (folder / "b.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes())[:-20])
    (folder / "c.csv").write_bytes(b"")
    (folder / "f.csv").write_text("body\nAn airstrike.\n")
    begun: list[str] = []
    chunks_of = job._chunks

    def breaking(reader: Reader, source: Input) -> Iterator[Chunk]:
        """As if `d.csv` broke after it was looked through."""
        begun.append(Path(source.name).name)
        for number, chunk in enumerate(chunks_of(reader, source)):
            if begun.count("d.csv") == 2 and source.name.endswith("d.csv") and number == 3:
                raise InputError(f"{source.name} cannot be read: broken")
            yield chunk

    monkeypatch.setattr(job, "_chunks", breaking)
    options = JobOptions(release=str(tiny_release), workers=workers)
    told: list[FileSummary] = []
    summaries = job.run(plan(folder, output), options, lambda summary, share: told.append(summary))
    assert begun == ["a.csv", "d.csv", "e.csv"] * 2
    failures = {summary.files.source.name: summary.failure for summary in summaries}
    assert [name for name, failure in failures.items() if failure is None] == ["a.csv", "e.csv"]
    assert [summary.failure for summary in told[:3]] == [failures[name] for name in ("b.csv.gz", "c.csv", "f.csv")]
    assert sorted(path.name for path in output.iterdir() if not path.name.endswith(".json")) == ["a.csv", "e.csv"]
    score_file(folder / "e.csv", tmp_path / "alone.csv", release=tiny_release)
    assert (output / "e.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    with pytest.raises(
        InputError, match=r"^Of 6 files 4 could not be scored:\n.*b\.csv\.gz cannot be read[^\n]*\n.*c\.csv is"
    ):
        check_scored(summaries)


def test_the_command_lists_what_was_left_out_and_ends_with_1(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "in").mkdir()
    write_csv(tmp_path / "in" / "a.csv", TEXTS)
    for name in ("b.csv", "c.bz2"):
        (tmp_path / "in" / name).touch()
    command = [sys.executable, "-m", "tocsin.cli.main", "score", "in", "out", "--release", str(tiny_release)]
    options = ["--workers", "1", "--report", "report.html"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "in/b.csv is empty" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Left out, for their names tell no format: in/c.bz2" in done.stderr
    assert "in/a.csv: 6 rows read" in done.stderr
    assert done.stderr.endswith("error: Of 2 files 1 could not be scored:\nin/b.csv is empty\n")


def test_where_no_file_can_be_read_the_first_fault_is_said(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_text("body\nAn airstrike.\n")
    with pytest.raises(UsageError, match=r"'text' is not in .*a\.csv"):
        job.run(plan(tmp_path / "in", tmp_path / "out"), JobOptions(release=str(tiny_release)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.parquet"])
def test_a_fault_late_in_a_file_is_found_before_it_is_scored(
    name: str, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / name, tmp_path / f"out{name[2:]}"
    texts = [f"An airstrike {n}." for n in range(100_000)]
    if name.endswith("csv"):
        monkeypatch.setattr("tocsin_serving.batch.csv_format.MAX_CELL", 100)
        write_csv(source, [*texts, "An airstrike." * 10])
    elif name.endswith("gz"):
        write_csv(tmp_path / "plain", texts)
        source.write_bytes(gzip.compress((tmp_path / "plain").read_bytes())[:-20])
    else:
        pq.write_table(pa.table({"text": texts}), source, compression="zstd", use_dictionary=False)
        content = bytearray(source.read_bytes())
        middle = len(content) * 3 // 4
        content[middle : middle + 1000] = bytes(1000)
        source.write_bytes(content)

    def refuse(*_: object) -> None:
        raise AssertionError("rows were scored that would be thrown away")

    monkeypatch.setattr(ChunkScorer, "__call__", refuse)
    with pytest.raises(InputError, match=name):
        score_file(source, target, release=tiny_release)
    assert not target.exists()


def test_a_glob_does_not_read_its_own_outputs_again(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.csv", "deep/b.csv"):
        write_csv(tmp_path / name, TEXTS)
    pattern, options = str(tmp_path / "**" / "*.csv"), JobOptions(release=str(tiny_release), resume=True)
    first = job.run(plan(pattern, tmp_path / "out"), options)
    assert [summary.files.source.name for summary in first] == ["a.csv", "b.csv"]
    assert job.run(plan(pattern, tmp_path / "out"), options) == first
    with pytest.raises(InputError, match="beside those in OUTPUT"):
        plan(str(tmp_path / "dee*" / "*.csv"), tmp_path / "deep")


def test_files_in_an_output_above_the_input_are_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_csv(tmp_path / "in" / "a.csv", TEXTS)
    (pair,) = plan(str(tmp_path / "in" / "*.csv"), tmp_path)
    assert pair.target == tmp_path / "a.csv"


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints/a.csv", "deep/.trash/deeper/a.csv", ".a.csv", ".out.csv.tocsin/a.csv", "a.csv.rejects.jsonl"],
)
def test_hidden_files_and_folders_are_no_input(name: str, tmp_path: Path) -> None:
    # Where the folder itself is, is the user's business.
    folder = tmp_path / ".hidden" / "in"
    for path in (folder / name, folder / "deep" / "seen.csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, TEXTS)
    store = fsspec.filesystem("memory")
    store.put(str(folder), f"/{tmp_path.name}", recursive=True)
    for source in (str(folder), str(folder / "**" / "*.*"), f"memory://{tmp_path.name}"):
        assert [pair.source.name for pair in plan(source, tmp_path / "out")] == ["seen.csv"]


def _case(name: str, content: bytes) -> tuple[str, bytes]:
    return name, content


NOT_WHAT_THEY_SAY = {
    "CSV called Parquet": _case("a.parquet", b"id,text\n1,a\n"),
    "Parquet called CSV": _case("a.csv", b"PAR1...."),
    "gzip called JSON Lines": _case("a.jsonl", b"\x1f\x8b...."),
    "JSON called CSV": _case("a.csv", b'{"text": "a"}'),
    "CSV called JSON Lines": _case("a.jsonl", b"id,text\n1,a\n"),
    "JSON array called JSON Lines": _case("a.jsonl", b'[\n{"text": "a"}]'),
    "JSON array of an object called JSON Lines": _case("a.jsonl", b'[\n{"text": "a"}\n]'),
    "JSON array on a line called JSON Lines": _case("a.jsonl", b'[{"text": "a"}]'),
    "cut-off Parquet": _case("a.parquet", b"PAR1\x00\x00\x00PAR1"),
    "UTF-16": _case("a.csv", "text\na\n".encode("utf-16")),
    "UTF-32": _case("a.csv", "text\na\n".encode("utf-32")),
    "Latin-1": _case("a.csv", b"ann\xe9e,text\n1,a\n"),
    "PNG called CSV": _case("a.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
    "nothing": _case("a.csv", b""),
}


def test_utf_32_is_refused_by_name_also_where_another_encoding_is_given(tmp_path: Path, tiny_release: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n", encoding="utf-32")
    with pytest.raises(InputError, match="is not CSV but UTF-32 text; save it as UTF-8"):
        score_file(tmp_path / "a.csv", tmp_path / "out.csv", release=tiny_release, encoding="utf-16")


@pytest.mark.parametrize("case", NOT_WHAT_THEY_SAY)
def test_a_file_that_is_not_what_its_name_says_is_refused(case: str, tmp_path: Path, tiny_release: Path) -> None:
    name, content = NOT_WHAT_THEY_SAY[case]
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(InputError, match=name):
        score_file(source, tmp_path / f"out{source.suffix}", release=tiny_release)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_csv_that_is_no_utf8_or_no_text_is_told_apart(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "a.csv"
    for case, message in (
        ("Latin-1", r"is not UTF-8: .* name it, such as --encoding cp1252, or save it as UTF-8"),
        ("PNG called CSV", "is not CSV: its bytes are no text"),
        ("UTF-16", "is not CSV but UTF-16 text; save it as UTF-8, or give --encoding utf-16"),
        ("UTF-32", "is not CSV but UTF-32 text; save it as UTF-8$"),
    ):
        source.write_bytes(NOT_WHAT_THEY_SAY[case][1])
        with pytest.raises(InputError, match=message):
            score_file(source, tmp_path / "out.csv", release=tiny_release)


def test_a_number_of_too_many_digits_is_called_that(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    number = "1" + "0" * sys.get_int_max_str_digits()
    source.write_text(f'{{"text": "An airstrike.", "n": {number}}}\n{{"text": "Nothing happened.", "n": 1}}\n')
    assert score_file(source, target, release=tiny_release).rows_scored == 1
    assert [reject["reason"] for reject in rejects(target)] == ["holds an integer of more than 4,300 digits"]


@pytest.mark.parametrize(
    ("content", "good", "line", "tail"),
    [
        ('id,text\n1,"Army shelled town\n2,more\n3,more\n', 0, 2, ['1,"Army shelled town', "2,more", "3,more"]),
        (
            'id,text\r\n1,"closed\r\nhere"\r\n"2\r\n3","open\r\n4,more',
            1,
            5,
            ['"2', '3","open', "4,more"],
        ),
        ('id,text\n1,fine\n2,"', 1, 3, ['2,"']),
        ('id,text\n1,"doubled ""\n', 0, 2, ['1,"doubled ""']),
    ],
)
def test_a_quote_that_is_never_closed_rejects_the_lines_from_its_row_on_and_no_others(
    content: str, good: int, line: int, tail: list[str], tmp_path: Path, tiny_release: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(content.encode())
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_read, summary.rows_scored, summary.rows_rejected) == (good + len(tail), good, len(tail))
    found = rejects(target)
    assert [reject["raw"] for reject in found] == tail
    assert [reject["row"] for reject in found] == list(range(good + 1, good + len(tail) + 1))
    assert {reject["reason"].partition(",")[0] for reject in found} == {
        f"the quote opened in line {line} is never closed"
    }
    assert len(summary.reject_reasons) == 1


def test_a_quote_that_is_never_closed_in_the_header_is_refused(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text('id,"text\n1,fine\n')
    with pytest.raises(InputError, match=r"in\.csv: the quote opened in line 1 is never closed"):
        score_file(source, tmp_path / "out.csv", release=tiny_release)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_cell_beyond_all_measure_rejects_the_lines_from_it_on(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_serving.batch.csv_format.MAX_CELL", 50)
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    tail = ['2,"open', *(f"{n},An airstrike." for n in range(3, 20))]
    source.write_text("\n".join(["id,text", "1,fine", *tail]) + "\n")
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_scored, summary.rows_rejected) == (1, len(tail))
    assert [reject["raw"] for reject in rejects(target)] == tail
    assert "starts in line 3" in rejects(target)[0]["reason"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_sloppy_quotes_that_end_with_their_row_are_read(end: str, tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    cells = ['a "strike" hit', 'a 12" gun', '"a strike" hit', '"a strike" ', 'hit"', '"two\nlines"', '"ends ""so"""']
    source.write_bytes(("id,text\n" + "\n".join(f"{n},{cell}" for n, cell in enumerate(cells)) + end).encode())
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_scored, summary.rows_rejected) == (len(cells), 0)
    read = ['a "strike" hit', 'a 12" gun', "a strike hit", "a strike ", 'hit"', "two\nlines", 'ends "so"']
    assert [row["text"] for row in read_csv(target)] == read


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_column_is_refused_with_those_there_are(suffix: str, tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / f"in{suffix}"
    FORMATS[suffix][0](source, TEXTS)
    with pytest.raises(UsageError, match=r"'body' is not in .*Its columns: id, text"):
        score_file(source, tmp_path / f"out{suffix}", text_column="body", release=tiny_release)


@pytest.mark.parametrize("suffix", FORMATS)
def test_scoring_an_output_again_is_refused(suffix: str, tmp_path: Path, tiny_release: Path) -> None:
    first, second, third = (tmp_path / f"{name}{suffix}" for name in ("a", "b", "c"))
    FORMATS[suffix][0](first, TEXTS)
    score_file(first, second, release=tiny_release)
    with pytest.raises(UsageError, match="already has a column"):
        score_file(second, third, release=tiny_release)


def test_an_output_that_exists_is_kept_unless_told(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    write_csv(source, ["a", ""])
    target.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        score_file(source, target, release=tiny_release)
    assert target.read_text() == "mine"
    assert score_file(source, target, release=tiny_release, overwrite=True).rows_rejected == 1
    write_csv(source, ["a", "b"])
    score_file(source, target, release=tiny_release, overwrite=True)
    assert not target.with_name("out.csv.rejects.jsonl").exists()


def test_outputs_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", TEXTS)
    for source, target in [
        ("in.csv", "out.parquet"),
        ("in.csv", "in.csv"),
        (".", "out"),
        ("*.csv", "out.csv"),
    ]:
        with pytest.raises(UsageError):
            plan(str(tmp_path / source), tmp_path / target)
    with pytest.raises(InputError, match="no such file"):
        plan(tmp_path / "nothing.csv", tmp_path / "out.csv")


def test_a_folder_that_takes_no_files_is_refused_before_work(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    write_csv(source, TEXTS)
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path / "locked"
    if folder.is_relative_to(tmp_path):
        folder.mkdir(mode=0o500)
    with pytest.raises(TocsinError, match="Cannot write into"):
        score_file(source, folder / "out.csv", release=tiny_release)


def test_the_command_counts_on_stderr_and_keeps_stdout_clean(tmp_path: Path, tiny_release: Path) -> None:
    def tocsin_score(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tocsin.cli.main", "score", "in.csv", "out.csv", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    write_csv(tmp_path / "in.csv", ["An airstrike hit.", ""])
    done = tocsin_score("--release", str(tiny_release), "--workers", "2")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "2 rows read = 1 scored in out.csv + 1 rejected in out.csv.rejects.jsonl" in done.stderr
    again = tocsin_score("--release", str(tiny_release))
    assert (again.returncode, again.stdout) == (2, "")
    assert "--overwrite" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize("lost", ["row", "parent", "event", "sentence"])
def test_a_row_that_is_lost_while_it_is_scored_is_noticed(
    lost: str, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = _one_csv(tmp_path), tmp_path / "out.csv"
    scored = ChunkScorer.__call__

    def losing(self: ChunkScorer, chunk: Chunk) -> Answers:
        answers = scored(self, chunk)
        if lost == "parent":
            # As many rows as there should be, one of them another's.
            return Answers(answers.columns, np.array([0, *answers.parents[:-1]]), answers.tally)
        return Answers(answers.columns.slice(1), answers.parents[1:], answers.tally)

    options: dict[str, bool] = {"event": {"acled": True}, "sentence": {"split_sentences": True}}.get(lost, {})
    score_file(source, tmp_path / "fine.csv", release=tiny_release, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(ChunkScorer, "__call__", losing)
    with pytest.raises(TocsinError, match="Of rows 1 to 6 some were lost while they were scored"):
        score_file(source, target, release=tiny_release, **options)  # type: ignore[arg-type]
    assert not target.exists()


def test_a_row_that_parquet_loses_is_noticed(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.parquet"
    write_parquet(source, [f"An airstrike {n}." for n in range(1000)])
    with monkeypatch.context() as patch:
        encode = ParquetWriter.encode
        patch.setattr(ParquetWriter, "encode", lambda self, rows, answers: list(encode(self, rows, answers))[:-1])
        with pytest.raises(TocsinError, match="0 of 1,000 rows were written"):
            score_file(source, tmp_path / "out.parquet", release=tiny_release)
    batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, **given: list(batches(self, **given))[1:])
    with pytest.raises(InputError, match=r"in\.parquet holds 488 rows, and says that it has 1,000"):
        score_file(source, tmp_path / "other.parquet", release=tiny_release)
    assert not list(tmp_path.glob("o*"))


def test_lost_rows_are_noticed(tmp_path: Path) -> None:
    (pair,) = plan(_one_csv(tmp_path), tmp_path / "out.csv")
    with pytest.raises(TocsinError, match="rows were lost"):
        job.FileSummary(pair, rows_read=3, rows_scored=1, rows_rejected=1).check()


def _one_csv(folder: Path) -> Path:
    path = folder / "in.csv"
    write_csv(path, TEXTS)
    return path


def test_empty_tables_come_out_empty(tmp_path: Path, tiny_release: Path) -> None:
    for suffix, (write, read) in FORMATS.items():
        if suffix == ".jsonl":
            continue
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        write(source, [])
        assert score_file(source, target, release=tiny_release).rows_read == 0
        assert read(target) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_chunks_hold_few_long_texts(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / f"in{suffix}"
    texts = [f"{number} long " * 70_000 for number in range(5)] + ["short"] * 5
    FORMATS[suffix][0](source, texts)
    read_as = format_by_name(source.name)
    assert read_as is not None
    with closing(Input(source, read_as)) as file:
        found = [chunk.texts for chunk in job.open_reader(file, JobOptions().columns).chunks()]
    assert [text for chunk in found for text in chunk] == texts
    assert max(sum(map(len, chunk)) for chunk in found) <= 2 * chunks.CHUNK_BYTES


@pytest.mark.parametrize("suffix", FORMATS)
def test_sentences_of_long_rows_are_written_in_pieces(
    suffix: str, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read = FORMATS[suffix]
    source = tmp_path / f"in{suffix}"
    write(source, ["A protest was held. An airstrike hit the market. " * 20, "Nothing happened."])
    sizes: list[int] = []
    commit = Spool.commit

    def watched(self: Spool, output: Iterable[bytes], rejects: bytes) -> None:
        def seen() -> Iterator[bytes]:
            for piece in output:
                sizes.append(len(piece))
                yield piece

        commit(self, seen(), rejects)

    monkeypatch.setattr(Spool, "commit", watched)
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    score_file(source, whole, release=tiny_release, split_sentences=True)
    before, sizes[:] = len(sizes), []
    monkeypatch.setattr("tocsin_serving.batch.chunks.PIECE_BYTES", 8_000)
    monkeypatch.setattr("tocsin_serving.batch.parquet_format.PIECE_BYTES", 8_000)
    score_file(source, cut, release=tiny_release, split_sentences=True)
    assert len(sizes) > before
    assert max(sizes) <= 12_000
    assert read(cut) == read(whole)
    assert len(read(cut)) == 41


def write_incompressible(path: Path, groups: int) -> None:
    numbers = np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema([("text", pa.string()), ("noise", pa.binary())])) as writer:
        for _ in range(groups):
            noise = [numbers.bytes(2_000) for _ in range(500)]
            writer.write_table(pa.table({"text": ["An airstrike."] * 500, "noise": noise}, schema=writer.schema))


def test_reading_parquet_takes_the_same_memory_however_many_row_groups(tmp_path: Path) -> None:
    def peak(groups: int) -> int:
        source = tmp_path / f"{groups}.parquet"
        write_incompressible(source, groups)
        # Arrow's reading ahead holds what Python's file gave it, which this counts.
        tracemalloc.start()
        try:
            with closing(Input(source, FileFormat("parquet"))) as file:
                assert sum(chunk.read for chunk in job.open_reader(file, JobOptions().columns).chunks()) == groups * 500
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(16) < peak(2) + 2_000_000


def test_readers_of_a_scored_parquet_file_see_the_columns_that_were_added(tmp_path: Path, tiny_release: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    hiding = ("org.apache.spark.sql.parquet.row.metadata", "parquet.avro.schema")
    metadata = {**dict.fromkeys(hiding, "the columns that there were"), "org.apache.spark.version": "4.0.0"}
    pq.write_table(pa.table({"text": ["An airstrike."]}).replace_schema_metadata(metadata), source)
    score_file(source, target, release=tiny_release)
    assert pq.read_schema(target).metadata == {b"org.apache.spark.version": b"4.0.0"}


def test_rejected_times_are_written_alike_with_and_without_pandas(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.parquet"
    moment = pa.array([1_000_000_001], pa.timestamp("ns"))
    columns = {
        "text": pa.array([None], pa.string()),
        "moment": moment,
        "span": pa.array([86_400_000], pa.duration("ns")),
        "day": pa.array([1], pa.date32()),
        "list": pa.array([[1_000]], pa.list_(pa.timestamp("ns"))),
        "struct": pa.StructArray.from_arrays([moment, pa.array([1])], names=["at", "n"]),
    }
    pq.write_table(pa.table(columns), source)
    raw = []
    for case in ("with", "without"):
        if case == "without":
            monkeypatch.setitem(sys.modules, "pandas", None)
        score_file(source, tmp_path / f"{case}.parquet", release=tiny_release)
        raw.append(rejects(tmp_path / f"{case}.parquet")[0]["raw"])
    assert raw[0] == raw[1]
    assert json.loads(raw[0]) == {
        "text": None,
        "moment": "1970-01-01 00:00:01.000000001",
        "span": "86400000",
        "day": "1970-01-02",
        "list": ["1970-01-01 00:00:00.000001000"],
        "struct": {"at": "1970-01-01 00:00:01.000000001", "n": 1},
    }


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_text_that_would_take_all_memory_is_rejected_and_the_others_are_scored(
    suffix: str, tmp_path: Path, tiny_release: Path
) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    FORMATS[suffix][0](source, ["An airstrike.", "x" * (chunks.MAX_TEXT + 1), "A protest."])
    summary = score_file(source, target, release=tiny_release)
    assert (summary.rows_scored, summary.rows_rejected) == (2, 1)
    assert summary.reject_reasons == {"text is too long": 1}
    (reject,) = rejects(target)
    assert reject["row"] == 2
    assert "it has 2,000,001 characters, the limit is 2,000,000" in reject["reason"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_whose_names_are_not_utf8_are_scored(suffix: str, tmp_path: Path, tiny_release: Path) -> None:
    named, target = (tmp_path / os.fsdecode(f"{name}\xe9{suffix}".encode("latin-1")) for name in ("r", ""))
    FORMATS[suffix][0](tmp_path / "plain", ["An airstrike.", ""])
    try:
        (tmp_path / "plain").rename(named)
    except OSError:
        pytest.skip("this file system takes no such names")
    summary = score_file(named, target, release=tiny_release)
    assert summary.rows_rejected == 1
    assert rejects(target)[0]["file"] == str(tmp_path / f"r\\xe9{suffix}")
    manifest = json.loads(target.with_name(target.name + ".manifest.json").read_bytes())
    assert manifest["output"]["path"] == str(tmp_path / f"\\xe9{suffix}")
    assert score_file(named, target, release=tiny_release, resume=True) == summary
