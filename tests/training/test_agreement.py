from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tocsin.taxonomy import Taxonomy
from tocsin_training.agreement import (
    Counts,
    LabelAgreement,
    alpha,
    kappa,
    measure_agreement,
    measure_by_split,
    splits_grid,
)
from tocsin_training.cli import corpus_agreement
from tocsin_training.corpus import SPLITS, Line, Record
from tocsin_training.errors import CorpusError

Edit = Callable[..., None]

# Writer and second reader. Small enough to reckon every figure below by hand.
ANSWERS = [(["storm"], ["storm"]), (["storm", "frost"], ["storm"]), ([], []), (["frost"], [])]


@pytest.fixture
def taxonomy(taxonomy_file: Path) -> Taxonomy:
    return Taxonomy.load(taxonomy_file)


def read_by(writer: list[str], second: list[str] | None, third: list[str] | None = None, **more: object) -> Record:
    annotations = {"writer": writer, "second": second, "third": third}
    fields = {"id": "b-1", "text": "Text.", "labels": writer, "register": "wire", "batch": "b"}
    return Record.model_validate(fields | {"annotations": annotations} | more)


def test_every_label_and_no_event_have_a_kappa_of_their_own(taxonomy: Taxonomy) -> None:
    agreement = measure_agreement([read_by(*pair) for pair in ANSWERS], taxonomy)
    storm, frost, wheat, apple = agreement.labels
    assert storm == LabelAgreement("storm", writer=2, second=2, both=2, kappa=1.0)
    # Half of the answers are equal, and so many would be by chance.
    assert frost == LabelAgreement("frost", writer=2, second=0, both=0, kappa=0.0)
    assert wheat == LabelAgreement("wheat", writer=0, second=0, both=0, kappa=None)
    assert apple == LabelAgreement("apple", writer=0, second=0, both=0, kappa=None)
    # 3 of 4 are equal, and 1/4 * 2/4 + 3/4 * 2/4 would be by chance: (3/4 - 1/2) / (1 - 1/2).
    assert agreement.no_event == LabelAgreement("no event", writer=1, second=2, both=1, kappa=0.5)


def test_alpha_takes_sets_that_share_a_label_for_nearer_than_sets_that_share_none(taxonomy: Taxonomy) -> None:
    agreement = measure_agreement([read_by(*pair) for pair in ANSWERS], taxonomy)
    # Observed: (0 + 2/3 + 0 + 1) / 4 = 5/12. Expected, over 8 * 7 ordered pairs of answers: 31/42.
    assert agreement.alpha_masi == pytest.approx(1 - (5 / 12) / (31 / 42))
    assert agreement.exact_match == 0.5


def test_alpha_is_one_when_readers_agree_and_below_nought_when_they_avoid_each_other() -> None:
    storm, frost = frozenset({"storm"}), frozenset({"frost"})
    assert alpha([(storm, storm), (frost, frost)]) == 1.0
    # Observed 1; expected 2 * 2 * 2 / (4 * 3) = 2/3.
    assert alpha([(storm, frost), (frost, storm)]) == pytest.approx(-0.5)


def test_without_variation_there_is_nothing_to_measure() -> None:
    assert kappa([True, True], [True, True]) is None
    assert kappa([], []) is None
    assert alpha([(frozenset({"storm"}), frozenset({"storm"}))]) is None
    assert alpha([]) is None


def test_the_order_of_labels_is_no_difference(taxonomy: Taxonomy) -> None:
    agreement = measure_agreement([read_by(["storm", "frost"], ["frost", "storm"])], taxonomy)
    assert agreement.exact_match == 1.0
    assert agreement.counts.parted == 0


def test_a_parted_record_is_decided_by_a_third_or_ambiguous_or_open(taxonomy: Taxonomy) -> None:
    records = [
        read_by(["storm"], None),
        read_by(["storm"], ["storm"]),
        read_by(["storm"], ["storm"], ["frost"]),
        read_by(["storm"], ["frost"]),
        read_by(["storm"], [], []),
        read_by([], ["frost"], ["frost"]),
        read_by(["storm"], ["frost"], ["apple"], ambiguous=True),
    ]
    assert measure_agreement(records, taxonomy).counts == Counts(
        records=7, labelled_twice=6, parted=4, decided_by_a_third=2, not_decided_yet=1, revised=1, ambiguous=1
    )


