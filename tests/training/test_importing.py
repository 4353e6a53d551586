"""People's own files: what is read is what was written, every row is accounted for, nothing bad gets to training."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import openpyxl  # type: ignore[import-untyped]
import openpyxl.chart  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console
from synthetic import KINDS, TAXONOMY, notes, old_layout, write_csv

from tocsin.errors import InputError, TocsinError, UsageError
from tocsin.taxonomy import Taxonomy
from tocsin.text import fold
from tocsin_training.corpus import SPLITS
from tocsin_training.duplicates import NEAR_DUPLICATE, jaccard, shingles
from tocsin_training.importing.build import LEFT_OUT, Imported, import_corpus
from tocsin_training.importing.cleaning import clean
from tocsin_training.importing.dates import parse_date
from tocsin_training.importing.groups import splits_by_hash
from tocsin_training.importing.label_cells import names_in
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.report import ImportReport, show
from tocsin_training.prepare import _checked

Rows = list[dict[str, Any]]
LABELS = Taxonomy.load(TAXONOMY)
EXAMPLES = TAXONOMY.parent / "taxonomies"
QUICK = ImportOptions(label_errors=False)


def quick(**changed: Any) -> ImportOptions:  # noqa: ANN401
    return QUICK.model_copy(update=changed)


@pytest.fixture
def do(tmp_path: Path) -> Callable[..., Imported]:
    """Import files of this test."""

    def run(*paths: Path, **changed: Any) -> Imported:  # noqa: ANN401
        own = changed.pop("own_corpus", None)
        return import_corpus(paths, tmp_path / "imports", TAXONOMY, quick(**changed), own_corpus=own)

    return run


def records(imported: Imported) -> dict[str, Rows]:
    assert imported.folder is not None, imported.report.refusals
    return {
        split: [
            json.loads(line)
            for path in sorted((imported.folder / split).glob("*.jsonl"))
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for split in SPLITS
    }


def by_text(imported: Imported) -> dict[str, list[str]]:
    return {record["text"]: record["labels"] for part in records(imported).values() for record in part}


def expected(rows: Rows) -> dict[str, list[str]]:
    return {row["notes"]: [LABELS.find(row["sub_event_type"]).label] for row in rows}


def assert_every_row_is_accounted_for(report: ImportReport) -> None:
    assert report.rows == report.texts + report.repeated + report.merged + sum(report.dropped.values())


# --- layouts and formats


def as_csv(folder: Path, rows: Rows) -> Path:
    return write_csv(folder / "a.csv", rows)


def as_semicolons(folder: Path, rows: Rows) -> Path:
    return write_csv(folder / "a.csv", rows, delimiter=";", encoding="utf-8-sig")


def as_tsv(folder: Path, rows: Rows) -> Path:
    return write_csv(folder / "a.tsv", rows, delimiter="\t")


def as_utf16(folder: Path, rows: Rows) -> Path:
    return write_csv(folder / "a.csv", rows, encoding="utf-16")


def as_capitals(folder: Path, rows: Rows) -> Path:
    return write_csv(folder / "a.csv", [{name.upper(): value for name, value in row.items()} for row in rows])


def without_disorder_type(folder: Path, rows: Rows) -> Path:
    return write_csv(folder / "a.csv", [{k: v for k, v in row.items() if k != "disorder_type"} for row in rows])


def as_jsonl(folder: Path, rows: Rows) -> Path:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "a.jsonl"


def as_api_answer(folder: Path, rows: Rows) -> Path:
    (folder / "a.json").write_text(json.dumps({"status": 200, "count": len(rows), "data": rows}))
    return folder / "a.json"


def as_list(folder: Path, rows: Rows) -> Path:
    (folder / "a.json").write_text(json.dumps(rows, indent=1))
    return folder / "a.json"


def as_parquet(folder: Path, rows: Rows) -> Path:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    return folder / "a.parquet"


def as_excel(folder: Path, rows: Rows) -> Path:
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    book.save(folder / "a.xlsx")
    return folder / "a.xlsx"


@pytest.mark.parametrize(
    "write",
    [
        as_csv,
        as_semicolons,
        as_tsv,
        as_utf16,
        as_capitals,
        without_disorder_type,
        as_jsonl,
        as_api_answer,
        as_list,
        as_parquet,
        as_excel,
    ],
)
def test_an_acled_export_reads_the_same_in_every_layout_and_format(
    write: Callable[[Path, Rows], Path], do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(60))
    imported = do(write(tmp_path, rows))
    assert by_text(imported) == expected(rows)
    report = imported.report
    assert (report.files[0].layout, report.first, report.last) == ("ACLED", "2023-01-01", "2023-01-15")
    assert_every_row_is_accounted_for(report)


def test_old_event_types_become_labels_only_where_one_is_meant(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = list(notes(600))
    path = write_csv(tmp_path / "old.csv", old_layout(rows))
    names = tmp_path / "names.toml"
    names.write_text('[labels]\n"Riots/Protests" = "violent_demonstration"\n')
    report = do(path, names=names).report
    clashes = sum(row["sub_event_type"] == "Armed clash" for row in rows)
    crowds = sum(row["sub_event_type"] in ("Peaceful protest", "Mob violence") for row in rows)
    assert report.labels["armed_clash"].all == clashes
    assert report.labels["violent_demonstration"].all == crowds
    assert report.dropped == {"may be several labels": 600 - clashes - crowds}


def test_an_old_export_is_refused_for_the_rows_left_out_and_not_for_what_they_leave_behind(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(200))
    imported = do(write_csv(tmp_path / "old.csv", old_layout(rows)))
    left = 200 - imported.report.texts
    assert left > 150 and imported.report.texts < 50
    (said,) = imported.report.refusals
    assert said.startswith(f"{left} of 200 rows were left out, and the {200 - left} texts that remain do not suffice:")
    assert f"may be several labels, {left} rows: decide such names in a --names file" in said
    crowds = sum(row["sub_event_type"] in ("Peaceful protest", "Mob violence") for row in rows)
    assert f"'Riots/Protests' ({crowds} texts): before 2019 it covered" in said
    assert "acled-nine-types.toml" in said
    assert "every text is labelled" not in said and "too few" not in said


def test_every_row_of_an_old_export_is_one_of_the_nine_types(tmp_path: Path) -> None:
    rows = list(notes(120))
    path, taxonomy = write_csv(tmp_path / "old.csv", old_layout(rows)), EXAMPLES / "acled-nine-types.toml"
    report = import_corpus([path], tmp_path / "imports", taxonomy, QUICK).report
    assert (report.texts, report.dropped, report.refusals) == (120, {}, [])
    crowds = sum(row["sub_event_type"] in ("Peaceful protest", "Mob violence") for row in rows)
    assert report.labels["riots_protests"].all == crowds
    assert len(report.labels) == 9


def test_the_rows_of_one_note_are_one_text_with_all_their_labels(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = list(notes(60))
    other = "Attack" if rows[0]["sub_event_type"] != "Attack" else "Mob violence"
    twin = rows[0] | {"sub_event_type": other}
    imported = do(write_csv(tmp_path / "a.csv", [*rows, twin, rows[1], rows[1]]))
    labels = {LABELS.find(name).label for name in (rows[0]["sub_event_type"], other)}
    assert set(by_text(imported)[rows[0]["notes"]]) == labels
    assert (imported.report.merged, imported.report.repeated, imported.report.texts) == (1, 2, 60)
    assert_every_row_is_accounted_for(imported.report)


def test_a_text_that_is_no_event_in_one_row_and_one_in_another_is_told(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = [{"text": row["notes"], "labels": row["sub_event_type"]} for row in notes(60)]
    other = [rows[0] | {"labels": ""}, rows[1] | {"labels": "Arrests"}, rows[2]]
    report = do(write_csv(tmp_path / "a.csv", [*rows, *other, other[0]])).report
    assert report.disputed == 1
    assert any("1 texts are called no event in one row" in warning for warning in report.warnings)
    assert_every_row_is_accounted_for(report)
    assert not do(write_csv(tmp_path / "b.csv", [*rows, *other[1:]])).report.disputed


def test_names_that_mean_no_event_are_disputed_as_no_event_is(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [{"text": row["notes"], "labels": row["sub_event_type"]} for row in notes(60)]
    other = [rows[n] | {"labels": labels} for n, labels in enumerate(("not relevant", "off topic", "Arrests"))]
    alike = [{"text": "The cup final was put off.", "labels": labels} for labels in ("not relevant", "", "off topic")]
    names = tmp_path / "names.toml"
    names.write_text('[labels]\n"not relevant" = ""\n"off topic" = ""\n')
    report = do(write_csv(tmp_path / "a.csv", [*rows, *other, *alike]), names=names).report
    assert (report.disputed, report.without_event.all) == (2, 1)
    assert any("2 texts are called no event in one row" in warning for warning in report.warnings)


def test_a_text_left_out_is_listed_with_its_rows_and_the_line_at_fault(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = [{"text": row["notes"], "labels": row["sub_event_type"]} for row in notes(60)]
    many = [rows[0], rows[0] | {"labels": "Arrests"}, rows[0] | {"labels": "Picnic"}, rows[0] | {"labels": "Picnic"}]
    imported = do(write_csv(tmp_path / "a.csv", [*rows, *many]), bad_rows=0.5)
    assert imported.folder is not None
    (line,) = (imported.folder / LEFT_OUT).read_text().splitlines()
    reason = "no label goes by 'Picnic'"
    assert json.loads(line) == {"file": "a.csv", "line": 64, "kind": "unknown label", "reason": reason, "rows": 5}
    assert imported.report.problems == [f"a.csv:64: {reason} (5 rows have this text)"]
    printed = Console(record=True, width=200, file=io.StringIO())
    show(imported.report, printed)
    assert "5 rows left out in all" in printed.export_text()


def test_the_shapes_of_labels(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = list(notes(90))
    want = expected(rows)
    names = [LABELS.find(kind).label for kind in KINDS]
    shapes: dict[str, Callable[[str], dict[str, object]]] = {
        "one": lambda label: {"code": label},
        "json": lambda label: {"code": json.dumps([label])},
        "python": lambda label: {"code": repr([label])},
        "marked": lambda label: {"code": f"{label}; {label}"},
        "choices": lambda label: {"code": json.dumps({"choices": [label]})},
        "flags": lambda label: {name: int(name == label) for name in names},
    }
    for name, shape in shapes.items():
        cells = [{"body": text, **shape(labels[0])} for text, labels in want.items()]
        columns = tuple(names) if name == "flags" else ("code",)
        imported = do(write_csv(tmp_path / f"{name}.csv", cells), text_column="body", label_column=columns)
        assert by_text(imported) == want, name


def test_an_empty_label_is_not_coded_unless_it_is_said_to_mean_no_event(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    cells = [{"body": row["notes"], "code": row["sub_event_type"]} for row in notes(80)]
    for row in cells[:10]:
        row["code"] = ""
    cells[10]["code"] = "No event"
    path, columns = write_csv(tmp_path / "a.csv", cells), {"text_column": "body", "label_column": ("code",)}
    dropped, meant = do(path, **columns).report, do(path, empty="no-event", **columns).report
    assert (dropped.dropped, dropped.without_event.all) == ({"not coded": 10}, 1)
    assert (meant.dropped, meant.without_event.all) == ({}, 11)


def test_what_is_said_of_labels_in_cells_holds_in_layouts_that_are_told(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(80))
    for row in rows[:10]:
        row.update(event_type="", sub_event_type="")
    rows[10]["sub_event_type"] = "No event"
    rows[11]["sub_event_type"] = "Arrests + Attack"
    path = write_csv(tmp_path / "acled.csv", rows)
    assert do(path).report.dropped == {"not coded": 10, "unknown label": 1}
    imported = do(path, empty="no-event", separator="+")
    assert (imported.report.dropped, imported.report.without_event.all) == ({}, 11)
    assert by_text(imported)[rows[11]["notes"]] == ["arrests", "attack"]

    codes = [{"text": row["notes"], "sub_type": "AIR_STRIKE" if n >= 10 else ""} for n, row in enumerate(rows)]
    report = do(write_csv(tmp_path / "case.csv", codes), empty="no-event", separator="+").report
    assert (report.dropped, report.without_event.all, report.files[0].ignored) == ({}, 10, ("separator",))
    assert any(each.startswith("--separator plays no part in case.csv") for each in report.warnings)


def test_label_studio_takes_what_more_than_half_of_the_annotators_gave(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(62))

    def answer(*names: str, cancelled: bool = False) -> dict[str, Any]:
        result = [{"type": "choices", "from_name": "event", "value": {"choices": list(names)}}] if names else []
        return {"was_cancelled": cancelled, "result": result}

    tasks = [
        {"id": number, "data": {"text": row["notes"]}, "annotations": [answer(row["sub_event_type"])]}
        for number, row in enumerate(rows)
    ]
    tasks[0]["annotations"] = [answer("Attack"), answer("Attack", "Arrests"), answer("Arrests"), answer("Attack")]
    tasks[1]["annotations"] = [answer("Attack"), answer("Arrests")]
    tasks[2]["annotations"] = [answer("Attack", cancelled=True)]
    tasks[3]["annotations"] = [answer()]
    (tmp_path / "full.json").write_text(json.dumps(tasks))
    minimal = [
        {"text": row["notes"], "event": row["sub_event_type"], "id": 1, "annotator": 1, "annotation_id": 1}
        | {"created_at": "x", "updated_at": "y", "lead_time": 2.5}
        for row in rows
    ]
    (tmp_path / "min.json").write_text(json.dumps(minimal))

    full = do(tmp_path / "full.json")
    assert by_text(full)[rows[0]["notes"]] == ["attack"]
    assert by_text(full)[rows[3]["notes"]] == []
    assert full.report.dropped == {"annotators disagree": 1, "not coded": 1}
    assert by_text(do(tmp_path / "min.json")) == expected(rows)


@pytest.mark.parametrize("lists", [False, True])
def test_columns_that_are_called_as_label_studio_s_are_no_tasks_by_that(
    lists: bool, do: Callable[..., Imported], tmp_path: Path
) -> None:
    labels = expected(list(notes(60)))
    rows = [{"data": text, "annotations": found if lists else found[0]} for text, found in labels.items()]
    path = as_jsonl(tmp_path, rows) if lists else write_csv(tmp_path / "a.csv", rows)
    assert by_text(do(path, text_column="data", label_column=("annotations",))) == labels
    with pytest.raises(InputError, match=r"none that is known by its columns \(data, annotations\)"):
        do(path)


def test_a_task_whose_annotations_are_none_is_left_out_by_itself(do: Callable[..., Imported], tmp_path: Path) -> None:
    tasks: Rows = [
        {"data": {"text": text}, "annotations": [{"result": [{"type": "choices", "value": {"choices": labels}}]}]}
        for text, labels in expected(list(notes(62))).items()
    ]
    tasks[60]["annotations"], tasks[61]["annotations"] = None, "by hand"
    report = do(as_jsonl(tmp_path, tasks)).report
    assert (report.texts, report.dropped) == (60, {"annotations": 1, "not coded": 1})
    pyarrow.parquet.write_table(pa.Table.from_pylist(tasks[:60]), tmp_path / "b.parquet")
    assert do(tmp_path / "b.parquet").report.files[0].layout == "Label Studio"
    for task in tasks:
        task["annotations"] = []
    assert "not coded, 62 rows" in refusals(do(as_jsonl(tmp_path, tasks)))


def test_label_studio_s_rows_of_one_task_are_voted_on_as_its_annotations_are(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    texts = [row["notes"] for row in notes(70)]
    votes: list[tuple[str | None, ...]] = [
        ("Attack", "Attack", "Arrests"),
        ("Attack", "Arrests"),
        ("Attack", None, None),
        ("Attack", "No event", None),
        (None,),
        ("Attack", "Attack", None),
    ]
    tasks = dict(zip(texts, [*votes, *[("Arrests",)] * 64], strict=True))

    def row(number: int, who: int, text: str, name: str | None) -> dict[str, Any]:
        answer = {} if name is None else {"event": name}
        own = {"id": number, "annotation_id": 10 * number + who, "annotator": who, "lead_time": 2.5}
        return {"text": text, **answer, **own}

    rows = [
        row(number, who, text, name)
        for who in (1, 2, 3)
        for number, (text, names) in enumerate(tasks.items(), 1)
        for name in names[who - 1 : who]
    ]
    (tmp_path / "min.json").write_text(json.dumps(rows))
    full = [
        {"data": {"text": text}, "annotations": [{"result": [_choice(name)] if name else []} for name in names]}
        for text, names in tasks.items()
    ]
    (tmp_path / "full.json").write_text(json.dumps(full))
    cells = [{"event": "", **each} for each in rows]
    paths = [tmp_path / "min.json", tmp_path / "full.json", write_csv(tmp_path / "min.csv", cells)]
    for path in paths:
        found = do(path)
        assert [by_text(found).get(text) for text in texts[:6]] == [["attack"], None, [], [], [], ["attack"]], path.name
        assert found.report.dropped == {"annotators disagree": 1}
        assert_every_row_is_accounted_for(found.report)


def _choice(name: str, control: str = "event") -> dict[str, Any]:
    return {"type": "choices", "from_name": control, "value": {"choices": [name]}}


def as_tasks(folder: Path, rows: Rows) -> Path:
    tasks = [
        {"data": {"text": row["notes"], "when": row["event_date"], "paper": row["paper"]}}
        | {"annotations": [{"result": [_choice(row["sub_event_type"])]}]}
        for row in rows
    ]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return folder / "tasks.json"


def test_choices_under_other_names_than_that_of_the_labels_are_no_vote_for_no_event(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(62))
    results = [[_choice(row["sub_event_type"]), _choice("English", "language")] for row in rows]
    results[60:] = [[_choice("English", "language")], []]
    tasks = [
        {"data": {"text": row["notes"]}, "annotations": [{"result": result}]}
        for row, result in zip(rows, results, strict=True)
    ]
    path = as_jsonl(tmp_path, tasks)
    report = do(path, label_column=("event",)).report
    assert (report.texts, report.without_event.all, report.dropped) == (61, 1, {"not coded": 1})
    meant = do(path, label_column=("event",), empty="no-event").report
    assert (meant.without_event.all, meant.dropped) == (2, {})
    with pytest.raises(UsageError, match=r"no column 'evnet' \(--label-column\); its columns are: .*text, event, lang"):
        do(path, label_column=("evnet",))


def renamed(**columns: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Rows], Path]:
    """A writer of CSV with these columns, and those that tests of all layouts name."""

    def write(folder: Path, rows: Rows) -> Path:
        cells = [
            {"when": row["event_date"], "paper": row["paper"], **{name: of(row) for name, of in columns.items()}}
            for row in rows
        ]
        return write_csv(folder / "a.csv", cells)

    return write


def text_of(row: dict[str, Any]) -> str:
    return str(row["notes"])


EVERY_LAYOUT = {
    "ACLED": renamed(notes=text_of, event_type=lambda row: row["sub_event_type"]),
    "GTD": renamed(
        eventid=text_of,
        summary=text_of,
        success=lambda row: 1,
        attacktype1_txt=lambda row: (
            "Hostage Taking (Kidnapping)" if "Attack" in row["sub_event_type"] else "Armed Assault"
        ),
        targtype1_txt=lambda row: "Police",
        weaptype1_txt=lambda row: "Firearms",
    ),
    "UCDP GED": renamed(source_headline=text_of, type_of_violence=lambda row: 1),
    "CASE 2021 task 2": renamed(
        text=text_of, sub_type=lambda row: "AIR_STRIKE" if "strike" in row["notes"] else "ORG_CRIME"
    ),
    "Label Studio": as_tasks,
    "text and labels": renamed(text=text_of, labels=lambda row: row["sub_event_type"]),
}


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_columns_that_the_user_names_hold_in_every_layout(
    layout: str, do: Callable[..., Imported], tmp_path: Path
) -> None:
    """One that is missing is told, the date is read from the one that is named, and splits go by any."""
    rows = [row | {"paper": f"paper {n % 10}"} for n, row in enumerate(notes(60))]
    path = EVERY_LAYOUT[layout](tmp_path, rows)
    options: dict[str, Any] = {"bad_rows": 1.0}
    if layout == "UCDP GED":
        options["names"] = tmp_path / "names.toml"
        options["names"].write_text('[labels]\n"State-based conflict" = "armed_clash"\n')
    report = do(path, date_column="when", split_by="paper", **options).report
    assert (report.files[0].layout, report.first, report.last) == (layout, "2023-01-01", "2023-01-15")
    for named in (
        {"text_column": "nowhere", "label_column": ("when",)},
        {"text_column": "when", "label_column": ("nowhere",)},
        {"date_column": "nowhere"},
        {"split_by": "nowhere"},
    ):
        with pytest.raises(UsageError, match="no column 'nowhere'"):
            do(path, **named, **options)


def test_of_ucdp_s_file_the_columns_that_are_named_are_read(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [{"source_headline": "x", "type_of_violence": 1, "body": text} for text in expected(list(notes(60)))]
    for row, kind in zip(rows, (row["sub_event_type"] for row in notes(60)), strict=True):
        row["code"] = kind
    path = write_csv(tmp_path / "a.csv", rows)
    assert by_text(do(path, text_column="body", label_column=("code",))) == expected(list(notes(60)))
    with pytest.raises(UsageError, match=r"no column 'boddy' \(--text-column\)"):
        do(path, text_column="boddy")


def test_columns_that_differ_only_in_case_are_told_apart_or_refused(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = [{"text": row["notes"], "Label": row["sub_event_type"], "LABEL": "no label"} for row in notes(60)]
    path = write_csv(tmp_path / "a.csv", rows)
    assert by_text(do(path, text_column="TEXT", label_column=("Label",))) == expected(list(notes(60)))
    with pytest.raises(InputError, match="Label, LABEL are several columns whose names differ only in case"):
        do(path, text_column="text", label_column=("label",))


def test_an_export_and_a_sheet_whose_columns_are_named_are_trained_on_together(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = [row | {"paper": "one"} for row in notes(120)]
    export = write_csv(tmp_path / "export.csv", rows[:40])
    cells = [{"note": row["notes"], "code": row["sub_event_type"], "day": row["event_date"]} for row in rows[40:80]]
    sheet, tasks = write_csv(tmp_path / "sheet.csv", cells), as_tasks(tmp_path, rows[80:])
    named = {"text_column": "note", "label_column": ("code",), "date_column": "day"}
    imported = do(export, sheet, tasks, **named)
    assert by_text(imported) == expected(rows)
    assert imported.report.undated == 40, "of the tasks, whose date nobody named"
    told = [warning for warning in imported.report.warnings if "its own were read" in warning]
    assert told == [
        f"{name} has no column note, code, so its own were read, those of {layout}"
        for name, layout in (("export.csv", "ACLED"), ("tasks.json", "Label Studio"))
    ]
    with pytest.raises(UsageError, match=r"export\.csv: has no column 'note'"):
        do(export, **named)
    with pytest.raises(UsageError, match=r"has no column 'note'"):
        do(export, tasks, **named)


def test_half_characters_in_any_cell_of_json_are_replaced(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [{"text": row["notes"], "labels": row["sub_event_type"], "date": "", "part": "x"} for row in notes(62)]
    broken = "\ud83d"
    rows[60] |= {"labels": f"Picnic {broken}"}
    rows[61] |= {"date": f"{broken} 2024", "part": broken, "text": f"{rows[61]['text']} {broken}"}
    rows[0] |= {"part": broken}
    report = do(as_jsonl(tmp_path, rows), split_by="part").report
    assert report.dropped == {"unknown label": 1}
    assert report.problems == ["a.jsonl:61: no label goes by 'Picnic \ufffd'"]
    assert report.unread_dates == ["\ufffd 2024"]


def test_a_line_that_nests_too_deeply_is_a_bad_row_wherever_it_stands(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    path, deep = as_jsonl(tmp_path, list(notes(60))), "[" * 50_000
    path.write_text(path.read_text() + deep + "\n")
    assert do(path).report.dropped == {"json": 1}
    (tmp_path / "b.json").write_text('{"a": ' + deep + "\n" + path.read_text())
    with pytest.raises(InputError, match=r"b\.json"):
        do(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("before", "each"), [(b"", b"["), (b"", b"[\n"), (b'{"data": [', b'{"a": '), (b'[{"notes": ', b"[0, ")]
)
def test_json_that_nests_too_deeply_is_refused_at_once(
    before: bytes, each: bytes, do: Callable[..., Imported], tmp_path: Path
) -> None:
    """Left to the parser, it takes minutes and gigabytes."""
    (tmp_path / "a.json").write_bytes(before + each * 100_000)
    begun = time.process_time()
    with pytest.raises(InputError, match=r"a\.json: lists and objects lie in one another more than 100 deep"):
        do(tmp_path / "a.json")
    assert time.process_time() - begun < 5


def test_brackets_in_texts_of_json_nest_nothing(do: Callable[..., Imported], tmp_path: Path) -> None:
    """Over several of the parser's reads, with quotes and backslashes that end anywhere in them."""
    marks = [f"{'[{' * 60} {quote}".strip() for quote in ("", '"', "\\", '\\"', '\\\\"')]
    rows = [row | {"notes": f"{row['notes']} {marks[n % 5]}", "more": "[" * n} for n, row in enumerate(notes(900))]
    path = as_list(tmp_path, rows)
    assert path.stat().st_size > 4 * 65_536
    assert by_text(do(path)) == expected(rows)


