from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tocsin_training.metrics import (
    NONE,
    Interval,
    bootstrap_ece,
    bootstrap_f1,
    calibration_figures,
    difference,
    expected_calibration_error,
    f1_figures,
    false_alarms,
    label_intervals,
    pool_bins,
    proportion,
    reliability,
    several_events,
    top_answers,
    top_is_right,
    top_truth,
    wilson,
)

TRUTH = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=np.bool_)
GIVEN = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=np.bool_)
PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.2, 0.4, 0.8], [0.1, 0.1, 0.1], [0.6, 0.1, 0.1]], dtype=np.float32)


def test_figures_of_a_case_worked_by_hand() -> None:
    figures = f1_figures(TRUTH, GIVEN)
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert figures["weighted_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert figures["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert figures["exact_match"] == 0.5


def test_texts_of_several_events_are_asked_for_the_main_one_and_for_all() -> None:
    truth = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]], dtype=np.bool_)
    given = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=np.bool_)
    # The second has its main label first, though not both; the third is given none, the last has but one event.
    found = several_events(truth, given, top=np.array([1, 0, NONE, 1]), main=np.array([0, 0, 1, 0]))
    assert found is not None
    assert (found.texts, found.main_first.value, found.exact.value) == (3, 1 / 3, 1 / 3)
    assert several_events(truth[3:], given[3:], top=np.array([1]), main=np.array([0])) is None


def one_each(texts: int, labels: int, *, of: int) -> NDArray[np.bool_]:
    """Every text has one label, the first ``labels`` of all in turn."""
    truth = np.zeros((texts, of), dtype=np.bool_)
    truth[np.arange(texts), np.arange(texts) % labels] = True
    return truth


@pytest.mark.parametrize(("texts", "labels"), [(250, 4), (52, 26)])
def test_a_model_without_a_mistake_has_a_macro_f1_of_one_whatever_labels_the_test_holds(
    texts: int, labels: int
) -> None:
    truth = one_each(texts, labels, of=26)
    assert bootstrap_f1(truth, truth, samples=200)["macro_f1"] == Interval(1.0, 1.0, 1.0)


def test_a_label_that_is_given_where_no_text_has_it_counts_against_macro_f1() -> None:
    truth = one_each(40, 4, of=26)
    given = truth.copy()
    given[:, 9] = True
    found = bootstrap_f1(truth, given, samples=200)["macro_f1"]
    assert found.value == pytest.approx(4 / 5)
    assert found.low <= found.value <= found.high
    nothing = np.zeros((5, 3), dtype=np.bool_)
    assert f1_figures(nothing, nothing)["macro_f1"] == 0


def test_the_first_answer_is_right_when_it_is_one_of_the_true_ones() -> None:
    top = top_answers(PROBABILITIES, GIVEN)
    assert top.tolist() == [0, 2, NONE, 0]
    assert top_is_right(TRUTH, top).tolist() == [True, True, True, False]
    assert top_truth(TRUTH, top).tolist() == [0, 2, NONE, NONE]
    assert top_truth(TRUTH, np.array([0, 0, 0, 0])).tolist() == [0, 1, NONE, NONE]


def test_calibration_error_of_an_honest_and_of_a_boastful_model() -> None:
    rng = np.random.default_rng(0)
    stated = rng.random(50_000)
    held = rng.random(50_000) < stated
    assert expected_calibration_error(stated, held) < 0.01
    assert expected_calibration_error(np.ones(10), np.zeros(10, dtype=np.bool_)) == 1.0
    assert expected_calibration_error(np.array([]), np.array([], dtype=np.bool_)) == 0.0


def test_log_loss_is_over_every_label_and_calibration_error_over_those_given() -> None:
    figures = calibration_figures(np.full((4, 3), 0.5, dtype=np.float32), GIVEN, TRUTH)
    assert figures["log_loss"] == pytest.approx(np.log(2))
    assert figures["ece"] == pytest.approx(2 / 3 - 1 / 2)
    assert calibration_figures(PROBABILITIES[:0], GIVEN[:0], TRUTH[:0]) == {"ece": 0.0, "log_loss": 0.0}


def test_false_alarms_are_counted_over_texts_without_event_only() -> None:
    alarms = false_alarms(GIVEN, [None, None, "sport", "planned"])
    assert (alarms["all"]["share"], alarms["all"]["texts"]) == (0.5, 2)
    assert (alarms["all"]["low"], alarms["all"]["high"]) == wilson(0.5, 2)
    assert alarms["planned"]["share"] == 1.0
    assert alarms["sport"]["share"] == 0.0


def test_intervals_hold_the_figure_and_narrow_with_more_texts() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((2000, 4)) < 0.3
    given = truth ^ (rng.random(truth.shape) < 0.1)
    wide = bootstrap_f1(truth[:100], given[:100], samples=200)["weighted_f1"]
    narrow = bootstrap_f1(truth, given, samples=200)["weighted_f1"]
    assert wide.low < wide.value < wide.high
    assert narrow.low < narrow.value < narrow.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2
    assert bootstrap_f1(truth, given, samples=200)["weighted_f1"] == narrow