def test_records_read_once_leave_the_figures_alone(taxonomy: Taxonomy) -> None:
    twice = [read_by(*pair) for pair in ANSWERS]
    once = [read_by(["wheat"], None), read_by([], None)]
    alone, among = measure_agreement(twice, taxonomy), measure_agreement([*twice, *once], taxonomy)
    assert (among.labels, among.no_event, among.alpha_masi) == (alone.labels, alone.no_event, alone.alpha_masi)
    assert measure_agreement(once, taxonomy).exact_match is None


def read_only(corpus: Path, edit_line: Edit, answers: list[tuple[list[str], list[str]]]) -> None:
    """A corpus of which a second reader has seen these records alone."""
    for file in corpus.glob("*/*.jsonl"):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        for record in records:
            record["annotations"].pop("second")
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    for number, (writer, second) in enumerate(answers, 1):
        edit_line(corpus / "test" / "four.jsonl", number, annotations={"writer": writer, "second": second})


def test_kappa_over_all_takes_a_set_for_one_answer(taxonomy: Taxonomy) -> None:
    agreement = measure_agreement([read_by(*pair) for pair in ANSWERS], taxonomy)
    # 2 of 4 are equal, and (1 * 2 + 1 * 0 + 1 * 2 + 1 * 0) / 16 would be by chance: (1/2 - 1/4) / (1 - 1/4).
    assert agreement.kappa == pytest.approx(1 / 3)


def test_labels_under_what_is_wanted_are_named_least_agreed_first(taxonomy: Taxonomy) -> None:
    agreement = measure_agreement([read_by(*pair) for pair in ANSWERS], taxonomy)
    assert [row.name for row in agreement.below] == ["frost", "no event"]
    assert measure_agreement([read_by(["storm"], ["storm"]), read_by([], [])], taxonomy).below == []


def test_each_split_is_measured_by_its_own_records(taxonomy: Taxonomy) -> None:
    places = ("train", "train", "test", "test")
    lines = [Line(read_by(*pair), split, Path("b.jsonl"), 1) for split, pair in zip(places, ANSWERS, strict=True)]
    found = measure_by_split(lines, taxonomy)
    assert [found[split].exact_match for split in SPLITS] == [0.5, None, 0.5]
    train, validation, test = splits_grid(found).rows
    assert (train[:3], validation[:4], test[:3]) == (
        ("train", "2", "2"),
        ("validation", "0", "0", "-"),
        ("test", "2", "2"),
    )
    assert test[-1] == "no event 0.000, frost 0.000"


def test_the_command_fails_on_what_was_read_once_and_passes_where_readers_agree(
    corpus: Path, taxonomy_file: Path, edit_line: Edit
) -> None:
    corpus_agreement(corpus, taxonomy_file)
    read_only(corpus, edit_line, [])
    with pytest.raises(CorpusError, match="no record has a second reading"):
        corpus_agreement(corpus, taxonomy_file)
    answers = [(["storm"], ["storm"])] * 6 + [(["frost"], ["frost"])] * 6 + [([], ["frost"])]
    for number, (writer, second) in enumerate(answers, 1):
        edit_line(corpus / "test" / "four.jsonl", number, annotations={"writer": writer, "second": second})
    # 12 of 13 are equal, and (6 * 6 + 6 * 7) / 169 would be by chance: 0.857.
    corpus_agreement(corpus, taxonomy_file)


def test_the_command_prints_json_for_machines_and_tables_for_people(
    corpus: Path, taxonomy_file: Path, edit_line: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    read_only(corpus, edit_line, ANSWERS)
    # Half of the answers are equal: too few, said after the figures.
    with pytest.raises(CorpusError, match=r"kappa over all is 0\.333, and 0\.85"):
        corpus_agreement(corpus, taxonomy_file, as_json=True)
    figures = json.loads(capsys.readouterr().out)
    assert figures["counts"]["labelled_twice"] == 4
    assert figures["alpha_masi"] == pytest.approx(27 / 62)
    assert figures["labels"][2] == {"name": "wheat", "writer": 0, "second": 0, "both": 0, "kappa": None}
    assert figures["splits"]["test"]["alpha_masi"] == figures["alpha_masi"]
    assert figures["splits"]["train"]["counts"]["labelled_twice"] == 0
    with pytest.raises(CorpusError):
        corpus_agreement(corpus, taxonomy_file)
    printed = capsys.readouterr().out
    assert "0.435" in printed
    printed = printed[printed.index("agreement by label") :]
    assert printed.index("frost") < printed.index("no event") < printed.index("storm") < printed.index("wheat")


def test_a_corpus_that_is_not_all_records_is_not_measured(corpus: Path, taxonomy_file: Path) -> None:
    path = corpus / "test" / "four.jsonl"
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(CorpusError, match="corpus check"):
        corpus_agreement(corpus, taxonomy_file)