def test_case_ucdp_and_gtd_are_mapped_where_that_is_sound(do: Callable[..., Imported], tmp_path: Path) -> None:
    texts = [row["notes"] for row in notes(100)]
    case = [{"id": n, "text": text, "sub_type": ("AIR_STRIKE", "ORG_CRIME")[n % 2]} for n, text in enumerate(texts)]
    found = do(write_csv(tmp_path / "case.tsv", case, delimiter="\t")).report
    assert (found.files[0].layout, found.labels["air_drone_strike"].all) == ("CASE 2021 task 2", 50)
    assert found.without_event.all == 50

    ged = [{"id": n, "type_of_violence": 1 + n % 3, "source_headline": text} for n, text in enumerate(texts)]
    report = do(write_csv(tmp_path / "ged.csv", ged)).report
    assert (report.texts, report.dropped) == (0, {"may be several labels": 100})
    assert "no row can be used" in report.refusals[0]

    codes = [
        ("1", "Bombing/Explosion", "1", "Explosives", "Vehicle", "Military", "suicide_bomb"),
        ("1", "Bombing/Explosion;Armed Assault", "1", "Explosives", "Vehicle", "Police", "armed_clash;suicide_bomb"),
        ("1", "Armed Assault;Unarmed Assault", "0", "Firearms", "Handgun", "Police", None),
        ("1", "Bombing/Explosion", "0", "Explosives", "Grenade", "Business", "grenade"),
        ("1", "Bombing/Explosion", "0", "Explosives", "Unknown Explosive Type", "Business", None),
        ("0", "Assassination", "0", "Firearms", "Handgun", "Business", None),
        ("1", "Armed Assault", "0", "Firearms", "Handgun", "Police", "armed_clash"),
        ("1", "Armed Assault", "0", "Firearms", "Handgun", "Private Citizens & Property", "attack"),
        ("1", "Hostage Taking (Kidnapping)", "0", "Unknown", "", "NGO", "abduction_forced_disappearance"),
        ("1", "Unknown", "0", "Unknown", "", "NGO", None),
    ]
    columns = ("success", "attacktype1_txt", "suicide", "weaptype1_txt", "weapsubtype1_txt", "targtype1_txt")
    gtd = [
        {"eventid": n, "iyear": 2015, "imonth": 3, "iday": 0, "summary": text}
        | dict(zip(columns, codes[n % len(codes)], strict=False))
        for n, text in enumerate(texts)
    ]
    for row in gtd:
        row["attacktype1_txt"], _, row["attacktype2_txt"] = str(row["attacktype1_txt"]).partition(";")
        row["attacktype3_txt"] = "."
    imported = do(write_csv(tmp_path / "gtd.csv", gtd))
    read = by_text(imported)
    for number, text in enumerate(texts):
        labels = codes[number % len(codes)][-1]
        assert read.get(text) == (None if labels is None else labels.split(";"))
    assert imported.report.undated == imported.report.texts


