from __future__ import annotations

from pathlib import Path

import pytest

from tocsin_training.corpus import SPLITS, Line, Record
from tocsin_training.cues import (
    BOTH,
    DAY_AFTER,
    DAY_ALONE,
    DAY_BEFORE,
    DAY_WITHIN,
    MIN_RECORDS,
    SOURCE_ALONE,
    batches_grid,
    closing_forms,
    cues_by_batch,
    cues_by_split,
    splits_grid,
)

CLOSED = "Rebels took the town on Monday, police said."
OPEN = "Rebels took the town."


def line(text: str, *, event: bool, split: str = "train", batch: str = "b") -> Line:
    fields = {"id": "b-1", "text": text, "labels": ["storm"] if event else [], "register": "wire", "batch": batch}
    return Line(Record.model_validate(fields | {"annotations": {"writer": []}}), split, Path("b.jsonl"), 1)


def records(*shares: tuple[str, bool, int], split: str = "train", batch: str = "b") -> list[Line]:
    """So many records of a text, with an event or without."""
    return [line(text, event=event, split=split, batch=batch) for text, event, many in shares for _ in range(many)]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (DAY_BEFORE, "Rebels took the town on Monday, police said."),
        (DAY_BEFORE, "Rebels took the town late on Friday night, two residents told the agency by telephone."),
        (DAY_BEFORE, "Rebels took the town on Sunday, according to residents and the mayor."),
        (DAY_BEFORE, "The town fell on Sunday, says a monitor"),
        (DAY_WITHIN, "Gunmen on Tuesday killed a guard, the U.N. mission said in a statement."),
        (DAY_WITHIN, "Gunmen killed a guard on Tuesday in the north of the country, state radio reported."),
        (DAY_AFTER, "Gunmen killed a guard, police said on Wednesday."),
        (DAY_AFTER, "Gunmen killed a guard, a spokesman told Radio Nord late on Wednesday."),
        (SOURCE_ALONE, "Gunmen killed a guard, police said."),
        (SOURCE_ALONE, "Gunmen killed a guard, citing officials."),
        (DAY_ALONE, "Gunmen killed a guard on Thursday."),
        (DAY_ALONE, '"We shall be there on Thursday."'),
    ],
)
def test_a_form_is_told_whatever_words_fill_it(form: str, text: str) -> None:
    assert closing_forms(text) == {form}


@pytest.mark.parametrize(
    "text",
    [
        "Gunmen killed a guard.",
        "Police said on Tuesday that gunmen killed a guard.",
        "Gunmen on Tuesday killed a guard, who said nothing.",
        "On Tuesday, police said gunmen had killed a guard at the gate of the depot in the north.",
        "The guard was killed on Tuesday, and two men were held",
    ],
)
def test_a_sentence_that_closes_otherwise_has_no_form(text: str) -> None:
    assert closing_forms(text) == set()


def test_every_sentence_of_a_text_is_read_and_none_into_the_next() -> None:
    assert closing_forms("Gunmen killed a guard on Monday. He was 40, police said.") == {DAY_ALONE, SOURCE_ALONE}
    assert closing_forms(f"{CLOSED} The road is closed.") == {DAY_BEFORE}


def test_a_form_that_stands_with_events_alone_shows_as_a_gap() -> None:
    lines = [
        *records((CLOSED, True, 3), (OPEN, True, 1), (CLOSED, False, 1), (OPEN, False, 3)),
        *records((OPEN, True, 2), (CLOSED, False, 2), split="test"),
    ]
    found = {(cue.form, cue.where): cue for cue in cues_by_split(lines)}
    train, test, everywhere = (found[DAY_BEFORE, where] for where in ("train", "test", "all"))
    assert (train.event_share, train.eventless_share, train.gap) == (0.75, 0.25, 0.5)
    assert test.gap == -1.0
    assert (everywhere.with_event, everywhere.events, everywhere.without_event, everywhere.eventless) == (3, 6, 3, 6)
    assert found[BOTH, "train"].gap == 0.5
    assert found[SOURCE_ALONE, "train"].gap == 0.0
    grid = splits_grid(cues_by_split(lines))
    assert tuple(grid.heads[1:]) == ("all", *SPLITS)
    assert tuple(grid.rows[0][1:]) == ("50.0% / 50.0%", "75.0% / 25.0%", "0.0% / 0.0%", "0.0% / 100.0%")


def test_batches_come_widest_gap_first_whichever_way_and_small_ones_not_at_all() -> None:
    enough = MIN_RECORDS
    lines = [
        *records((CLOSED, True, enough), (CLOSED, False, enough), batch="even"),
        *records((CLOSED, True, enough), (OPEN, False, enough), batch="with"),
        *records((OPEN, True, enough), (CLOSED, False, 15), (OPEN, False, enough - 15), batch="without"),
        *records((CLOSED, True, enough), (OPEN, False, enough - 1), batch="small"),
    ]
    assert [(cue.where, cue.gap) for cue in cues_by_batch(lines)] == [("with", 1.0), ("without", -0.75), ("even", 0.0)]
    (row,) = batches_grid(cues_by_batch(lines, most=1)).rows
    assert tuple(row) == ("with", "100.0% of 20", "0.0% of 20", "+100")


def test_no_cell_is_taken_for_a_tag_where_tables_are_markdown() -> None:
    lines = records((CLOSED, True, 1))
    assert "<" not in splits_grid(cues_by_split(lines)).markdown()
