from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tocsin.classifier import Scores
from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.benchmark import (
    ACLED_TYPES,
    NO_EVENT,
    NOT_EVENTS,
    benchmark_figures,
    confusion_figures,
    read_benchmark,
    type_figures,
)
from tocsin_training.metrics import wilson

SHIPPED = Path(__file__).parents[2] / "datasets" / "taxonomy.toml"


def scores(taxonomy: Taxonomy, answers: list[tuple[str, float]]) -> Scores:
    """One label's probability a text, all others zero; given from 0.5."""
    probabilities = np.zeros((len(answers), len(taxonomy.labels)), dtype=np.float32)
    for row, (label, probability) in enumerate(answers):
        probabilities[row, taxonomy.index(label)] = probability
    return Scores(
        taxonomy=taxonomy,
        model_version="toy",
        probabilities=probabilities,
        given=probabilities >= 0.5,
        event_type_probabilities=np.zeros((len(answers), 6), dtype=np.float32),
        no_event=1 - probabilities.max(axis=1),
        confidence=probabilities.max(axis=1),
        needs_review=np.zeros(len(answers), dtype=np.bool_),
        read=np.ones(len(answers), dtype=np.bool_),
        truncated=np.zeros(len(answers), dtype=np.bool_),
        settled=np.zeros(len(answers), dtype=np.bool_),
        languages=["en"] * len(answers),
    )


def test_the_table_covers_acled_s_25_types_as_the_shipped_taxonomy_spells_them() -> None:
    types = {label.sub_event_type for label in Taxonomy.load(SHIPPED).labels}
    assert set(ACLED_TYPES.values()) == types
    assert len(ACLED_TYPES) == 25
    assert len(NOT_EVENTS) == 5


def test_figures_of_a_case_worked_by_hand() -> None:
    taxonomy = Taxonomy.load(SHIPPED)
    answers = [("grenade", 0.9), ("grenade", 0.4), ("ground_offensive", 0.9), ("attack", 0.9), ("attack", 0.1)]
    truth = ["Grenade", "Grenade", "Armed clash", NO_EVENT, NO_EVENT]
    figures = benchmark_figures(scores(taxonomy, answers), truth)
    assert figures.forced_weighted_f1 == 1.0, "ground_offensive counts as the Armed clash it is to ACLED"
    assert figures.abstaining_weighted_f1 == pytest.approx((2 * (2 / 3) + 1) / 3)
    assert figures.no_event_recall == 0.5
    assert (figures.texts, figures.event_texts) == (5, 3)
    assert figures.exact_accuracy == pytest.approx(3 / 5)
    # A confidence is that of the only label, whether it is given or not.
    assert figures.mean_confidence == pytest.approx((0.9 * 3 + 0.4 + 0.1) / 5)


def test_every_figure_on_the_file_has_an_interval_that_holds_it() -> None:
    taxonomy = Taxonomy.load(SHIPPED)
    answers = [("grenade", 0.9), ("grenade", 0.4), ("ground_offensive", 0.9), ("attack", 0.9), ("attack", 0.1)] * 8
    truth = ["Grenade", "Grenade", "Armed clash", NO_EVENT, NO_EVENT] * 8
    figures = asdict(benchmark_figures(scores(taxonomy, answers), truth, bootstrap_samples=200))
    shares = {name for name, value in figures.items() if isinstance(value, float)} - {"mean_confidence"}
    assert figures["intervals"].keys() == shares
    for name, (low, high) in figures["intervals"].items():
        assert 0 <= low <= figures[name] <= high <= 1, name
    low, high = figures["intervals"]["abstaining_weighted_f1"]
    assert low < high


def test_sides_of_a_war_that_are_mistaken_for_each_other_are_counted() -> None:
    taxonomy = Taxonomy.load(SHIPPED)
    # The second battle is given the attack after the clash, the third nothing.
    answers = scores(
        taxonomy, [("attack", 0.9), ("attack", 0.6), ("attack", 0.1), ("armed_clash", 0.9), ("attack", 0.9)]
    )
    both = replace(answers, probabilities=answers.probabilities.copy(), given=answers.given.copy())
    both.probabilities[1, taxonomy.index("armed_clash")], both.given[1, taxonomy.index("armed_clash")] = 0.8, True
    truth = ["Armed clash", "Government regains territory", "Armed clash", "Attack", "Attack"]
    found = confusion_figures(both, truth)
    battles = found["battles first answered as attacks on civilians"]
    assert (battles["count"], battles["texts"]) == (1, 3)
    assert (battles["low"], battles["high"]) == wilson(1 / 3, 3)
    attacks = found["attacks on civilians first answered as battles"]
    assert (attacks["count"], attacks["texts"]) == (1, 2)
    assert confusion_figures(answers, ["Grenade"] * 5) == {}