def test_rules_for_gtd_name_labels_that_there_are() -> None:
    from tocsin_training.importing.gtd import rules

    assert all((rule.label is None) != (rule.reason is None) for rule in rules())
    assert {rule.label for rule in rules() if rule.label} <= set(LABELS.names)


# --- cleaning and dates


def test_markup_goes_and_the_text_s_own_brackets_stay() -> None:
    found = clean("<p>Troops &amp; police<br>fired.</p><script>x()</script> <unknown group> said 3 < 5 &c; AT&T")
    assert found.text == "Troops & police fired. <unknown group> said 3 < 5 &c; AT&T"
    assert found.html
    assert not clean("A plain text with < and > in it.").html
    feed = clean("&lt;p&gt;Troops &amp;amp; police&lt;br/&gt;fired.&lt;/p&gt;")
    assert (feed.text, feed.html) == ("Troops & police fired.", True)
    assert clean("&lt;unknown group&gt; shot at &lt; 3 cars").text == "<unknown group> shot at < 3 cars"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("On 5 August 2024, in Arbala, men shot.", "In Arbala, men shot."),
        ("Around 5 August 2024 (as reported), men shot.", "Men shot."),
        ("Between 3 and 5 August 2024, men shot.", "Men shot."),
        ("On August 5, 2024, men shot.", "Men shot."),
        ("In August 2024, men shot.", "Men shot."),
        ("On the road to Arbala, men shot.", "On the road to Arbala, men shot."),
        ("In March, the town, men shot.", "The town, men shot."),
        ("Marching on 5 August, men shot.", "Marching on 5 August, men shot."),
        ("Between August 3 and 5, 2024, men shot.", "Men shot."),
        ("From 28 July to 3 August 2024, men shot.", "Men shot."),
        ("On the night of the 5th of August, men shot.", "Men shot."),
        ("Looting: On 5 August 2024, men shot.", "Men shot."),
        ("On 5 August 2024 in Arbala, men shot.", "In Arbala, men shot."),
        ("On Monday 5 August 2024, men shot.", "Men shot."),
        ("On Monday, 05/08/2024, men shot.", "Men shot."),
        ("On 2024-08-05, men shot.", "Men shot."),
        ("10/02/2014: Men shot.", "Men shot."),
        *(
            (text, text)
            for text in (
                "Around 20, including women, marched in Arbala.",
                "By 10, the riot grew.",
                "Between 5 and 10, mostly women, were shot.",
                "From 5 to 10, the riot grew.",
                "Looting: Around 20, including women, broke in.",
                "Toll: 10/20 men were shot.",
                "During march in Arbala, men shot.",
            )
        ),
        ("On 5 August, 1500, mostly women, marched.", "1500, mostly women, marched."),
    ],
)
def test_a_formula_opening_goes_when_asked(text: str, rest: str) -> None:
    assert clean(text, strip_opening=True).text == rest
    assert clean(text).text == text


