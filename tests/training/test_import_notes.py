"""What an import says of data that it can read: dates, shares, labels, coders who differ, and how far it is."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from rich.console import Console
from synthetic import ROOT, TAXONOMY, notes, write_csv
from typer.testing import CliRunner

from tocsin.errors import InputError
from tocsin_training.config import load_settings, to_toml
from tocsin_training.duplicates import runs_alike
from tocsin_training.importing import progress
from tocsin_training.importing.build import LEFT_OUT, Imported, import_corpus
from tocsin_training.importing.cli import data, refusal, with_data
from tocsin_training.importing.dates import parse_date
from tocsin_training.importing.derived import derived_taxonomy
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.progress import Forecast, Progress
from tocsin_training.importing.report import show
from tocsin_training.lineage import describe_data

Do = Callable[..., Imported]
Rows = list[dict[str, Any]]
NAMED = {"text_column": "note", "label_column": ("code",)}


@pytest.fixture
def do(tmp_path: Path) -> Do:
    """Import a table of this test."""

    def run(path: Path, *, told: Progress | None = None, **changed: Any) -> Imported:  # noqa: ANN401
        options = ImportOptions.model_validate({"label_errors": False, **changed})
        return import_corpus([path], tmp_path / "imports", TAXONOMY, options, progress=told)

    return run


def dated(folder: Path, days: list[str], rows: int = 120) -> Path:
    """An export whose rows have these dates in turn."""
    cells = [row | {"event_date": days[number % len(days)]} for number, row in enumerate(notes(rows))]
    return write_csv(folder / "a.csv", cells)


def note_of(imported: Imported, words: str) -> str:
    """The one note that holds some words."""
    (found,) = (warning for warning in imported.report.warnings if words in warning)
    return found


def shown(imported: Imported) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(imported.report, console, imported.left_out)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


# --- dates


@pytest.mark.parametrize(
    ("days", "unread", "said"),
    [
        (["05/08/2024", "06/08/2024", "2024-08-07"], 80, "say --dates day-first or month-first, for no date of the"),
        (["2021", "2022"], 120, "none from a year or a month alone"),
        (["31/31/2024", "some day"], 120, "a day is read from 2024-08-25, 20240825, 25 August 2024"),
        (["25/08/2024", "08/25/2024", "05/08/2024"], 40, "a.csv holds both orders of day and month"),
    ],
)
def test_dates_that_cannot_be_read_are_told_with_what_to_do_whatever_the_split(
    days: list[str], unread: int, said: str, do: Do, tmp_path: Path
) -> None:
    path = dated(tmp_path, days)
    imported = do(path)
    told = note_of(imported, "have a date that cannot be read")
    assert told.startswith(f"{unread} of 120 texts") and said in told
    (refused,) = do(path, split_by="date").report.refusals
    assert refused.startswith(f"{unread} of 120 texts") and said in refused and "--date-column" in refused
    assert ("--dates" in told) == ("05/08/2024" in days)


def test_a_table_without_dates_is_not_told_to_have_bad_ones(do: Do, tmp_path: Path) -> None:
    rows = [{"text": row["notes"], "labels": row["sub_event_type"]} for row in notes(60)]
    report = do(write_csv(tmp_path / "a.csv", rows)).report
    assert (report.undated, report.unread) == (60, 0)
    assert not any("date" in warning for warning in report.warnings)


def test_a_date_that_proves_its_order_is_read_by_it_whatever_is_said_of_the_others() -> None:
    assert parse_date("08/25/2024", "day-first") == parse_date("25/08/2024", "month-first") == "2024-08-25"
    assert parse_date("31/31/2024", "day-first") is None


def test_a_span_is_told_with_the_texts_that_it_is_not_of(do: Do, tmp_path: Path) -> None:
    imported = do(dated(tmp_path, ["2024-08-05", "some day", "2024-08-07"]))
    assert "2024-08-05 to 2024-08-07, 40 of 120 texts without a date" in " ".join(shown(imported).split())
    assert imported.folder is not None
    recipe = load_settings(ROOT / "training" / "train-tiny.toml")
    described = describe_data(
        recipe.data.model_copy(update={"corpus": imported.folder, "taxonomy": TAXONOMY}), imported.report.sha256 or ""
    )
    undated = [
        json.loads(line).get("date") is None
        for line in (imported.folder / "train" / "imported.jsonl").read_text().splitlines()
    ]
    assert described.undated == sum(undated) > 20
    assert (described.first, described.last) == ("2024-08-05", "2024-08-07")


# --- shares and labels


def test_a_day_too_big_for_its_share_is_told_with_its_texts(do: Do, tmp_path: Path) -> None:
    days = ["2024-08-01"] * 2 + ["2024-08-05"] * 5 + ["2024-08-09"]
    imported = do(dated(tmp_path, days, rows=200), split_by="date")
    assert imported.report.splits == {"train": 50, "validation": 125, "test": 25}
    told = note_of(imported, "--held-out 0.2 asks for some 20 texts each")
    assert "there are 125 and 25, and 50 to train on: 125 of the 200 texts have the date 2024-08-05, one of 3" in told


def test_shares_near_what_was_asked_for_are_not_told(do: Do, tmp_path: Path) -> None:
    days = [f"2024-{month:02}-{day:02}" for month in range(1, 5) for day in range(1, 26)]
    assert not any("--held-out" in warning for warning in do(dated(tmp_path, days), split_by="date").report.warnings)


def test_a_split_that_nothing_is_left_for_is_refused_with_what_fills_the_others(do: Do, tmp_path: Path) -> None:
    by_date = do(dated(tmp_path, ["2024-01-01", "2024-02-01", "2024-03-01"]), split_by="date").report.refusals
    (said,) = by_date
    assert "nothing is left for validation" in said and "40 of the 120 texts have the date 2024-0" in said
    assert "one of 3 in all" in said and "give texts of more days" in said
    rows = [row | {"country": "Mali" if n % 8 else "Niger"} for n, row in enumerate(notes(120))]
    (said,) = do(write_csv(tmp_path / "b.csv", rows), split_by="country").report.refusals
    assert "105 of the 120 texts have 'Mali' in country" in said and "one of 2 groups of values in all" in said


def test_labels_whose_texts_are_all_held_out_or_none_to_validate_are_told(do: Do, tmp_path: Path) -> None:
    rows = list(notes(100))
    days = [f"2024-01-{1 + number // 5:02}" for number in range(100)]
    # Of a label only the newest text, of another only the oldest.
    rows = [row | {"event_date": day} for row, day in zip(rows, days, strict=True)]
    rows[-1]["sub_event_type"], rows[0]["sub_event_type"] = "Chemical weapon", "Suicide bomb"
    imported = do(write_csv(tmp_path / "a.csv", rows), split_by="date")
    assert "chemical_weapon; give more texts" in note_of(imported, "no text to train on has these labels")
    assert note_of(imported, "no text to validate on has these labels").partition(": ")[2].startswith("suicide_bomb")


def test_coders_who_differ_are_told_with_the_rows_and_acled_s_several_events_are_not(do: Do, tmp_path: Path) -> None:
    rows = list(notes(60))
    other = {row["event_id_cnty"]: "Arrests" if row["sub_event_type"] != "Arrests" else "Attack" for row in rows}
    again = [row | {"sub_event_type": other[row["event_id_cnty"]]} for row in rows[:12]] + rows[12:40]
    sheet = [{"note": row["notes"], "code": row["sub_event_type"]} for row in (*rows, *again)]
    imported = do(write_csv(tmp_path / "sheet.csv", sheet), **NAMED)
    told = note_of(imported, "stand in several rows")
    assert told.startswith("12 of 40 texts that stand in several rows have other labels in one than in another")
    assert "sheet.csv:2 " in told and " but sheet.csv:62 " in told
    few = do(write_csv(tmp_path / "few.csv", sheet[:61] + sheet[72:]), **NAMED)
    assert (few.report.coded_twice, few.report.coded_once) == (1, 28)
    for export in (few, do(write_csv(tmp_path / "export.csv", [*rows, *again]))):
        assert not any("several rows" in warning for warning in export.report.warnings)


# --- what was left out


def test_all_rows_of_refused_data_are_in_a_list_that_is_named(do: Do, tmp_path: Path) -> None:
    rows = [row | {"sub_event_type": f"kind {n}" if n < 150 else "Attack"} for n, row in enumerate(notes(300))]
    imported = do(write_csv(tmp_path / "a.csv", rows))
    assert imported.folder is None and imported.left_out is not None
    lines = [json.loads(line) for line in imported.left_out.read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(2, 152))
    assert lines[149]["reason"] == "no label goes by 'kind 149'"
    assert str(imported.left_out) in refusal(imported)
    assert f"150 rows left out in all; all of them, with line and reason: {imported.left_out}" in shown(imported)
    assert imported.left_out.parent.stat().st_mode & 0o077 == 0, "names of labels may be somebody's business, too"


def test_machines_are_told_where_the_list_is(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    tiny = load_settings(ROOT / "training" / "train-tiny.toml")
    recipe.write_text(to_toml(tiny.model_copy(update={"runs": tmp_path / "runs"})), encoding="utf-8")
    path = write_csv(tmp_path / "a.csv", [row | {"sub_event_type": "Picnic"} for row in notes(60)])
    app = typer.Typer()
    app.command()(data)
    said = CliRunner().invoke(app, [str(path), "--config", str(recipe), "--json", "--no-label-errors"])
    listed = Path(json.loads(said.stdout)["left_out"])
    assert len(listed.read_text().splitlines()) == 60
    assert isinstance(said.exception, InputError) and str(listed) in str(said.exception)


def test_the_list_of_what_was_left_out_of_taken_data_is_named_the_second_time_too(do: Do, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [*notes(100), next(notes(1, seed=5)) | {"sub_event_type": "Picnic"}])
    first, second = do(path), do(path)
    assert first.fresh and not second.fresh
    assert first.folder is not None
    assert first.left_out == second.left_out == first.folder / LEFT_OUT
    assert str(first.left_out) in shown(second)
    assert do(write_csv(tmp_path / "b.csv", list(notes(100)))).left_out is None


# --- files that are none


def unclosed(folder: Path, rows: int) -> Path:
    lines = ["note,code", *(f"Gunmen shot at a patrol near village {n}.,attack" for n in range(rows))]
    lines[8] = '"Gunmen shot at a patrol,attack'
    (folder / "a.csv").write_text("\n".join(lines) + "\n")
    return folder / "a.csv"


def test_a_quote_that_is_never_closed_is_told_with_its_line(
    do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = unclosed(tmp_path, 400)
    (line,) = do(path, **NAMED).report.problems
    assert line.startswith("a.csv:9: goes on over 393 lines, for a quote in it is not closed")
    monkeypatch.setattr("tocsin_training.importing.tables._MAX_CELL", 4096)
    with pytest.raises(InputError, match=r"a\.csv:9: the row that begins in this line opens a quote that is never"):
        do(path, **NAMED)


def test_rows_that_an_open_quote_swallows_are_left_out_though_their_width_is_right(do: Do, tmp_path: Path) -> None:
    rows = [{"note": row["notes"], "code": row["sub_event_type"]} for row in notes(80)]
    path = write_csv(tmp_path / "a.csv", rows)
    lines = path.read_text().splitlines()
    # Closed by the quote that the next row opens: two cells, as all rows have.
    lines[4:6] = ['"Police fired tear gas,Attack', '"Two were held.",Arrests']
    path.write_text("\n".join(lines) + "\n")
    report = do(path, **NAMED).report
    assert report.problems == ["a.csv:5: goes on over 2 lines, for a quote in it is not closed"]
    lines[4:6] = ['"Police fired', 'tear gas, he said ""now"".",Attack', '"Two', 'were held",Arrests,surplus']
    path.write_text("\n".join(lines) + "\n")
    report = do(path, **NAMED).report
    assert report.problems == ["a.csv:7: has 3 cells; the header has 2"], "all its quotes are closed"
    assert report.texts == 79


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '{"status":403,"success":false,"error":[{"message":"Access denied"}],"data":[]}',
            "a server's answer that the request failed: 403 'Access denied'",
        ),
        ('{"status":401,"message":"Token expired"}', "request failed: 401 'Token expired'"),
        ('{"success":false,"error":{"status":0,"message":"Unknown user"}}', "request failed: 'Unknown user'"),
        ('{"status":200,"count":0,"data":[]}', "holds no rows; they are looked for in a list, or in one under `data`"),
        ("[]", "holds no rows"),
        ('[{"note": "a", "code":', "a.json:1: is not JSON in this entry or behind it: the file ends too early"),
        ('[{"note": "a"}, {"note" "b"}]', "a.json:2: is not JSON in this entry or behind it: "),
    ],
)
def test_what_a_server_says_in_the_place_of_data_and_what_breaks_off_is_told_in_a_line(
    content: str, said: str, do: Do, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError) as told:
        do(tmp_path / "a.json", **NAMED)
    assert said in str(told.value) and "\n" not in str(told.value)


# --- how far it is


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes that the disk has left, as its only entry; files of some hundred rows count as big."""
    left = [10**15]
    monkeypatch.setattr(progress, "FORESEEN_AFTER", 100)
    monkeypatch.setattr("tocsin_training.importing.reading._BATCH", 50)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**15, 0, left[0]))
    yield left


