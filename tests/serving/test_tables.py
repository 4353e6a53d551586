"""Tables in, tables out: nothing lost, the job's answers, and the examples of docs/python.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import ROOT

from tocsin import EventClassifier, UsageError
from tocsin_serving.batch import score_file, score_table

TEXTS = ["An airstrike hit.", None, "  ", "Nothing happened.", "A peaceful protest and looting."]
REASONS = [None, "text is null", "text is empty", None, None]


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"id": [1, 2, 3, 4, 5], "text": TEXTS}).replace_schema_metadata({"origin": "here"})


def test_rows_columns_and_metadata_stay_and_bad_rows_say_why(table: pa.Table, tiny_classifier: EventClassifier) -> None:
    scored = score_table(table, classifier=tiny_classifier)
    assert scored.select(["id", "text"]).equals(table)
    assert scored.schema.metadata == table.schema.metadata
    assert scored.column("reject_reason").to_pylist() == REASONS
    added = scored.column_names[2:-1]
    for row in scored.to_pylist():
        unanswered = {row[name] is None for name in added if name not in ("label", "event_type", "probability")}
        assert (row["reject_reason"] is None) or unanswered == {True}
    assert [row["needs_review"] is None for row in scored.to_pylist()] == [bool(reason) for reason in REASONS]


def test_a_table_gets_the_answers_of_a_job(table: pa.Table, release: Path, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "in.parquet")
    score_file(tmp_path / "in.parquet", tmp_path / "out.parquet", release=release, scores=True)
    scored = score_table(table, release=release, scores=True)
    good = scored.filter(pa.array([reason is None for reason in REASONS])).drop_columns("reject_reason")
    assert good.equals(pq.read_table(tmp_path / "out.parquet"))


def test_batches_come_one_by_one(table: pa.Table, tiny_classifier: EventClassifier) -> None:
    asked = []

    def endless() -> object:
        while True:
            asked.append(1)
            yield from table.to_batches()

    reader = score_table(endless(), classifier=tiny_classifier)
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.read_next_batch().num_rows == 5
    assert len(asked) <= 2


@pytest.mark.parametrize("texts", [[], [None, ""]])
def test_tables_without_a_good_row_keep_their_shape(texts: list[str | None], tiny_classifier: EventClassifier) -> None:
    scored = score_table(pa.table({"text": pa.array(texts, pa.string())}), classifier=tiny_classifier)
    assert scored.num_rows == len(texts)
    assert scored.column("label").null_count == len(texts)


def test_frames_of_pandas_polars_and_duckdb_give_the_same(table: pa.Table, tiny_classifier: EventClassifier) -> None:
    expected = score_table(table, classifier=tiny_classifier).column("label").to_pylist()
    frame = table.to_pandas().set_index(pd.Index([9, 8, 7, 6, 5]))
    scored = score_table(frame, classifier=tiny_classifier)
    assert scored.column("label").to_pylist() == expected
    assert list(scored.to_pandas().index) == [9, 8, 7, 6, 5]
    for other in (pl.from_arrow(table), duckdb.from_arrow(table)):
        assert score_table(other, classifier=tiny_classifier).column("label").to_pylist() == expected


def test_what_is_no_table_is_refused(table: pa.Table, tiny_classifier: EventClassifier) -> None:
    for data, message in [
        ("text", "Cannot score str"),
        ([], "Cannot score list"),
        (table.rename_columns(["id", "body"]), "'text' is not in the table.*id, body"),
        (table.rename_columns(["label", "text"]), "already has a column"),
        (pa.table({"text": [1]}), "holds int64, not text"),
    ]:
        with pytest.raises(UsageError, match=message):
            score_table(data, classifier=tiny_classifier)
    with pytest.raises(UsageError, match="not both"):
        score_table(table, classifier=tiny_classifier, release="x")


def examples() -> list[str]:
    """Those about tables; the library's own are run in tests/model."""
    _, page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").split("\n## Tables\n")
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("example", examples())
def test_examples_of_the_page_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"id": [1, 2], "text": ["Rebels shelled the town.", None]}), "reports.parquet")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(example, "docs/python.md", "exec"), names)
    files = [file for file in Path().glob("*.parquet") if file.name != "reports.parquet"]
    labelled = pq.read_table(files[0]) if files else pa.table(names["labelled"])
    found = dict(zip(labelled.column("id").to_pylist(), labelled.column("label").to_pylist(), strict=True))
    # A file's rows without an answer are elsewhere.
    assert found in ({1: "shelling_artillery_missile_attack", 2: None}, {1: "shelling_artillery_missile_attack"})


def test_the_page_shows_how_to_score_a_table_and_a_file() -> None:
    assert all(any(f"{name}(" in example for example in examples()) for name in ("score_table", "score_file"))