def test_a_type_has_the_figures_of_its_first_answers_over_all_texts() -> None:
    taxonomy = Taxonomy.load(SHIPPED)
    answers = [("grenade", 0.9), ("grenade", 0.4), ("ground_offensive", 0.9), ("attack", 0.9), ("grenade", 0.9)]
    truth = ["Grenade", "Grenade", "Armed clash", NO_EVENT, NO_EVENT]
    found = type_figures(scores(taxonomy, answers), truth, samples=50)
    assert list(found) == ["Armed clash", "Grenade", NO_EVENT]
    grenade = found["Grenade"]
    assert [grenade[name] for name in ("precision", "recall", "f1", "support")] == [0.5, 0.5, 0.5, 2.0]
    assert (grenade["recall_low"], grenade["recall_high"]) == wilson(0.5, 2)


def test_how_sure_answers_are_is_held_against_what_the_same_texts_came_to() -> None:
    taxonomy = Taxonomy.load(SHIPPED)
    read = scores(taxonomy, [("grenade", 0.9), ("grenade", 0.9), ("grenade", 0.1)])
    half_read = replace(read, read=np.array([True, True, False]))
    figures = benchmark_figures(half_read, ["Grenade", "Grenade", "Attack"], bootstrap_samples=10)
    assert figures.mean_confidence == pytest.approx(0.9)
    assert figures.read_accuracy == 1.0 > figures.exact_accuracy


def test_a_share_of_nothing_is_no_figure() -> None:
    taxonomy = Taxonomy.load(SHIPPED)
    answers = scores(taxonomy, [("grenade", 0.9)] * 4)
    unread = replace(answers, needs_review=np.ones(4, dtype=np.bool_), read=np.zeros(4, dtype=np.bool_))
    figures = benchmark_figures(unread, ["Grenade"] * 4, bootstrap_samples=10)
    nothing = ("no_event_recall", "accuracy_of_the_others", "read_accuracy", "mean_confidence")
    assert [getattr(figures, name) for name in nothing] == [None] * 4
    assert figures.intervals.keys().isdisjoint(nothing)


def test_a_reader_that_is_sure_and_wrong_has_a_large_calibration_error() -> None:
    taxonomy = Taxonomy.load(SHIPPED)
    sure = benchmark_figures(scores(taxonomy, [("grenade", 0.99)] * 20), ["Grenade"] * 10 + ["Attack"] * 10)
    assert sure.first_answer_ece == pytest.approx(0.49, abs=0.001)
    assert sure.mean_confidence == pytest.approx(0.99)
    assert sure.exact_accuracy == 0.5


def test_the_file_is_read_as_the_organisers_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "case.tsv"
    path.write_text('id\ttext\tsub_type\n1\tHe said "go.\tGRENADE\n2\tRain.\tDIPLO\n', encoding="utf-8")
    benchmark = read_benchmark(path)
    assert benchmark.texts == ('He said "go.', "Rain.")
    assert benchmark.truth == ("Grenade", NO_EVENT)
    assert benchmark.kinds == (None, "DIPLO")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("id\ttext\tsub_type\n1\tRain.\tRAIN\n", r"case\.tsv:2: unknown sub_type 'RAIN'"),
        ("id\ttext\n1\tRain.\n", "sub_type"),
        ("id\ttext\tsub_type\n", "holds no texts"),
        ("id\ttext\tsub_type\n1\tRain.\tDIPLO\n2\n", r"case\.tsv:3: has no text"),
        ("id\ttext\tsub_type\n1\tRain.\n", r"case\.tsv:2: has fewer cells"),
        ("id\ttext\tsub_type\n1\tRa\0in.\tDIPLO\n", r"case\.tsv:2: .*null"),
        ("id\ttext\tsub_type\n1\t" + "x" * 140_000 + "\tDIPLO\n", r"case\.tsv:\d+: .*field larger"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "case.tsv"
    path.write_text(content, encoding="utf-8")
    # The limit is the process's, and imports of tables raise it.
    limit = csv.field_size_limit(131_072)
    try:
        with pytest.raises(InputError, match=complaint):
            read_benchmark(path)
    finally:
        csv.field_size_limit(limit)


def test_a_file_is_parsed_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "case.tsv"
    path.write_text("text\tsub_type\nRain.\tDIPLO\n", encoding="utf-8")
    first = read_benchmark(path)
    assert read_benchmark(path) is first
    path.write_text("text\tsub_type\nMore rain.\tDIPLO\n", encoding="utf-8")
    assert read_benchmark(path).texts == ("More rain.",)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "case.tsv"
    path.write_text("text\tsub_type\nRain.\tDIPLO\n", encoding="utf-8-sig")
    assert read_benchmark(path).texts == ("Rain.",)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_benchmark(tmp_path / "none.tsv")
