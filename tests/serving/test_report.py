"""What people see of a job: summary, dry run, ACLED's columns, the report."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tocsin import EventClassifier, InputError, TocsinError, UsageError
from tocsin_serving.batch import JobOptions, dry_run, job, plan
from tocsin_serving.batch.chunks import Answers, Chunk
from tocsin_serving.batch.dry_run import Estimate, estimate
from tocsin_serving.batch.job import FileSummary
from tocsin_serving.batch.records import kind_of_reason
from tocsin_serving.batch.report import Findings, _read, check_report, output_rows, parse_day, write_report
from tocsin_serving.batch.scoring import ChunkScorer
from tocsin_serving.batch.summary import summary_table
from tocsin_serving.batch.tally import Tally

HOSTILE = "<script>alert(1)</script> & an airstrike hit $x$"
RUSSIAN = "Над городом сбили дрон, сообщили власти"
RECORDS: list[dict[str, Any]] = [
    {"text": "A peaceful protest and looting.", "when": "2024-03-05"},
    {"text": HOSTILE, "when": "05 March 2024"},
    {"text": "Nothing happened.", "when": "2024-03-06"},
    {"text": "An airstrike hit the market.", "when": "soon"},
    {"text": "", "when": "2024-03-06"},
    {"text": RUSSIAN},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    return path


def run(source: Path, release: Path, **options: Any) -> tuple[FileSummary, JobOptions]:  # noqa: ANN401
    given = JobOptions(release=str(release), **options)
    (summary,) = job.run(plan(source, source.with_name(f"out{source.suffix}")), given)
    return summary, given


def rows_of(summary: FileSummary, options: JobOptions) -> Iterator[dict[str, Any]]:
    return output_rows(summary.files.target, summary.files.target_format, options)


def test_counts_are_those_of_the_answers(source: Path, release: Path, classifier: EventClassifier) -> None:
    summary, _ = run(source, release)
    answers = classifier.classify_batch([record["text"] for record in RECORDS if record["text"]])
    tally = summary.tally
    assert tally.scored == len(answers)
    assert tally.with_event == sum(bool(answer.events) for answer in answers)
    assert tally.to_review == sum(answer.needs_review for answer in answers)
    assert tally.unread == sum(answer.language not in classifier.languages for answer in answers) == 1
    assert tally.scored == tally.with_event + tally.without_event + tally.unread
    assert tally.truncated == sum(answer.truncated for answer in answers)
    assert tally.languages == Counter(answer.language for answer in answers)
    assert tally.labels == Counter(event.label for answer in answers for event in answer.events)
    kinds = [{event.event_type for event in answer.events} for answer in answers]
    assert tally.event_types == Counter(kind for each in kinds for kind in each)
    assert Tally.from_json(tally.to_json()) == tally
    assert (tally + tally).labels == Counter({label: 2 * count for label, count in tally.labels.items()})


def test_the_summary_tells_what_was_found(source: Path, tiny_release: Path) -> None:
    summary, _ = run(source, tiny_release)
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as printed:
        console.print(summary_table([summary]))
    lines = [re.sub(r"[^\w./% ]+", "", line).split() for line in printed.get().splitlines()]
    shown = ("read 6", "rejected 1 16.7%", "text is empty 1 16.7%", "texts scored 5", "Protests 1 20.0%", "en 4 80.0%")
    for line in (*shown, "without event 1 20.0%", "not read for their language 1 20.0%"):
        assert line.split() in lines
    assert kind_of_reason("not valid JSON: Expecting value") == "not valid JSON"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("not valid UTF-8 at byte 17", "not valid UTF-8 at byte ..."),
        ("not valid UTF-16", "not valid UTF-16"),
        ("has 3 cells, the header has 12", "has ... cells, the header has ..."),
        ("has 1,234 cells in 2 lines, the header has 2", "has ... cells in ... lines, the header has ..."),
        ("text is not a string but int64", "text is not a string but int64"),
    ],
)
def test_numbers_of_a_row_go_and_those_in_words_stay(reason: str, kind: str) -> None:
    assert kind_of_reason(reason) == kind


def test_reasons_are_told_in_words_by_summary_and_manifest(tiny_release: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"id,text\n1,An airstrike hit.\n2,caf\xe9\n3,one,two\n4\n")
    summary, _ = run(source, tiny_release)
    told = " ".join(summary.reject_reasons)
    assert "UTF-8" in told and "cells" in told
    assert "N" not in told.replace("UTF-8", "")
    manifest = json.loads(source.with_name("out.csv.manifest.json").read_text(encoding="utf-8"))
    assert manifest["counts"]["reject_reasons"] == dict(summary.reject_reasons)


def test_other_languages_stand_behind_those_that_are_named(source: Path, tmp_path: Path) -> None:
    (pair,) = plan(source, tmp_path / "out.jsonl")
    counts = Counter({"en": 50, "es": 4, "fr": 3, "de": 3, "it": 3, "pt": 2, "ru": 2, "ar": 2})
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as printed:
        console.print(summary_table([FileSummary(pair, rows_read=69, tally=Tally(scored=69, languages=counts))]))
    shown = re.findall(r"^\W+(\w+) +\W +(\d+) ", printed.get().partition("languages")[2], re.MULTILINE)
    assert [name for name, _ in shown] == ["en", "es", "fr", "de", "it", "others"]
    assert shown[-1] == ("others", "6")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("acled", [False, True])
def test_a_report_holds_every_label_and_no_markup_of_the_users(
    suffix: str, acled: bool, source: Path, tiny_release: Path, tmp_path: Path
) -> None:
    summary, options = run(convert(source, suffix), tiny_release, date_column="when", acled=acled)
    report = tmp_path / "report.html"
    check_report(report, [], overwrite=False)
    write_report(report, [summary], options)
    page = report.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; an airstrike hit $x$" in page
    for shown in (
        "Protests",
        "Explosions/Remote violence",
        "Over time",
        "1 rows with an event have no date",
        "text is empty",
        "not read, for their language",
    ):
        assert shown in page
    # Nothing is fetched: the only addresses are names of XML vocabularies and of who drew the figures.
    assert not re.search(r"""(?:src|href)=["'](?!#)(?!data:)""", page.replace("xlink:href", "href"))
    again = tmp_path / "again.html"
    write_report(again, [summary], options)
    assert again.read_bytes() == report.read_bytes()


