"""Two releases on the same text: what the comparison finds is what was put there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2  # type: ignore[import-untyped]
from support import make_tiny_release

from tocsin import EventClassifier, Release
from tocsin.calibration import Calibration
from tocsin.errors import InputError
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin_training.arrays import Bools
from tocsin_training.compare import Comparison, Figure, align, compare, mcnemar, missed_margins
from tocsin_training.compare_report import html, tables, verdict
from tocsin_training.config import CompareSettings, Settings
from tocsin_training.errors import ComparisonError
from tocsin_training.heldout import HeldOut, read_file
from tocsin_training.metrics import expected_calibration_error, f1_figures
from tocsin_training.resample import draw_texts, ece_by_draw, f1_by_draw


def with_thresholds(release: Path, folder: Path, **changed: float) -> Path:
    """A copy of a release that gives some labels at other probabilities only."""
    shutil.copytree(release, folder)
    names = Release.open(release).taxonomy.names
    calibration = Calibration.load(folder / LAYOUT.calibration)
    thresholds = [changed.get(name, old) for name, old in zip(names, calibration.thresholds, strict=True)]
    calibration.model_copy(update={"thresholds": tuple(thresholds)}).save(folder / LAYOUT.calibration)
    write_manifest(folder, read_manifest(folder).model_copy(update={"version": "1"}))
    return folder


@pytest.fixture(scope="module")
def held_out(tiny_classifier: EventClassifier) -> HeldOut:
    """Texts that the champion answers rightly, every one; airstrikes are a third of them."""
    texts = ["An airstrike on a town.", "Shelling <b>of</b> a town.", "The minister spoke of a town."] * 40
    truth = tiny_classifier.score_batch(texts).given
    reasons = [None if row.any() else "politics" for row in truth]
    return HeldOut("made up", texts, truth, reasons)


@pytest.fixture(scope="module")
def comparison(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory, held_out: HeldOut) -> Comparison:
    """The challenger never gives airstrikes."""
    worse = with_thresholds(tiny_release, tmp_path_factory.mktemp("worse") / "release", air_drone_strike=0.999)
    classifiers = EventClassifier.load(tiny_release), EventClassifier.load(worse)
    return compare(*classifiers, held_out, CompareSettings(), bootstrap_samples=200)


def test_a_release_is_no_worse_than_itself(tiny_classifier: EventClassifier, held_out: HeldOut) -> None:
    settings = CompareSettings(speed=10)
    same = compare(tiny_classifier, tiny_classifier, held_out, settings, bootstrap_samples=50)
    assert same.faults == ()
    assert same.agreement == 1
    assert {row.verdict for row in same.figures if row.low is not None} == {"no difference shown"}
    assert (same.lost, same.lost_count, same.gained_count) == ((), 0, 0)


def test_what_got_worse_is_found_and_named(comparison: Comparison) -> None:
    (label,) = (row for row in comparison.labels if row.worse)
    assert (label.name, label.lost, label.gained, label.challenger) == ("air_drone_strike", 40, 0, 0.0)
    assert comparison.lost_count == 40
    assert comparison.agreement == pytest.approx(2 / 3)
    assert {example.text for example in comparison.lost} == {"An airstrike on a town."}
    assert all(example.challenger == () for example in comparison.lost)
    assert any("air_drone_strike" in fault for fault in comparison.faults)
    assert any(fault.startswith("weighted F1") for fault in comparison.faults)
    assert "worse beyond the margins" in verdict(comparison)
    (micro,) = (row for row in comparison.figures if row.name == "micro F1")
    assert (micro.margin, micro.verdict) == (None, "worse, but allowed"), "it is told, and decides nothing"


def test_the_interval_holds_the_difference(comparison: Comparison) -> None:
    for row in comparison.figures:
        if row.low is not None and row.high is not None:
            assert row.difference is not None
            assert row.low - 1e-6 <= row.difference <= row.high + 1e-6


def test_a_label_s_loss_counts_only_where_chance_is_no_explanation(
    tiny_release: Path, tiny_classifier: EventClassifier, held_out: HeldOut, tmp_path: Path
) -> None:
    worse = EventClassifier.load(with_thresholds(tiny_release, tmp_path / "worse", air_drone_strike=0.999))
    few = HeldOut("few", held_out.texts[:6], held_out.truth[:6], held_out.reasons[:6])
    found = compare(tiny_classifier, worse, few, CompareSettings(), bootstrap_samples=50)
    (label,) = (row for row in found.labels if row.name == "air_drone_strike")
    assert (label.champion, label.challenger, label.lost, label.worse) == (1.0, 0.0, 2, False)


@pytest.mark.parametrize(
    ("champion", "challenger", "low", "high", "higher", "margin", "expected"),
    [
        (0.80, 0.79, -0.02, 0.00, True, 0.005, "worse"),
        (0.80, 0.797, -0.005, -0.001, True, 0.005, "worse, but allowed"),
        (0.80, 0.82, 0.01, 0.03, True, 0.005, "better"),
        (0.80, 0.801, -0.01, 0.01, True, 0.005, "no difference shown"),
        (0.03, 0.05, 0.01, 0.03, False, 0.01, "worse"),
        (0.05, 0.03, -0.03, -0.01, False, 0.01, "better"),
        (0.05, 0.30, 0.2, 0.3, False, None, "worse, but allowed"),
        (100, 60, None, None, True, 25, "worse"),
        (100, 90, None, None, True, 25, "about the same"),
        (100, 200, None, None, True, 25, "better"),
        (0.117, None, None, None, False, 0.02, "not known"),
        (None, 0.5, None, None, True, None, "not known"),
    ],
)
def test_verdicts(
    champion: float | None,
    challenger: float | None,
    low: float | None,
    high: float | None,
    higher: bool,
    margin: float | None,
    expected: str,
) -> None:
    assert Figure("any", champion, challenger, higher, low, high, margin).verdict == expected


def test_who_gives_no_label_is_not_the_better_calibrated(
    tiny_release: Path, tiny_classifier: EventClassifier, held_out: HeldOut, tmp_path: Path
) -> None:
    never = dict.fromkeys(tiny_classifier.taxonomy.names, 1 - 1e-9)
    silent = EventClassifier.load(with_thresholds(tiny_release, tmp_path / "silent", **never))
    found = compare(tiny_classifier, silent, held_out, CompareSettings(), bootstrap_samples=20)
    (row,) = (row for row in found.figures if row.name == "calibration error (ECE)")
    assert row.champion is not None
    assert (row.challenger, row.difference, row.verdict) == (None, None, "not known")
    assert "not known" in [row["verdict"] for row in json.loads(json.dumps(found.as_dict()))["figures"]]
    assert "not known" in html(found)
    assert len(tables(found)[0].rows) == len(found.figures)


def test_mcnemar_is_exact_and_near_its_chi_square_for_many() -> None:
    def answers(lost: int, gained: int) -> tuple[Bools, Bools]:
        old = np.array([True] * lost + [False] * gained + [True] * 50)
        return old, np.array([False] * lost + [True] * gained + [True] * 50)

    assert mcnemar(*answers(0, 0)) == 1
    assert mcnemar(*answers(0, 5)) == pytest.approx(2 / 2**5)
    # With Edwards' correction for continuity.
    assert mcnemar(*answers(200, 150)) == pytest.approx(chi2.sf((50 - 1) ** 2 / 350, 1), rel=0.02)


def test_a_draw_of_every_text_once_gives_the_plain_figures() -> None:
    rng = np.random.default_rng(3)
    truth, probabilities = rng.random((80, 5)) < 0.2, rng.random((80, 5))
    given = probabilities > 0.6
    once = np.ones((1, 80), dtype=np.float32)
    plain = f1_figures(truth, given)
    for name, values in f1_by_draw(once, truth, given).items():
        assert values[0] == pytest.approx(plain[name], abs=1e-6)
    error = expected_calibration_error(probabilities[given], truth[given])
    assert ece_by_draw(once, probabilities, given, truth)[0] == pytest.approx(error, abs=1e-6)
    assert (draw_texts(80, samples=9).sum(axis=1) == 80).all()


def test_the_order_of_labels_does_not_matter(tiny_classifier: EventClassifier, tmp_path: Path) -> None:
    text = Release.open(make_tiny_release(tmp_path / "plain")).folder.joinpath(LAYOUT.taxonomy).read_text()
    head, *labels = text.split("[[labels]]")
    turned = tmp_path / "turned.toml"
    turned.write_text(head + "".join(f"[[labels]]{label.rstrip()}\n" for label in reversed(labels)))
    other = EventClassifier.load(make_tiny_release(tmp_path / "turned", taxonomy_file=turned))
    texts = ["An airstrike on a town.", "Looting in a town."]
    expected, found = tiny_classifier.score_batch(texts), other.score_batch(texts)
    assert other.taxonomy.names != tiny_classifier.taxonomy.names
    aligned = align(found, tiny_classifier.taxonomy)
    np.testing.assert_allclose(aligned.probabilities, expected.probabilities, atol=1e-6)
    assert (aligned.given == expected.given).all()


def test_releases_of_other_labels_are_not_compared_but_told_apart(
    trained_release: Release, tiny_classifier: EventClassifier, held_out: HeldOut, settings: Settings
) -> None:
    other = EventClassifier(trained_release)
    with pytest.raises(ComparisonError, match="only the challenger's: apple, frost, storm, wheat"):
        compare(tiny_classifier, other, held_out, CompareSettings())
    (fault,) = missed_margins(tiny_classifier.release, trained_release, settings)
    assert "different labels" in fault


@pytest.fixture(scope="module")
def trained_release(taxonomy_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release.open(make_tiny_release(tmp_path_factory.mktemp("other") / "release", taxonomy_file=taxonomy_file))


def test_the_corpus_s_test_split_is_the_held_out_text(trained_release: Release, settings: Settings) -> None:
    shown: list[Comparison] = []
    fast = settings.model_copy(update={"compare": CompareSettings(speed=100)})
    assert missed_margins(trained_release, trained_release, fast, shown=shown.append) == ()
    assert shown[0].texts == 100


def test_the_report_holds_everything_and_escapes_every_text(comparison: Comparison) -> None:
    page = html(comparison)
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    for said in (verdict(comparison), "An airstrike on a town.", "air_drone_strike", "no-event texts given a label"):
        assert said.replace("&", "&amp;").replace(">", "&gt;") in page
    marked = html(_with_example(comparison, "<img src=x onerror=alert(1)>"))
    assert "<img src=x" not in marked
    assert "&lt;img src=x" in marked


def _with_example(comparison: Comparison, text: str) -> Comparison:
    return replace(comparison, lost=(replace(comparison.lost[0], text=text),))


def test_the_tables_have_a_row_for_every_figure_and_label(comparison: Comparison) -> None:
    figures, labels = tables(comparison)
    assert figures.row_count == len(comparison.figures)
    assert next(iter(labels.columns[0].cells)) == "air_drone_strike"
    assert json.loads(json.dumps(comparison.as_dict()))["promotable"] is False


def test_a_file_of_one_s_own_is_read_by_any_name_of_a_label(tiny_classifier: EventClassifier, tmp_path: Path) -> None:
    lines = tmp_path / "own.jsonl"
    lines.write_text(
        '{"text": "a", "labels": ["Airstrike", "arrests"]}\n\n{"text": "b", "labels": [], "reason": "past"}\n'
    )
    table = tmp_path / "own.csv"
    table.write_text('text,labels\na,"Airstrike; arrests"\nb,\n')
    for path, reason in ((lines, "past"), (table, "not stated")):
        found = read_file(path, tiny_classifier.taxonomy)
        names = np.array(tiny_classifier.taxonomy.names)
        assert [sorted(names[row]) for row in found.truth] == [["air_drone_strike", "arrests"], []]
        assert found.reasons == [None, reason]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a", "labels": []}\n{"text": "a"}', r"a\.jsonl:2: has no field or column `labels`"),
        ("a.jsonl", "[", r"a\.jsonl:1: not a JSON object"),
        ("a.jsonl", '{"text": " ", "labels": []}', r"a\.jsonl:1: has no text"),
        ("a.jsonl", "", "is empty"),
        ("a.csv", "text,labels\na,Picnic", r"a\.csv:2: no label goes by 'Picnic'"),
        ("a.txt", "a", "must end in one of .csv"),
    ],
)
def test_a_bad_file_is_refused_by_line(
    name: str, content: str, said: str, tiny_classifier: EventClassifier, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        read_file(tmp_path / name, tiny_classifier.taxonomy)