def test_bootstrap_intervals_are_those_of_scipy() -> None:
    from scipy.stats import bootstrap  # type: ignore[import-untyped]

    rng = np.random.default_rng(1)
    truth = rng.random((300, 3)) < 0.3
    given = truth ^ (rng.random(truth.shape) < 0.15)
    ours = bootstrap_f1(truth, given, samples=2000)

    for name, found in ours.items():

        def statistic(rows: NDArray[np.intp], name: str = name) -> float:
            return f1_figures(truth[rows], given[rows])[name]

        theirs = bootstrap((np.arange(300),), statistic, n_resamples=400, vectorized=False, method="percentile", rng=2)
        ends = theirs.confidence_interval
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.012), name


def test_the_interval_of_a_label_goes_by_the_texts_that_have_it() -> None:
    truth = np.zeros((200, 3), dtype=np.bool_)
    truth[:100, 0] = truth[:4, 1] = True
    given = truth.copy()
    given[:10, 0] = given[0, 1] = False
    found = label_intervals(truth, given, ["many", "few", "never"], samples=500)
    few, many = found["few"], found["many"]
    assert many["low"] < 180 / 190 < many["high"] and few["low"] < 6 / 7 <= few["high"]
    assert many["high"] - many["low"] < (few["high"] - few["low"]) / 4
    assert found["never"] == {"low": 0.0, "high": 1.0}, "nothing to measure"


def test_bins_are_those_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(3)
    stated = rng.random(2000)
    held = rng.random(2000) < stated**2
    right, mean = calibration_curve(held, stated, n_bins=15, strategy="uniform")
    rows = reliability(stated, held)
    assert [row[0] for row in rows] == pytest.approx(mean) and [row[1] for row in rows] == pytest.approx(right)


def test_an_interval_of_the_calibration_error_holds_it_and_narrows_with_more_texts() -> None:
    rng = np.random.default_rng(4)
    stated = rng.random((4000, 1))
    held, given = rng.random((4000, 1)) < stated, np.ones((4000, 1), dtype=np.bool_)
    few = bootstrap_ece(stated[:200], given[:200], held[:200], samples=200)
    many = bootstrap_ece(stated, given, held, samples=200)
    for found, texts in ((few, 200), (many, 4000)):
        assert found.value == expected_calibration_error(stated[:texts, 0], held[:texts, 0])
        assert found.low <= found.value <= found.high
    assert many.high - many.low < few.high - few.low
    assert bootstrap_ece(stated[:0], given[:0], held[:0], samples=10) == Interval(0.0, 0.0, 1.0)


def test_bins_of_a_handful_are_put_together_and_none_of_their_answers_is_lost() -> None:
    rows = [(0.3, 0.5, 4), (0.4, 0.0, 2), (0.5, 1.0, 20), (0.9, 0.9, 500), (0.97, 1.0, 3)]
    pooled = pool_bins(rows, least=20)
    assert [count for _, _, count in pooled] == [26, 500, 3]
    assert pooled[0][:2] == pytest.approx(((0.3 * 4 + 0.4 * 2 + 0.5 * 20) / 26, 22 / 26))
    assert pool_bins([], least=20) == []


@pytest.mark.parametrize(("share", "count"), [(0.0, 10), (1.0, 10), (0.3, 40)])
def test_an_interval_of_a_share_holds_it_and_narrows_with_more_texts(share: float, count: int) -> None:
    from scipy.stats import binomtest

    low, high = wilson(share, count)
    assert 0 <= low <= share <= high <= 1
    expected = binomtest(round(share * count), count).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    wider = wilson(share, count * 4)
    assert wider[1] - wider[0] < high - low


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_a_share_counts_its_interval_by_what_stands_or_falls_by_itself() -> None:
    one_by_one = proportion(30, 40)
    assert (one_by_one.low, one_by_one.high) == wilson(0.75, 40) and one_by_one.value == 0.75
    in_tens = proportion(30, 40, observations=4)
    assert in_tens.value == 0.75 and (in_tens.low, in_tens.high) == wilson(0.75, 4)


def test_of_none_every_share_is_possible() -> None:
    assert proportion(0, 0) == Interval(0.0, 0.0, 1.0)
    assert proportion(0, 0, of_none=1.0) == Interval(1.0, 0.0, 1.0)


def test_a_difference_of_two_shares_is_newcombe_s_and_of_an_exact_one_wilson_s() -> None:
    first, second = proportion(48, 80), proportion(56, 70)
    # His example of 56/70 against 48/80 (1998, table II, a).
    found = difference(first, second)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    exact = difference(Interval(0.6, 0.6, 0.6), second)
    assert (exact.low, exact.high) == pytest.approx((second.low - 0.6, second.high - 0.6))