def convert(source: Path, suffix: str) -> Path:
    target = source.with_suffix(suffix)
    rows = [{"text": record["text"], "when": record.get("when", "")} for record in RECORDS]
    if suffix == ".csv":
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "when"], delimiter=";")
            writer.writeheader()
            writer.writerows(rows)
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), target)
    return target


def test_a_report_reads_half_characters(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "An airstrike \\ud83d hit."}\n', encoding="utf-8")
    summary, options = run(source, tiny_release)
    write_report(tmp_path / "report.html", [summary], options)
    assert "An airstrike \ufffd hit." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_report_of_a_job_of_which_no_file_was_scored_names_them_all(
    source: Path, tmp_path: Path, tiny_release: Path
) -> None:
    summary, options = run(source, tiny_release)
    failed = FileSummary(summary.files, InputError("in.csv is not there any more."))
    write_report(tmp_path / "report.html", [failed], options)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "files not scored" in page and "in.csv is not there any more." in page


def test_a_report_looks_at_no_column_it_does_not_tell_of(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.parquet"
    far = pa.array([0, 2**60], pa.timestamp("us"))
    columns = {"text": pa.array(["An airstrike hit."] * 2), "when": far, "printed": far, "x": pa.array([1, 2])}
    pq.write_table(pa.table([*columns.values(), pa.array([3, 4])], names=[*columns, "x"]), source)
    summary, options = run(source, tiny_release, date_column="when")
    write_report(tmp_path / "report.html", [summary], options)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    # The year 38503 is no day that can be drawn, the other one is.
    assert "1 rows with an event have no date" in page
    assert "Over time" in page


def test_acled_rows_with_a_column_called_events_are_reported(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,events\nAn airstrike hit.,a few\n", encoding="utf-8")
    summary, options = run(source, tiny_release, acled=True)
    write_report(tmp_path / "report.html", [summary], options)
    assert "An airstrike hit." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_report_names_the_files_that_were_not_scored(tmp_path: Path, tiny_release: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("text\nAn airstrike hit.\n")
    broken = Path(os.fsdecode(os.fsencode(folder / "<b>") + b"\xe9.csv"))
    broken.touch()
    options = JobOptions(release=str(tiny_release))
    summaries = job.run(plan(folder, tmp_path / "out"), options)
    summaries[0].failure = UsageError(f"{broken} exists")
    write_report(tmp_path / "report.html", summaries, options)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>1</b>files not scored" in page
    shown = f"{folder}/&lt;b&gt;\\xe9.csv"
    assert f'<td class="text">{shown}</td><td class="text">{shown} exists</td>' in page
    write_report(tmp_path / "report.html", summaries[1:], options)
    assert "not scored" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_report_without_events_says_so(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\nNothing happened.\n", encoding="utf-8")
    summary, options = run(source, tiny_release)
    write_report(tmp_path / "report.html", [summary], options)
    assert "No text reports an event." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_samples_are_few_and_the_same_whatever_the_order() -> None:
    def row(number: int) -> dict[str, Any]:
        event = {"label": "a", "name": "A", "event_type": "T", "probability": 0.5}
        return {"events": [event], "text": f"text {number}", "needs_review": False, "model_version": "m"}

    forwards, backwards = Findings(), Findings()
    for number in range(500):
        forwards.add([row(number)], JobOptions())
        backwards.add([row(499 - number)], JobOptions())
    assert forwards.samples_of("a") == backwards.samples_of("a")
    assert len(forwards.samples_of("a")) == 5
    assert len(forwards.samples["a"]) <= 100


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2024-03-05", date(2024, 3, 5)),
        ("2024-03-05T23:10:00Z", date(2024, 3, 5)),
        (" 05 March 2024 ", date(2024, 3, 5)),
        (date(2024, 3, 5), date(2024, 3, 5)),
        ("05/03/2024", None),
        ("", None),
        (None, None),
    ],
)
def test_days_are_read_or_left_but_never_guessed(value: object, day: date | None) -> None:
    assert parse_day(value) == day


def test_a_report_that_cannot_be_written_is_refused_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.html").touch()
    for name, message in [
        ("there.html", "--overwrite"),
        ("report.pdf", "should end in .html"),
        ("no/r.html", "no folder"),
    ]:
        with pytest.raises(UsageError, match=message):
            check_report(tmp_path / name, [], overwrite=False)
    monkeypatch.setattr("tocsin_serving.batch.report.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"tocsin\[report\]"):
        check_report(tmp_path / "report.html", [], overwrite=False)


def test_a_date_column_that_is_not_there_is_refused(source: Path, tiny_release: Path) -> None:
    with pytest.raises(UsageError, match=r"'day' is not in .*text, when"):
        run(source, tiny_release, date_column="day")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("split", [False, True])
def test_a_text_counts_once_for_an_event_type_whatever_a_row_is(
    split: bool, suffix: str, tmp_path: Path, tiny_release: Path
) -> None:
    # Two labels of one type; the second file begins with the row number at which the first ends.
    text, folder = (
        "Peaceful protest and protest with intervention. An airstrike, and an airstrike again.",
        tmp_path / "in",
    )
    folder.mkdir()
    for name in ("a", "b"):
        table = pa.table({"text": [text], "when": ["2024-03-05"]})
        if suffix == ".csv":
            pa.csv.write_csv(table, folder / f"{name}.csv")
        else:
            pq.write_table(table, folder / f"{name}.parquet")
    found = []
    for acled in (False, True):
        options = JobOptions(
            release=str(tiny_release), date_column="when", acled=acled, split_sentences=split, prefix="x_"
        )
        summaries = job.run(plan(folder, tmp_path / f"out {acled}"), options)
        found.append(_read(summaries, options))
        assert summaries[0].rows_written == (3 if acled else 1 + split)
    assert found[0].days == found[1].days == {(date(2024, 3, 5), kind): 2 for kind in summaries[0].tally.event_types}


@pytest.mark.parametrize("split", [False, True])
def test_acleds_columns_hold_a_row_per_event(
    split: bool, source: Path, release: Path, classifier: EventClassifier
) -> None:
    summary, options = run(source, release, acled=True, split_sentences=split, scores=True)
    rows = list(rows_of(summary, options))
    assert summary.rows_written == len(rows) == summary.tally.labels.total()
    for row in rows:
        record = RECORDS[row["document_row"] - 1]
        assert row["text"] == record["text"]
        assert row["notes"] == (row["sentence"] if split else row["text"])
        (event,) = (e for e in classifier.classify(row["notes"]).events if e.label == row["label"])
        for name in ("disorder_type", "event_type", "sub_event_type"):
            assert row[name] == getattr(event, name)
        assert row["scores"][row["label"]] == row["probability"]


def test_a_text_column_called_notes_stays_the_only_one(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("notes,country\nAn airstrike hit the market.,Mali\nNothing.,Mali\n", encoding="utf-8")
    summary, options = run(source, tiny_release, text_column="notes", acled=True)
    (row,) = rows_of(summary, options)
    assert list(row)[:6] == ["notes", "country", "document_row", "disorder_type", "event_type", "sub_event_type"]
    assert (row["notes"], row["country"]) == ("An airstrike hit the market.", "Mali")


def test_a_dry_run_estimates_and_writes_nothing(source: Path, tiny_release: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.csv"
    with large.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([n, f"An airstrike hit {n:06}."] for n in range(20_000))])
    before = sorted(tmp_path.iterdir())
    found = estimate(plan(large, tmp_path / "out.csv"), JobOptions(release=str(tiny_release)))
    assert found.rows is not None
    assert 15_000 < found.rows < 25_000
    assert found.sample.rows_read == found.sample.tally.scored == 256
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_says_that_the_job_would_be_refused_and_writes_nothing(
    source: Path, tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "out.jsonl"
    options = JobOptions(release=str(tiny_release))
    dry_run.dry_run_with_estimate(plan(source, target), options)
    assert not target.parent.exists()
    target.parent.mkdir()
    target.write_text("mine")
    with pytest.raises(UsageError, match=r"^the job would be refused: .*out\.jsonl exists; --overwrite replaces it"):
        dry_run.dry_run_with_estimate(plan(source, target), options)
    assert capsys.readouterr().err.count("rows/s with") == 2
    dry_run.dry_run_with_estimate(plan(source, target), replace(options, overwrite=True))


def test_a_dry_run_leaves_out_what_the_job_would(
    source: Path, tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("")
    (folder / "b.csv").write_text("text\n" + "An airstrike hit.\n" * 10)
    dry_run.dry_run_with_estimate(plan(folder, tmp_path / "out"), JobOptions(release=str(tiny_release)))
    said = " ".join(capsys.readouterr().err.split())
    assert f"Left out: {folder / 'a.csv'} is empty" in said
    assert "about 10 rows at" in said


def test_files_that_hold_no_text_at_their_start_are_estimated_too(tmp_path: Path, tiny_release: Path) -> None:
    options = JobOptions(release=str(tiny_release))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("text\n")
    (pair,) = plan(folder / "a.csv", tmp_path / "out.csv")
    found = estimate([pair], options)
    assert (found.rows, found.rows_per_second, found.in_words(1)) == (0, None, "no rows are left to score")
    (folder / "b.csv").write_text('text\n""\n""\n')
    found = estimate(plan(folder, tmp_path / "out"), options)
    assert (found.rows, found.rows_per_second) == (2, None)
    assert found.in_words(1).startswith("about 2 rows; the first hold no text")
    (folder / "c.csv").write_text("text\n" + "An airstrike hit.\n" * 10)
    found = estimate(plan(folder, tmp_path / "out"), options)
    assert (found.rows, found.sample.rows_read, found.sample.files.source.name) == (12, 10, "c.csv")
    assert found.rows_per_second


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".csv.zst"])
def test_an_estimate_of_files_that_are_read_to_their_end_is_exact(
    suffix: str, tmp_path: Path, tiny_release: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = 3000 if suffix.startswith(".csv.") else 2000
    texts = [f"An airstrike hit {n:06}." for n in range(rows)]
    plain = ("text\n" + "\n".join(texts) + "\n").encode()
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".csv": bytes,
        ".csv.gz": gzip.compress,
        ".csv.zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    }
    for n in range(10):
        if suffix == ".parquet":
            pq.write_table(pa.table({"text": texts}), folder / f"{n}.parquet")
        else:
            (folder / f"{n}{suffix}").write_bytes(pack[suffix](plain))
    found = estimate(plan(folder, tmp_path / "out"), JobOptions(release=str(tiny_release)))
    assert found.rows == 10 * rows


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_compressed_files_are_estimated_by_whole_buffers(
    codec: str, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, rows = random.Random(7), 20_000
    lines = (f"{n},An airstrike hit {chance.randbytes(90).hex()}." for n in range(rows))
    source = tmp_path / f"in.csv{ {'gzip': '.gz', 'zstd': '.zst'}[codec] }"
    source.write_bytes(pa.compress(("id,text\n" + "\n".join(lines)).encode(), codec, asbytes=True))
    monkeypatch.setattr(dry_run, "_ROWS_COUNTED", 1)
    found = estimate(plan(source, tmp_path / "out.csv"), JobOptions(release=str(tiny_release)))
    assert found.rows is not None
    assert 0.8 * rows < found.rows < 1.2 * rows


def test_what_is_finished_is_not_left_to_score(tmp_path: Path, tiny_release: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.csv").write_text("text\n" + "An airstrike hit.\n" * 700)
    pairs, release = plan(folder, out), str(tiny_release)
    job.run(pairs[:2], JobOptions(release=release))
    assert estimate(pairs, JobOptions(release=release)).rows == 2100
    assert estimate(pairs, JobOptions(release=release, resume=True)).rows == 700
    # Made otherwise, or of another input, it will not be left as it is.
    assert estimate(pairs, JobOptions(release=release, resume=True, scores=True)).rows == 2100
    (folder / "0.csv").write_text("text\nNothing happened.\n")
    assert estimate(pairs, JobOptions(release=release, resume=True)).rows == 701
    job.run(pairs[2:], JobOptions(release=release))
    (folder / "0.csv").unlink()
    assert estimate(pairs[1:], JobOptions(release=release, resume=True)).in_words(2) == "no rows are left to score"


def test_an_estimate_counts_workers_and_uses_units_people_read(source: Path, tmp_path: Path) -> None:
    (pair,) = plan(source, tmp_path / "out.jsonl")
    found = Estimate(FileSummary(pair), rows=3_600_000, rows_per_second=100)
    assert found.in_words(1) == "about 3,600,000 rows at about 100 rows/s with 1 worker: about 10.0 h, 10.0 core-hours"
    assert found.in_words(20, start_up=2.4) == (
        "about 3,600,000 rows at about 2,000 rows/s with 20 workers: about 30 min and 2 s to start, 10.0 core-hours"
    )
    assert "about 10.0 h divided by the number of workers, 10.0 core-hours" in found.in_words(None)
    assert "2.8 core-hours a million rows" in replace(found, rows=None).in_words(2)
    assert replace(found, rows=360).in_words(1).endswith("about 4 s, less than 0.1 core-hours")


@pytest.mark.parametrize("distinct", [3, 15])
def test_texts_that_repeat_make_an_estimate_no_faster(
    distinct: int, tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)

    class Slow(ChunkScorer):
        """Takes a hundredth of a second for each text that it scores."""

        def __call__(self, chunk: Chunk) -> Answers:
            clock.now += 0.01 * len(set(chunk.texts))
            return super().__call__(chunk)

    monkeypatch.setattr(dry_run, "ChunkScorer", Slow)
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "".join(f"An airstrike hit {n % distinct}.\n" for n in range(15)))
    found = estimate(plan(source, tmp_path / "out.csv"), JobOptions(release=str(tiny_release)))
    assert found.rows_per_second == pytest.approx(100)
    assert found.sample.rows_read == 15


def test_a_sample_goes_on_until_it_has_texts_enough(
    tmp_path: Path, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "_TEXTS", 5)
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "".join(f"An airstrike hit {n // 10}.\n" for n in range(100)))
    found = estimate(plan(source, tmp_path / "out.csv"), JobOptions(release=str(tiny_release)))
    assert found.sample.rows_read == 50


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dry_run_says_how_long_workers_take_to_start(
    workers: int, source: Path, tmp_path: Path, tiny_release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = JobOptions(release=str(tiny_release), workers=workers)
    dry_run.dry_run_with_estimate(plan(source, tmp_path / "out.jsonl"), options)
    assert re.search(r"\d s to start, less than 0.1 core-hours\. Nothing", " ".join(capsys.readouterr().err.split()))


def test_days_that_stand_for_an_unknown_one_are_not_drawn(tmp_path: Path, tiny_release: Path) -> None:
    source = tmp_path / "in.jsonl"
    days = ["9999-12-31", "0001-01-01", "1799-12-31", "2024-03-05", "1944-06-06"]
    source.write_text("".join(json.dumps({"text": "An airstrike hit.", "when": day}) + "\n" for day in days))
    summary, options = run(source, tiny_release, date_column="when")
    write_report(tmp_path / "report.html", [summary], options)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "3 rows with an event have no date" in page
    assert "of the years 1800 to 2100" in page
    assert "<svg" in page


def test_an_output_that_cannot_be_read_again_is_said_plainly(
    source: Path, tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, options = run(source, tiny_release)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("tocsin_serving.batch.report.output_rows", broken)
    with pytest.raises(
        TocsinError, match=r"report\.html cannot be made: Input/output error\. The outputs are complete"
    ):
        write_report(tmp_path / "report.html", [summary], options)
