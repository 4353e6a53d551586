from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import Line, Record
from tocsin_training.joint_coverage import Joint, counts_grid, measure_joint


@pytest.fixture
def taxonomy(taxonomy_file: Path) -> Taxonomy:
    return Taxonomy.load(taxonomy_file)


def line(labels: list[str], register: str, country: str | None, text: str = "A text.", **more: str) -> Line:
    fields = {"id": "b-1", "text": text, "labels": labels, "register": register, "country": country, "batch": "b"}
    record = Record.model_validate(fields | {"annotations": {"writer": labels}} | more)
    return Line(record, "train", Path("train/b.jsonl"), 1)


LINES = [
    *[line(["storm"], "wire", "KEN", decade="1990s")] * 5,
    line(["storm", "frost"], "post", "KEN", decade="2000s"),
    line(["frost"], "wire", "PER"),
    line(["frost"], "notes", "PER"),
    line([], "wire", "KEN", reason="sport"),
    line([], "post", "XXX", reason="drill"),
]


def joint(lines: list[Line], taxonomy: Taxonomy, of: str, by: str) -> Joint:
    return next(one for one in measure_joint(lines, taxonomy) if (one.of, one.by) == (of, by))


def test_three_that_no_record_has_together_are_an_empty_cell(taxonomy: Taxonomy) -> None:
    found = joint(LINES, taxonomy, "label", "register")
    # Four labels, Africa and the Americas, three registers.
    assert len(found.cells) == 24
    assert [cell for cell in found.empty if cell[0] == "storm"] == [
        ("storm", "Africa", "notes"),
        ("storm", "Americas", "notes"),
        ("storm", "Americas", "post"),
        ("storm", "Americas", "wire"),
    ]
    assert len(found.empty) == 24 - 2 - 3
    assert found.thin == 4, "five records of storms on the wire are no accident"


def test_the_empty_cells_of_a_label_stand_in_one_row_by_region(taxonomy: Taxonomy) -> None:
    rows = {row[0]: tuple(row[1:]) for row in joint(LINES, taxonomy, "label", "register").grid().rows}
    assert rows["storm"] == ("4", "Africa: notes; Americas: all")
    assert rows["frost"] == ("3", "Africa: notes, wire; Americas: post")
    assert rows["wheat"] == ("6", "Africa: all; Americas: all")
    full = [line([name], "wire", "KEN") for name in taxonomy.names]
    assert joint(full, taxonomy, "label", "register").grid().rows == []


def test_what_is_unknown_or_nowhere_fills_no_cell_and_makes_none(taxonomy: Taxonomy) -> None:
    by_decade = joint(LINES, taxonomy, "label", "decade")
    assert by_decade.values == ("1990s", "2000s")
    assert ("frost", "Americas", "1990s") in by_decade.empty
    reasons = joint(LINES, taxonomy, "reason", "register")
    assert (reasons.rows, reasons.regions) == (("none: drill", "none: sport"), ("Africa",))
    assert ("none: drill", "Africa", "post") in reasons.empty


def test_a_region_that_a_text_tells_counts_where_its_writer_named_none(taxonomy: Taxonomy) -> None:
    lines = [line(["storm"], "wire", None, "A storm hit Kenya."), line(["storm"], "wire", "PER", "A storm hit Kenya.")]
    assert joint(lines, taxonomy, "label", "register").regions == ("Africa", "Americas")


def test_cells_are_counted_for_labels_and_for_reasons(taxonomy: Taxonomy) -> None:
    rows = counts_grid(measure_joint(LINES, taxonomy)).rows
    assert [row[0] for row in rows] == [
        "label x region x register",
        "label x region x decade",
        "reason x region x register",
        "reason x region x decade",
    ]
    assert tuple(rows[0][1:]) == ("24", "19", "79.2%", "4")
    assert tuple(rows[3][1:]) == ("0", "0", "0.0%", "0"), "no decade, no cell"
