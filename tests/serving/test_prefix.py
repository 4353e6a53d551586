"""Files that have columns of the names that scoring adds, ACLED's own above all: a prefix keeps the two apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import TAXONOMY, read_rows
from typer.testing import CliRunner

from tocsin import EventClassifier, InputError, Taxonomy, UsageError
from tocsin.cli.main import app
from tocsin_serving.batch import JobOptions, job, plan, score_file, score_table
from tocsin_serving.batch.remap import Renaming, remap
from tocsin_serving.batch.report import write_report

# As ACLED exports them, less those that change nothing here.
COLUMNS = (
    *("event_id_cnty", "event_date", "year", "time_precision", "disorder_type", "event_type", "sub_event_type"),
    *("actor1", "country", "admin1", "latitude", "longitude", "source", "notes", "fatalities", "timestamp"),
)
NOTES = ["An airstrike hit the market.", "", "A peaceful protest and looting.", "Nothing was reported."]
KINDS = ("csv", "jsonl", "parquet")


def export(notes: list[str] = NOTES) -> list[dict[str, str]]:
    """Rows in ACLED's layout."""
    coded = {"disorder_type": "Strategic developments", "event_type": "Other", "sub_event_type": "Agreement"}
    return [dict.fromkeys(COLUMNS, "1") | coded | {"event_date": "05 March 2024", "notes": note} for note in notes]


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([rows[0], *(row.values() for row in rows)])
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [{"scores": True}, {"acled": True}, {"acled": True, "split_sentences": True}])
def test_acleds_own_columns_stay_and_the_answers_stand_beside_them(
    kind: str, shape: dict[str, Any], tmp_path: Path, tiny_release: Path
) -> None:
    source = written(tmp_path / f"in.{kind}", export())
    bare = written(tmp_path / f"bare.{kind}", [{"text": row["notes"]} for row in export()])
    summary = score_file(
        source, tmp_path / f"out.{kind}", text_column="notes", prefix="tocsin_", release=tiny_release, **shape
    )
    score_file(bare, tmp_path / f"plain.{kind}", release=tiny_release, **shape)
    assert (summary.rows_scored, summary.rows_rejected) == (3, 1)
    plain = read_rows(tmp_path / f"plain.{kind}")
    for row, expected in zip(read_rows(tmp_path / f"out.{kind}"), plain, strict=True):
        text = expected.pop("text")
        assert {name: row[name] for name in COLUMNS} == export([text])[0]
        if not shape.get("split_sentences"):
            # The text's own column.
            expected.pop("notes", None)
        assert {name: row[name] for name in row if name not in COLUMNS} == {
            f"tocsin_{name}": value for name, value in expected.items()
        }


def test_without_a_prefix_they_are_refused_with_what_to_do(tmp_path: Path, tiny_release: Path) -> None:
    source = written(tmp_path / "in.csv", export())
    with pytest.raises(UsageError, match=r"sub_event_type, event_type, disorder_type\. .* --prefix tocsin_"):
        score_file(source, tmp_path / "out.csv", text_column="notes", release=tiny_release)
    with pytest.raises(UsageError, match=r"--prefix takes letters, digits and underscores"):
        score_file(source, tmp_path / "out.csv", text_column="notes", prefix="a,", release=tiny_release)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_job_under_another_prefix_is_another_job(tmp_path: Path, tiny_release: Path) -> None:
    source, target = written(tmp_path / "in.csv", export()), tmp_path / "out.csv"
    options: dict[str, Any] = {"text_column": "notes", "release": tiny_release}
    first = score_file(source, target, prefix="tocsin_", **options)
    assert json.loads((tmp_path / "out.csv.manifest.json").read_bytes())["settings"]["prefix"] == "tocsin_"
    assert score_file(source, target, prefix="tocsin_", resume=True, **options) == first
    with pytest.raises(UsageError, match=r"settings prefix \(was tocsin_, is other_\)"):
        score_file(source, target, prefix="other_", resume=True, **options)


@pytest.mark.parametrize("shape", [{}, {"acled": True}, {"split_sentences": True}])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_report_tells_of_the_answers_and_not_of_the_columns_beside_them(
    kind: str, shape: dict[str, Any], tmp_path: Path, tiny_release: Path
) -> None:
    source = written(tmp_path / f"in.{kind}", export())
    options = JobOptions(
        text_column="notes", date_column="event_date", prefix="tocsin_", release=str(tiny_release), **shape
    )
    write_report(tmp_path / "report.html", job.run(plan(source, tmp_path / f"out.{kind}"), options), options)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Explosions/Remote violence" in page
    assert "An airstrike hit the market." in page
    assert "Over time" in page
    assert "Agreement" not in page


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_mapped_under_a_prefix(kind: str, tmp_path: Path, tiny_release: Path) -> None:
    source, scored, target = (tmp_path / f"{name}.{kind}" for name in ("in", "scored", "out"))
    written(source, export())
    score_file(source, scored, text_column="notes", scores=True, prefix="tocsin_", release=tiny_release)
    (tmp_path / "new.toml").write_text(TAXONOMY.read_text().replace('"air_drone_strike"', '"air_strike"'))
    names = {"air_drone_strike": "air_strike"}
    with pytest.raises(InputError, match=r"it has no .*events.* If it was made with --prefix, give the same\."):
        remap(scored, target, Renaming(names, Taxonomy.load(tmp_path / "new.toml")))
    remap(scored, target, Renaming(names, Taxonomy.load(tmp_path / "new.toml"), "tocsin_"))
    changed = {"tocsin_events", "tocsin_label", "tocsin_scores"}
    for old, new in zip(read_rows(scored), read_rows(target), strict=True):
        assert list(old) == list(new)
        assert {name for name in old if old[name] != new[name]} <= changed
        assert ("air_strike" in str(new["tocsin_scores"])) > ("air_drone_strike" in str(new["tocsin_scores"]))
    assert read_rows(target)[0]["tocsin_label"] == "air_strike"


def test_a_table_of_acleds_columns_is_scored(tiny_classifier: EventClassifier) -> None:
    table = pa.Table.from_pylist(export())
    scored = score_table(table, text_column="notes", prefix="tocsin_", classifier=tiny_classifier)
    assert scored.select(table.column_names).equals(table)
    assert scored.column("tocsin_reject_reason").to_pylist() == [None, "text is empty", None, None]
    assert scored.column("tocsin_label").to_pylist()[0] == "air_drone_strike"
    with pytest.raises(UsageError, match=r"the table already has .* --prefix"):
        score_table(table, text_column="notes", classifier=tiny_classifier)


def test_both_commands_take_a_prefix(tmp_path: Path, tiny_release: Path) -> None:
    source = written(tmp_path / "in.csv", export())
    (tmp_path / "map.toml").write_text("[labels]\n")
    for command in (
        ["score", str(source), str(tmp_path / "scored.csv"), "--text-column", "notes", "--workers", "1"],
        ["remap", str(tmp_path / "scored.csv"), str(tmp_path / "out.csv"), "--names", str(tmp_path / "map.toml")],
    ):
        done = CliRunner().invoke(app, [*command, "--prefix", "tocsin_", "--release", str(tiny_release)])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "scored.csv").read_bytes()
