from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.taxonomy import Taxonomy
from tocsin_training.cli import corpus_coverage
from tocsin_training.corpus import Line, Record
from tocsin_training.coverage import empty_grid, measure_coverage
from tocsin_training.validate import read_lines


@pytest.fixture
def taxonomy(taxonomy_file: Path) -> Taxonomy:
    return Taxonomy.load(taxonomy_file)


def line(labels: list[str], text: str, **more: str) -> Line:
    fields = {"id": "b-1", "text": text, "labels": labels, "register": "wire", "batch": "b"}
    record = Record.model_validate(fields | {"annotations": {"writer": labels}} | more)
    return Line(record, "train", Path("train/b.jsonl"), 1)


def test_every_record_is_counted_once_per_label(sound_corpus: Path, taxonomy: Taxonomy) -> None:
    lines, _ = read_lines(sound_corpus)
    expected = sum(max(1, len(line.record.labels)) for line in lines)
    for coverage in measure_coverage(lines, taxonomy):
        assert sum(int(row[-1]) for row in coverage.grid().rows) == expected


def test_an_inferred_region_is_counted_apart_and_only_where_none_is_stated(taxonomy: Taxonomy) -> None:
    lines = [
        line(["storm"], "A storm hit Kenya.", country="KEN"),
        line(["storm"], "A storm hit Kenya."),
        line(["storm"], "A storm hit the coast."),
        line(["storm"], "A storm hit Kenya.", country="SYR"),
    ]
    by_region = next(coverage for coverage in measure_coverage(lines, taxonomy) if coverage.by == "region")
    grid = by_region.grid()
    storm = dict(zip(grid.heads, grid.rows[0], strict=True))
    assert storm == {"": "storm", "?": "1", "Africa": "1 + 1", "Middle East": "1", "all": "4"}


def test_what_meets_nowhere_is_named_and_the_unknown_is_no_cell(taxonomy: Taxonomy) -> None:
    lines = [
        line(["storm"], "A storm.", decade="1990s"),
        line(["frost"], "A frost.", decade="2000s"),
        line(["wheat"], "Wheat."),
        line(["apple"], "Apples.", decade="1990s"),
        line(["apple"], "Apples.", decade="2000s"),
    ]
    by_decade = [coverage for coverage in measure_coverage(lines, taxonomy) if coverage.by == "decade"]
    assert by_decade[0].empty() == [
        ("storm", "2000s"),
        ("frost", "1990s"),
        ("wheat", "1990s"),
        ("wheat", "2000s"),
    ]
    (row,) = empty_grid(by_decade).rows
    assert tuple(row[:3]) == ("decade", "8", "4")
    assert "storm / 2000s" in row[3]


def test_nowhere_is_counted_and_is_no_region_to_cover(taxonomy: Taxonomy) -> None:
    lines = [line(["storm"], "A storm.", country="KEN"), line(["frost"], "A frost.", country="XXX")]
    by_region = next(coverage for coverage in measure_coverage(lines, taxonomy) if coverage.by == "region")
    assert {"Africa", "Nowhere"} <= set(by_region.values)
    assert by_region.empty() == [("frost", "Africa"), ("wheat", "Africa"), ("apple", "Africa")]
    (row,) = empty_grid([by_region]).rows
    assert tuple(row[:3]) == ("region", "4", "3")


def test_the_command_prints_every_table(
    sound_corpus: Path, taxonomy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus_coverage(sound_corpus, taxonomy_file)
    printed = capsys.readouterr().out
    titles = ("by split", "by register", "by words", "by decade", "by region", "what meets nowhere", "inferred country")
    more = ("cells of three", "label x region x register", "label x region x decade", "ways of telling")
    assert all(title in printed for title in titles + more)