def test_text_is_in_one_normal_form_with_single_spaces() -> None:
    assert clean(" cafe\u0301\u200b\n in\tthe \ufeffsquare ").text == "café in the square"


@pytest.mark.parametrize(
    "text",
    [
        *("2024-08-25", "2024/08/25", "25 August 2024", "25-Aug-2024", "25-August-2024", "August 25, 2024"),
        *("25/08/2024", "08/25/2024", "25.08.2024", "20240825", "2024-08-25T10:00:00Z", "45529"),
        *("25.08.24", "8/25/24", "25th August 2024", "25th of Aug 2024", "Aug. 25, 2024", "August 25th, 2024"),
        *("Sun, 25 Aug 2024 10:00:00 GMT", "Sunday, 25 August 2024", "Sunday 25/08/2024 10:00"),
    ],
)
def test_one_day_in_many_formats(text: str) -> None:
    assert parse_date(text) == "2024-08-25"


def test_a_date_that_may_be_two_is_none_until_the_order_is_known() -> None:
    assert parse_date("05/08/2024") is None
    assert parse_date("05/08/2024", "day-first") == "2024-08-05"
    assert parse_date("05/08/2024", "month-first") == "2024-05-08"
    assert parse_date("5/8/24", "month-first") == "2024-05-08"
    assert parse_date("25/08/98") == "1998-08-25"
    assert parse_date("24-08-25") is None, "the year may come first"
    assert parse_date("31/31/2024") is None
    assert parse_date("soon") is None