def lines_of(console: Console) -> list[str]:
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def test_every_step_of_an_import_says_how_far_it_is_where_there_is_no_terminal(
    do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_training.importing.reading._BATCH", 50)
    monkeypatch.setattr(progress, "_LOOKED_EVERY", 50)
    console = Console(file=io.StringIO(), width=200)
    do(write_csv(tmp_path / "a.csv", list(notes(300))), told=Progress(console, every=0.0))
    said = lines_of(console)
    for step in ("reading a.csv", "understanding labels", "looking for near-duplicates", "writing"):
        assert any(line.startswith(f"{step}: 100 rows, ") and "rows/s" in line for line in said), step
    assert any("%" in line and "to go" in line for line in said)
    derived_taxonomy([tmp_path / "a.csv"], tmp_path / "imports", ImportOptions(), Progress(console, every=0.0))
    assert lines_of(console)[-1].startswith("counting labels of a.csv: 250 rows, ")
    quiet = Console(file=io.StringIO(), width=200)
    do(write_csv(tmp_path / "b.csv", list(notes(300))), told=Progress(quiet))
    assert lines_of(quiet) == [], "half a minute has not passed"


def test_on_a_terminal_a_bar_comes_and_goes(do: Do, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    do(write_csv(tmp_path / "a.csv", list(notes(300))), told=Progress(console))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "writing" in written and "rows/s" in written
    assert written.endswith("\x1b[2K"), "its line is wiped"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.json", "a.parquet", "a.tsv"])
def test_how_much_of_a_file_was_read_is_known_in_every_format_that_may_be_big(name: str, tmp_path: Path) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet

    from tocsin_training.importing.tables import open_table

    rows, path = list(notes(3000)), tmp_path / name
    if name == "a.parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif name == "a.jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name == "a.json":
        path.write_text(json.dumps({"data": rows}))
    else:
        plain = write_csv(tmp_path / "plain", rows, delimiter="\t" if name == "a.tsv" else ",")
        path.write_bytes(gzip.compress(plain.read_bytes()) if name.endswith(".gz") else plain.read_bytes())
    with open_table(path, ImportOptions()) as table:
        shares = [table.share() for _ in table.rows]
        shares.append(table.share())
    known = [share for share in shares if share is not None]
    assert len(known) == len(shares) and known == sorted(known)
    assert known[0] < known[len(known) // 2] < 1 and known[-1] == pytest.approx(1, abs=0.01)


def test_a_big_import_is_foreseen_and_needs_its_room_on_the_disk(do: Do, tmp_path: Path, free: list[int]) -> None:
    path = write_csv(tmp_path / "a.csv", list(notes(400)))
    free[0] = 10_000
    with pytest.raises(InputError, match=r"imports: about \d+ rows: .* are foreseen there, and 0\.0 GB are free"):
        do(path)
    assert not list((tmp_path / "imports").glob("*/import.json")) and not list((tmp_path / "imports").glob(".*"))
    free[0] = 10**15
    assert do(path).folder is not None


def test_what_a_big_import_takes_is_said_after_its_first_rows(
    do: Do, tmp_path: Path, free: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LONG_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=300)
    do(write_csv(tmp_path / "a.csv", list(notes(4000))), told=Progress(console))
    (line,) = lines_of(console)
    assert line.startswith("about ") and "where 1000000.0 GB are free" in line
    foreseen = int(line.split()[1].replace(",", ""))
    assert foreseen == pytest.approx(4000, rel=0.5)


def test_a_forecast_grows_with_what_is_left_and_is_of_the_whole() -> None:
    options = ImportOptions()
    found = Forecast.of(20_000, 0.01, 2.0, 10_000_000, options)
    assert found.rows == 2_000_000
    assert found.seconds > 200 and found.disk_bytes > 1_000_000_000 and found.big
    assert Forecast.of(20_000, 0.01, 2.0, 10_000_000, options.model_copy(update={"near_duplicates": False})).seconds < (
        found.seconds
    )
    assert not Forecast.of(20_000, 0.9, 2.0, 10_000_000, options).big


def test_near_duplicates_found_by_a_file_are_those_found_in_memory(tmp_path: Path) -> None:
    texts = [row["notes"] for row in notes(200)]
    texts += [f"{text} Again." for text in texts[::4]]
    on_disk = runs_alike(texts, len(texts), tmp_path)
    first = next(on_disk)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 21 * 8 * len(texts)
    found = [first.tolist(), *(run.tolist() for run in on_disk)]
    assert found == [run.tolist() for run in runs_alike(texts, len(texts))] and len(found) > 50
    assert not list(tmp_path.iterdir())


def test_that_a_toy_recipe_s_answers_are_worth_nothing_is_said_before_it_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, options = write_csv(tmp_path / "a.csv", list(notes(100))), ImportOptions(label_errors=False)
    for name, said in (("train-tiny", True), ("train", False)):
        recipe = load_settings(ROOT / "training" / f"{name}.toml").model_copy(update={"runs": tmp_path / "runs"})
        with_data(recipe, [path], options, taxonomy=None, licence=None)
        assert ("every text goes to review" in capsys.readouterr().err) == said