@pytest.mark.parametrize("text", ["2024", "202411", "202412", "2024111", "2024-11"])
def test_a_month_or_a_year_is_no_day(text: str) -> None:
    assert parse_date(text) is None


def test_one_date_of_a_file_tells_how_the_others_are_meant(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [row | {"event_date": f"05/{1 + n % 12:02}/2024"} for n, row in enumerate(notes(80))]
    refused = do(write_csv(tmp_path / "a.csv", rows), split_by="date").report
    assert any("--dates day-first" in refusal for refusal in refused.refusals)
    told = do(write_csv(tmp_path / "b.csv", [rows[0] | {"event_date": "25/01/2024"}, *rows[1:]]))
    assert (told.report.first, told.report.last, told.report.undated) == ("2024-01-05", "2024-12-05", 0)


@pytest.mark.parametrize("text", ["1 Sept 2024", "Sept. 1, 2024", "Sep. 1, 2024", "September 1st, 2024"])
def test_a_shortened_september_is_one(text: str) -> None:
    assert parse_date(text) == "2024-09-01"


def test_dates_that_cannot_be_read_are_shown(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [row | {"event_date": "" if number % 2 else "late summer"} for number, row in enumerate(notes(80))]
    said = refusals(do(write_csv(tmp_path / "a.csv", rows), split_by="date"))
    assert "80 of 80 texts have no date that can be read (such as 'late summer')" in said


def test_names_in_a_cell() -> None:
    assert names_in("a; b |a") == ["a", "b"]
    assert names_in("a, b; c", ",") == ["a", "b; c"]
    assert names_in('["a", "b"]') == names_in(["a", "b"]) == names_in({"choices": ["a", "b"]}) == ["a", "b"]
    assert names_in(None) == names_in("") == names_in(float("nan")) == []


# --- splits


def test_texts_that_are_nearly_the_same_are_in_one_split(do: Callable[..., Imported], tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = []
    for row in notes(100):
        rows.append(row)
        words = row["notes"].split()
        words[rng.randrange(len(words))] = "somewhere"
        rows.append(row | {"notes": " ".join(words)})
    imported = do(write_csv(tmp_path / "a.csv", rows))
    parts = {
        split: [(shingles(record["text"]), record["text"]) for record in part]
        for split, part in records(imported).items()
    }
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        for left, text in parts[one]:
            assert all(jaccard(left, right) < NEAR_DUPLICATE for right, _ in parts[other]), text
    assert imported.report.near_duplicates == pytest.approx(100, abs=5)


def test_splits_do_not_depend_on_the_order_of_the_rows(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = list(notes(200))
    one = do(write_csv(tmp_path / "a.csv", rows))
    other = do(write_csv(tmp_path / "b.csv", rows[::-1]))
    texts = [{split: {r["text"] for r in part} for split, part in records(each).items()} for each in (one, other)]
    assert texts[0] == texts[1]
    sizes = one.report.splits
    # Each text is held out by its own hash, so shares are as chance has it: three standard deviations.
    assert sizes["validation"] == pytest.approx(20, abs=13) and sizes["test"] == pytest.approx(20, abs=13)


def test_a_text_keeps_its_split_as_data_grow(do: Callable[..., Imported], tmp_path: Path) -> None:
    """What next month's release is tested on, this month's was not trained on."""
    rows = list(notes(600))
    month = do(write_csv(tmp_path / "a.csv", rows[:480]))
    # A newer text that is nearly an older one goes where that is, whatever its own hash says.
    alike = [row | {"notes": row["notes"] + " Again.", "event_date": "2024-12-31"} for row in rows[:480:3]]
    next_month = do(write_csv(tmp_path / "b.csv", [*rows, *alike]))
    before, after = (
        {r["text"]: split for split, part in records(each).items() for r in part} for each in (month, next_month)
    )
    assert {text: after[text] for text in before} == before
    assert set(after.values()) == set(SPLITS)
    assert next_month.report.near_duplicates == pytest.approx(len(alike), abs=5)


def test_a_rare_label_is_in_every_split_and_no_text_once_trained_on_comes_to_the_test() -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        keys = rng.integers(0, 2**64, size=12, dtype=np.uint64)
        rare, leaders = np.zeros(12, dtype=np.int64), np.arange(12)
        few, all_of_them = (
            splits_by_hash(leaders[:number], rare[:number], rare[:number], keys[:number], 0.2) for number in (3, 12)
        )
        assert set(few) == set(all_of_them) == {0, 1, 2}
        # Where the hash holds out all there is, one has to be learned from nevertheless.
        assert not np.any((few == 0) & (all_of_them[:3] == 2)) or np.all(keys[:3] < 0.2 * 2**64)


def test_big_groups_are_held_out_no_more_often_than_others() -> None:
    """By the lowest hash of its texts, a group of thirty would be in the test nineteen times in twenty."""
    keys = np.random.default_rng(11).integers(0, 2**64, size=60_000, dtype=np.uint64)
    leaders = np.repeat(np.arange(2000) * 30, 30)
    split = splits_by_hash(leaders, np.zeros(60_000, np.int64), np.zeros(60_000, np.int64), keys, 0.2)
    assert np.mean(split == 2) == pytest.approx(0.1, abs=0.025)
    assert np.mean(split == 1) == pytest.approx(0.1, abs=0.025)


def test_by_date_the_newest_are_the_test(do: Callable[..., Imported], tmp_path: Path) -> None:
    found = records(do(write_csv(tmp_path / "a.csv", list(notes(200))), split_by="date"))
    days = {split: [record["date"] for record in part] for split, part in found.items()}
    assert max(days["train"]) < min(days["validation"]) <= max(days["validation"]) < min(days["test"])
    assert len(days["test"]) == pytest.approx(20, abs=4)


def test_a_column_s_values_stay_in_one_split(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [row | {"source": f"paper {n % 30}"} for n, row in enumerate(notes(240))]
    source = {row["notes"]: row["source"] for row in rows}
    found = records(do(write_csv(tmp_path / "a.csv", rows), split_by="source"))
    sources = {split: {source[record["text"]] for record in part} for split, part in found.items()}
    assert all(sources.values())
    assert sum(map(len, sources.values())) == 30


def test_a_column_that_names_the_splits_is_taken_at_its_word(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [row | {"part": ("train", "train", "dev", "test")[n % 4]} for n, row in enumerate(notes(80))]
    assert do(write_csv(tmp_path / "a.csv", rows), split_by="part").report.splits == {
        "train": 40,
        "validation": 20,
        "test": 20,
    }


def test_values_that_share_a_text_are_in_one_split(do: Callable[..., Imported], tmp_path: Path) -> None:
    """An agency's text stands in several papers; a paper that is held out is one of which nothing was learned."""
    rows = [row | {"source": f"paper {n % 40}"} for n, row in enumerate(notes(240))]
    shared = [rows[n] | {"source": f"PAPER {n + 20}"} for n in range(20)]
    imported = do(write_csv(tmp_path / "a.csv", [*rows, *shared]), split_by="source")
    source = {row["notes"]: row["source"] for row in rows}
    split = {source[record["text"]]: name for name, part in records(imported).items() for record in part}
    assert all(split[f"paper {n}"] == split[f"paper {n + 20}"] for n in range(20))
    assert set(split.values()) == set(SPLITS)


def test_a_text_goes_by_all_the_splits_that_its_rows_name(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [row | {"part": ("train", "train", "dev", "test")[n % 4]} for n, row in enumerate(notes(80))]
    twins = [rows[0] | {"part": "test"}, rows[1] | {"part": "dev"}, rows[5] | {"part": "n/a"}, rows[3] | {"part": ""}]
    blank = notes(81, seed=6)
    added = [row | {"part": part} for row, part in zip(2 * [next(blank)], ("", "test"), strict=True)]
    imported = do(write_csv(tmp_path / "a.csv", [*rows, *twins, *added]), split_by="part")
    found = {record["text"]: split for split, part in records(imported).items() for record in part}
    wanted = {0: "test", 1: "validation", 5: "train", 3: "test"}
    assert {n: found[rows[n]["notes"]] for n in wanted} == wanted
    assert found[added[0]["notes"]] == "test"
    report = imported.report
    assert (report.two_splits, report.dropped, report.texts) == (2, {}, 81)
    assert any("2 texts are in rows of different splits" in warning for warning in report.warnings)
    assert_every_row_is_accounted_for(report)


@pytest.mark.parametrize("stray", ["", "n/a", "testt"])
def test_a_stray_cell_in_a_column_of_splits_costs_its_row_and_not_the_splits(
    do: Callable[..., Imported], tmp_path: Path, stray: str
) -> None:
    names = ("train", "TRAIN ", "eval", "holdout")
    rows = [row | {"part": names[n % 4]} for n, row in enumerate(notes(80))]
    rows[10]["part"] = stray
    imported = do(write_csv(tmp_path / "a.csv", rows), split_by="part")
    report, given = imported.report, {row["notes"]: row["part"].strip().lower() for row in rows}
    assert (report.split_by, report.splits) == ("column part", {"train": 40, "validation": 19, "test": 20})
    found = {split: {given[record["text"]] for record in part} for split, part in records(imported).items()}
    assert found == {"train": {"train"}, "validation": {"eval"}, "test": {"holdout"}}
    assert report.dropped == {"no split": 1}
    assert report.problems == [f"a.csv:12: the column part names no split but {stray!r}"]
    assert any("1 rows left out, no split: say in each row" in warning for warning in report.warnings)
    assert_every_row_is_accounted_for(report)


def test_a_column_of_splits_with_many_other_values_or_without_one_of_them_is_refused(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    def split(*names: str) -> str:
        rows = [row | {"part": names[n % len(names)]} for n, row in enumerate(notes(80))]
        return refusals(do(write_csv(tmp_path / "a.csv", rows), split_by="part"))

    assert "no split, 20 rows: say in each row whether it is for train" in split("train", "dev", "test", "later")
    assert "nothing is left for test: no row that can be used has its name there" in split("train", "train", "dev")


def test_a_few_values_that_sound_like_splits_make_no_column_of_splits(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    topics = ["train", "test", *(f"topic {n}" for n in range(28))]
    rows = [row | {"topic": topics[n % 30]} for n, row in enumerate(notes(240))]
    report = do(write_csv(tmp_path / "a.csv", rows), split_by="topic").report
    assert report.split_by == "column topic, each value in one split"
    assert not report.dropped


# --- the cache, the folder


def test_the_second_time_nothing_is_made_again(do: Callable[..., Imported], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", list(notes(60)))
    first, second, other = do(path), do(path), do(path, held_out=0.4)
    assert (first.fresh, second.fresh, other.fresh) == (True, False, True)
    assert first.folder == second.folder != other.folder
    assert first.report == second.report
    with path.open("a") as file:
        file.write("\n")
    assert do(path).folder != first.folder


def test_an_imported_corpus_that_was_changed_is_not_trained_on(do: Callable[..., Imported], tmp_path: Path) -> None:
    folder = do(write_csv(tmp_path / "a.csv", list(notes(60)))).folder
    assert folder is not None
    _checked(folder, LABELS)
    with (folder / "test" / "imported.jsonl").open("a") as file:
        file.write(json.dumps({"id": "x", "text": "y", "labels": []}) + "\n")
    with pytest.raises(TocsinError, match="was changed after it was imported"):
        _checked(folder, LABELS)


def test_our_own_records_are_mixed_into_what_is_learned_and_never_into_the_test(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    for split in SPLITS:
        (own / split).mkdir(parents=True)
        lines = [
            {"id": f"{split}{n}", "text": f"ours {n}", "labels": ["arrests"], "register": "wire", "batch": split}
            | {"annotations": {"writer": ["arrests"]}}
            for n in range(50)
        ]
        (own / split / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = do(write_csv(tmp_path / "a.csv", list(notes(100))), mix="0.25", own_corpus=own)
    found = records(imported)
    ours = {split: sum(record["text"].startswith("ours") for record in part) for split, part in found.items()}
    assert ours == {**imported.report.mixed, "test": 0}
    assert ours["train"] == pytest.approx(len(found["train"]) / 4, abs=1)
    assert not any("--mix" in warning for warning in imported.report.warnings)
    report = do(tmp_path / "a.csv", mix="0.9", own_corpus=own).report
    share = report.mixed["train"] / (report.mixed["train"] + report.splits["train"])
    assert any(f"--mix 0.9 came to {share:.2g} of what is for train" in warning for warning in report.warnings)


# --- what is wrong with files, and what to do about it


def refusals(imported: Imported) -> str:
    assert imported.folder is None
    return "\n".join(imported.report.refusals)


def test_a_wrong_delimiter_is_told_by_the_header(do: Callable[..., Imported], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", list(notes(60)), delimiter=";")
    with pytest.raises(InputError, match=r"splits into 10 columns at ';'; leave --delimiter out"):
        do(path, delimiter=",")


@pytest.mark.parametrize(("mark", "delimiter"), [(";", ";"), ("\t", "\t"), (";", ",")])
def test_excel_s_line_above_the_header_names_the_delimiter_and_counts_as_a_line(
    do: Callable[..., Imported], tmp_path: Path, mark: str, delimiter: str
) -> None:
    path = write_csv(tmp_path / "a.csv", [{"text": "Men shot.", "labels, all": "attack"}] * 60, delimiter=delimiter)
    path.write_bytes(f"\ufeffsep={mark}\r\n".encode() + path.read_bytes() + delimiter.join("abc").encode())
    given = {"delimiter": delimiter} if mark != delimiter else {}
    report = do(path, text_column="text", label_column=("labels, all",), **given).report
    assert (report.repeated, report.problems) == (59, ["a.csv:63: has 3 cells; the header has 2"])


def test_mixed_encodings_are_told_by_line_and_guessed(do: Callable[..., Imported], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row | {"source": "Préfecture d’été à Abéché"} for row in notes(80)])
    lines = path.read_bytes().splitlines(keepends=True)
    for number in (4, 9):
        lines[number] = lines[number].decode().encode("cp1252")
    path.write_bytes(b"".join(lines))
    few = do(path)
    assert few.report.dropped == {"encoding": 2}
    assert few.report.problems[0] == "a.csv:5: holds bytes that are not UTF-8"
    assert few.folder is not None
    assert len((few.folder / LEFT_OUT).read_text().splitlines()) == 2

    whole = write_csv(
        tmp_path / "b.csv", [row | {"source": "Préfecture d'été"} for row in notes(80)], encoding="cp1252"
    )
    said = refusals(do(whole))
    assert "100% of the rows cannot be used" in said and "--encoding cp1252" in said
    assert do(whole, encoding="cp1252").report.texts == 80


def test_a_file_of_two_encodings_is_read_in_both(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [row | {"notes": f"{row['notes']} Préfecture d’été, Abéché."} for row in notes(80)]
    path = write_csv(tmp_path / "a.csv", rows)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line.decode().encode("cp1252") if n % 2 else line for n, line in enumerate(lines)))
    assert by_text(do(path, encoding="cp1252")) == expected(rows)
    broken = path.read_bytes().replace(b"\xe9", b"\x81", 1)
    (tmp_path / "b.csv").write_bytes(broken)
    report = do(tmp_path / "b.csv", encoding="cp1252").report
    assert report.dropped == {"encoding": 1}
    assert report.problems == ["b.csv:2: holds bytes that are neither UTF-8 nor cp1252"]


def test_an_encoding_that_no_utf8_stands_beside_is_that_of_the_whole_file(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(60))
    path = write_csv(tmp_path / "a.csv", rows, encoding="utf-16-le")
    assert by_text(do(path, encoding="utf-16-le")) == expected(rows)
    with pytest.raises(InputError, match="no encoding is called 'klingon'"):
        do(path, encoding="klingon")


def test_a_workbook_that_is_called_csv_is_told_apart(do: Callable[..., Imported], tmp_path: Path) -> None:
    path = as_excel(tmp_path, list(notes(60))).rename(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a\.csv: is a workbook .* name it \.xlsx"):
        do(path)


def test_names_with_another_mark_between_are_refused_with_the_option_that_takes_them_apart(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = [{"note": row["notes"], "code": f"{row['sub_event_type']}, Arrests"} for row in notes(60)]
    path = write_csv(tmp_path / "a.csv", rows)
    named = {"text_column": "note", "label_column": ("code",)}
    assert "--separator ',' takes them apart" in refusals(do(path, **named))
    assert all("arrests" in labels for labels in by_text(do(path, separator=",", **named)).values())
    strange = write_csv(tmp_path / "b.csv", [row | {"code": "Picnic, Arrests"} for row in rows])
    assert "--separator" not in refusals(do(strange, **named))


def test_three_hundred_spellings_are_refused_with_merges_suggested(do: Callable[..., Imported], tmp_path: Path) -> None:
    rng = random.Random(2)
    rows = []
    for row in notes(600):
        name = list(row["sub_event_type"])
        name.insert(rng.randrange(1, len(name)), rng.choice("abcdefghijklmnopqrstuvwxyz"))
        rows.append({"text": row["notes"], "code": "".join(name)})
    imported = do(write_csv(tmp_path / "a.csv", rows), label_column=("code",), text_column="text")
    said, report = refusals(imported), imported.report
    assert len(report.unknown_names) > 250
    assert "--suggest-names" in said
    spelt = [line for line in said.splitlines() if ", perhaps " in line]
    assert len({line.rpartition(", perhaps ")[2] for line in spelt}) == len(spelt) == len(KINDS)
    assert all(re.search(r"'.*', '.*', '.*' and \d+ more \([\d,]+ texts, perhaps ", line) for line in spelt)
    assert "--taxonomy derive" not in said
    meant = {item["code"]: LABELS.find(row["sub_event_type"]).label for row, item in zip(notes(600), rows, strict=True)}
    right = sum(report.suggestions.get(name) == meant[name] for name in report.unknown_names)
    assert right > 0.95 * len(report.unknown_names)


def test_codes_that_are_no_label_s_are_told_of_a_list_of_their_own(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [{"text": row["notes"], "code": number % 5} for number, row in enumerate(notes(60))]
    said = refusals(do(write_csv(tmp_path / "a.csv", rows), label_column=("code",), text_column="text"))
    assert "'0' (12 texts)" in said
    assert "--taxonomy derive takes them as they are, --taxonomy FILE names the list" in said


def test_of_a_table_of_unknown_names_these_are_told_and_no_label_that_one_row_happens_to_have(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = [row | {"sub_event_type": f"kind {number % 199}"} for number, row in enumerate(notes(199))]
    known = list(notes(200))[-1] | {"sub_event_type": "Attack"}
    (said,) = do(write_csv(tmp_path / "a.csv", [*rows, known])).report.refusals
    assert "of the rows cannot be used" in said and "unknown label, 199 rows" in said
    assert "every text is labelled" not in said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (lambda: [row | {"sub_event_type": "Attack"} for row in notes(80)], "every text is labelled attack"),
        (lambda: list(notes(10)), "10 texts are too few"),
        (lambda: [row | {"sub_event_type": "Picnic"} for row in notes(80)], "no label goes by 'Picnic'"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_the_reason(
    rows: Callable[[], Rows], said: str, do: Callable[..., Imported], tmp_path: Path
) -> None:
    assert said in refusals(do(write_csv(tmp_path / "a.csv", rows())))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"notes,event_type\n", "has columns and no rows"),
        ("a.csv", b"\nnotes,event_type\n", "begins with an empty line"),
        ("a.csv", b"a,b\n1,2\n", r"its columns \(a, b\); say which|by its columns \(a, b\)"),
        ("a.csv", b"text,text\n1,2\n", "more than one column is called 'text'"),
        ("a.xlsx", b"PK no workbook", "is not an Excel workbook"),
        ("a.parquet", b"PAR1 no table", "is not a Parquet file"),
        ("a.json", b"text", "is not JSON"),
        ("a.json", b'[{"notes": "a", "event_type": "b"}, {"notes"', "is not JSON"),
        ("a.csv.gz", b"no gzip", "cannot be read"),
        ("a.docx", b"a", "must end in one of"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(
    name: str, content: bytes, said: str, do: Callable[..., Imported], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        do(tmp_path / name)


@pytest.mark.parametrize(
    "start",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x04\x00" + bytes(range(256)) * 20,
        b"SQLite format 3\x00\x10\x00\x01\x01\x00" + bytes(4000),
        b"PAR1\x15\x04\x15\x10\x15\x14L\x15",
        random.Random(1).randbytes(9000),
    ],
    ids=["picture", "database", "Parquet", "noise"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_what_is_no_text_is_not_taken_for_names_of_columns(
    name: str, start: bytes, do: Callable[..., Imported], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(start) if name.endswith(".gz") else start)
    with pytest.raises(InputError, match=r"a\.[a-z.]+: is not a text file, though its name says so") as told:
        do(path, text_column="text", label_column=("code",))
    assert str(told.value).isprintable()


def test_utf16_without_a_mark_is_told_to_be_named_and_strayed_controls_in_notes_are_none(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(60))
    with pytest.raises(InputError, match="--encoding utf-16-le"):
        do(write_csv(tmp_path / "a.csv", rows, encoding="utf-16-le"))
    strayed = [row | {"notes": row["notes"].replace("near", "near\x1f\x00")} for row in rows]
    assert by_text(do(write_csv(tmp_path / "b.csv", strayed))) == expected(rows)


def test_names_of_columns_are_told_so_that_a_terminal_shows_them_whole(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"id,\x1b[31mred,R\xe9gion," + b"long " * 200 + b"".join(b",c%d" % n for n in range(90)) + b"\n1\n"
    )
    with pytest.raises(UsageError) as told:
        do(path, text_column="note", label_column=("code",))
    said = str(told.value)
    assert said.isprintable() and len(said) < 1000
    assert r"its columns are: id, \x1b[31mred, R\xe9gion, long long" in said
    assert said.endswith("c35 and 54 more")
    with pytest.raises(InputError, match=r"\(id, \\x1b\[31mred, "):
        do(path)


def test_a_label_as_long_as_a_text_is_not_told_whole(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [{"text": row["notes"], "code": f"{number} {row['notes']}"} for number, row in enumerate(notes(60))]
    said = refusals(do(write_csv(tmp_path / "a.csv", rows), text_column="text", label_column=("code",)))
    assert "no label goes by '0 On 1 January" in said
    assert max(map(len, said.splitlines())) < 1500


@pytest.mark.parametrize(("member", "share"), [("xl/worksheets/sheet1.xml", 0.5), ("xl/worksheets/sheet1.xml", 0.02)])
def test_a_workbook_that_breaks_off_is_refused_by_name(
    member: str, share: float, do: Callable[..., Imported], tmp_path: Path
) -> None:
    whole = as_excel(tmp_path, list(notes(400)))
    with ZipFile(whole) as book, ZipFile(tmp_path / "b.xlsx", "w") as broken:
        for name in book.namelist():
            content = book.read(name)
            broken.writestr(name, content[: int(len(content) * share)] if name == member else content)
    with pytest.raises(InputError, match=r"b\.xlsx: (is damaged|cannot be read): "):
        do(tmp_path / "b.xlsx")


@pytest.mark.parametrize("told", ["A1", "A1:J20", "A1:XFD1048576"])
def test_a_sheet_is_read_as_far_as_it_goes_whatever_it_says_of_its_size(
    told: str, do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(60))
    for row in rows[::2]:
        row["fatalities"] = None
    with ZipFile(as_excel(tmp_path, rows)) as book, ZipFile(tmp_path / "b.xlsx", "w") as changed:
        for name in book.namelist():
            content = book.read(name)
            if name == "xl/worksheets/sheet1.xml":
                content, replaced = re.subn(rb'<dimension ref="[^"]*"', b'<dimension ref="%b"' % told.encode(), content)
                assert replaced == 1
            changed.writestr(name, content)
    imported = do(tmp_path / "b.xlsx")
    assert by_text(imported) == expected(rows)
    assert imported.report.rows == 60


def test_a_sheet_with_a_chart_alone_is_passed_over_and_told_where_it_is_named(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    rows = list(notes(60))
    book = openpyxl.load_workbook(as_excel(tmp_path, rows))
    book.create_chartsheet("Figure", 0).add_chart(openpyxl.chart.BarChart())
    book.save(tmp_path / "b.xlsx")
    assert by_text(do(tmp_path / "b.xlsx")) == expected(rows)
    with pytest.raises(InputError, match="sheet 'Figure' holds a chart and no cells; its sheets with cells are: Sheet"):
        do(tmp_path / "b.xlsx", sheet="Figure")
    with pytest.raises(InputError, match="sheet 'Codes' is not there; its sheets with cells are: Sheet"):
        do(tmp_path / "b.xlsx", sheet="Codes")
    del book["Sheet"]
    book.save(tmp_path / "c.xlsx")
    with pytest.raises(InputError, match="has no sheet with cells"):
        do(tmp_path / "c.xlsx")


def test_missing_columns_and_files_are_named(do: Callable[..., Imported], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"body": "x", "code": "y"}])
    with pytest.raises(UsageError, match=r"no column 'story' \(--text-column\); its columns are: body, code"):
        do(path, text_column="story", label_column=("code",))
    with pytest.raises(UsageError, match="give --label-column too"):
        do(path, text_column="body")
    with pytest.raises(InputError, match="no such file"):
        do(tmp_path / "none.csv")
    (tmp_path / "void").mkdir()
    with pytest.raises(InputError, match="holds no file"):
        do(tmp_path / "void")


def test_rows_of_the_wrong_width_are_listed_by_line(do: Callable[..., Imported], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", list(notes(60)))
    lines = path.read_text().splitlines()
    lines[7] += ",surplus"
    path.write_text("\n".join(lines) + "\n")
    report = do(path).report
    assert report.problems == ["a.csv:8: has 11 cells; the header has 10"]
    assert_every_row_is_accounted_for(report)


def with_first_texts(path: Path, texts: list[str], *, last: bool = False) -> tuple[Path, Rows]:
    """A tab-separated file whose first rows have these cells as they are; the text is between the others, or last."""
    rows = [{"id": n, "text": row["notes"], "labels": row["sub_event_type"]} for n, row in enumerate(notes(60))]
    for row, text in zip(rows, texts, strict=False):
        row["text"] = text
    order = ("id", "labels", "text") if last else ("id", "text", "labels")
    lines = [order, *(tuple(str(row[name]) for name in order) for row in rows)]
    path.write_text("".join("\t".join(cells) + "\n" for cells in lines), encoding="utf-8")
    return path, rows


@pytest.mark.parametrize("last", [True, False])
def test_a_line_break_in_quotes_belongs_to_the_text_of_a_tab_separated_file(
    last: bool, do: Callable[..., Imported], tmp_path: Path
) -> None:
    """The first line of such a row has the right width by itself where the text is last."""
    cells = [
        '"Police fired tear gas.\nTwo were hurt."',
        '"He said ""go\n\nhome"" to\tthe crowd."',
        "Two were held.",
    ]
    path, rows = with_first_texts(tmp_path / "a.tsv", cells, last=last)
    imported = do(path)
    found = by_text(imported)
    assert {"Police fired tear gas. Two were hurt.", 'He said "go home" to the crowd.'} <= found.keys()
    assert (len(found), imported.report.dropped, imported.report.rows) == (60, {}, 60)
    places = {record["text"]: record["origin"] for part in records(imported).values() for record in part}
    assert places["Two were held."] == "a.tsv:7"
    assert places[rows[-1]["text"]] == "a.tsv:64"


def test_a_text_that_begins_with_what_somebody_said_keeps_its_quotes(
    do: Callable[..., Imported], tmp_path: Path
) -> None:
    """As the organisers of CASE 2021 write them: without quoting."""
    cells = ['"We will march," she said.', '"We will stay, he said.', '"One" and "two"', 'They sang "go home"']
    path, _ = with_first_texts(tmp_path / "a.tsv", cells)
    assert set(cells) <= by_text(do(path)).keys()
    path, _ = with_first_texts(tmp_path / "b.tsv", cells, last=True)
    assert set(cells) <= by_text(do(path)).keys()


@pytest.mark.parametrize(
    "cell",
    [
        '"Police fired tear gas.\nTwo were hurt.',
        '"Police fired tear gas.\n\nTwo were hurt.',
        '"Police "fired" tear gas.\nTwo were hurt."',
        '"Police fired tear gas.\nTwo\twere\thurt."',
    ],
)
def test_a_text_that_may_be_cut_at_a_line_break_is_left_out_and_told(
    cell: str, do: Callable[..., Imported], tmp_path: Path
) -> None:
    path, _ = with_first_texts(tmp_path / "a.tsv", [cell], last=True)
    imported = do(path)
    assert not any("Police" in text for text in by_text(imported))
    assert imported.report.dropped["line break"] == 1
    assert imported.report.problems[0].startswith("a.tsv:2: its last cell opens a quote and the line ends before")
    assert any("line break: double the quotes" in warning for warning in imported.report.warnings)
    assert_every_row_is_accounted_for(imported.report)


def test_every_row_is_accounted_for_whatever_is_wrong(do: Callable[..., Imported], tmp_path: Path) -> None:
    rng = random.Random(11)
    rows: Rows = []
    for row in notes(300):
        changed = rng.choice(({}, {}, {"notes": ""}, {"sub_event_type": "Picnic"}, {"sub_event_type": "Protests"}))
        rows += [row | changed] * rng.choice((1, 1, 2))
    report = do(write_csv(tmp_path / "a.csv", rows), bad_rows=1.0).report
    assert_every_row_is_accounted_for(report)
    assert report.dropped.keys() == {"no text", "unknown label", "may be several labels"}
    assert sum(count.all for count in report.labels.values()) == report.texts


def test_markup_and_other_languages_are_counted(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = [row | {"notes": f"<p>{row['notes']}</p>"} for row in notes(60)]
    for row in rows[:12]:
        row["notes"] = f"Les soldats ont arrêté {row['event_id_cnty']} personnes pendant la nuit près du marché."
    report = do(write_csv(tmp_path / "a.csv", rows)).report
    assert report.html == 48
    assert report.languages["fr"] == pytest.approx(12 / 60, abs=0.02)
    assert any("other languages than English" in warning for warning in report.warnings)


def test_labels_that_the_words_do_not_bear_out_are_doubted(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    rows = list(notes(400))
    wrong = {7, 120, 300}
    for number in wrong:
        kind = rows[number]["sub_event_type"]
        rows[number]["sub_event_type"] = next(other for other in KINDS if other != kind)
    path = write_csv(tmp_path / "a.csv", rows)
    doubts = import_corpus([path], tmp_path / "imports", TAXONOMY).report.doubts
    assert doubts is not None
    assert wrong <= {int(doubt.place.rpartition(":")[2]) - 2 for doubt in doubts}
    assert len(doubts) < 10
    assert all(doubt.given != doubt.likely for doubt in doubts)


def test_the_same_words_in_other_case_are_the_same_text(do: Callable[..., Imported], tmp_path: Path) -> None:
    rows = list(notes(60))
    shouted = [row | {"notes": row["notes"].upper()} for row in rows[:5]]
    imported = do(write_csv(tmp_path / "a.csv", rows + shouted))
    assert imported.report.repeated == 5
    assert len({fold(text) for text in by_text(imported)}) == 60
