from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tocsin.calibration import ReviewPromise
from tocsin_training.review import promise_figures, promise_sentences, risk_coverage
from tocsin_training.run import Run

PROMISE = ReviewPromise(target_accuracy=0.9, validation_accuracy=0.91, validation_review_share=0.1)


def outcome(right: int, wrong: int, sent: int) -> dict[str, Any]:
    held = np.array([True] * right + [False] * wrong + [False] * sent)
    needs_review = np.array([False] * (right + wrong) + [True] * sent)
    return promise_figures(PROMISE, needs_review, held)


def test_both_halves_of_the_promise_have_a_verdict() -> None:
    few = outcome(99, 1, 10)
    assert few["review_share_held"] and few["review_share_low"] < few["review_share"] < few["review_share_high"]
    _, said = promise_sentences(few, "the test split")
    assert "The share sent to review: held. 9.1% of 110 texts go there (" in said
    many = outcome(990, 10, 300)
    assert many["held"] and not many["review_share_held"], "right often enough, but at a higher price than promised"
    assert "The share sent to review: not held. 23.1% of 1,300 texts" in promise_sentences(many, "x")[1]
    assert "The share sent to review: not held, though by no more" in promise_sentences(outcome(88, 0, 12), "x")[1]


def test_a_share_that_was_promised_by_few_texts_is_as_uncertain_as_they_are() -> None:
    sent = outcome(82, 0, 18)
    by_validation = {texts: promise_sentences(sent | {"validation_texts": texts}, "x")[1] for texts in (50, 10**6)}
    assert "The share sent to review: not held, though by no more than chance explains." in by_validation[50]
    assert "The share sent to review: not held. " in by_validation[10**6]
    # Of a release that does not say, the share is taken as exact, as it would be of any number of texts.
    older = {name: value for name, value in sent.items() if name != "validation_texts"}
    assert promise_sentences(older, "x")[1] == by_validation[10**6]


@pytest.mark.parametrize(
    ("right", "wrong", "verdict"),
    [(90, 10, ": held."), (89, 11, ": not held, though by no more than chance"), (700, 300, ": not held.")],
)
def test_the_verdict_on_a_promise_is_plain(right: int, wrong: int, verdict: str) -> None:
    promise, said = promise_sentences(outcome(right, wrong, 20), "the test split")
    assert "right for 90.0% of the texts that are not sent to review, and 10.0% of texts go to review" in promise
    assert f"On the test split{verdict}" in said


def test_what_goes_to_review_does_not_count_against_the_promise() -> None:
    figures = outcome(95, 5, 100)
    assert figures["accuracy"] == 0.95
    assert figures["review_share"] == 0.5


def test_a_promise_of_answers_that_were_not_given_is_neither_held_nor_broken() -> None:
    figures = outcome(0, 0, 10)
    assert [figures[name] for name in ("held", "accuracy", "low", "high")] == [None] * 4
    assert promise_sentences(figures, "the test split")[1] == (
        "On the test split: not put to the test, for every text goes to review."
    )


def test_the_curve_ends_at_all_texts_and_the_share_wrong_of_all() -> None:
    kept, wrong = risk_coverage(np.array([0.2, 0.9, 0.5, 0.7]), np.array([False, True, False, True]))
    assert kept.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert wrong.tolist() == pytest.approx([0, 0, 1 / 3, 0.5])


def test_a_release_tells_what_its_promise_and_its_objectives_are_worth(trained_run: Run) -> None:
    figures = trained_run.figures()["evaluate"]
    promise, objectives = figures["review_promise"], figures["objectives"]
    assert promise["answers"] == round(100 * (1 - promise["review_share"]))
    assert promise["held"] == (promise["accuracy"] >= promise["target_accuracy"] if promise["answers"] else None)
    assert list(objectives) == ["default", "precision"]
    assert objectives["precision"]["labels"] <= objectives["default"]["labels"]
    assert objectives["precision"]["precision"] >= objectives["default"]["precision"]
    assert objectives["precision"]["target"] == 0.95
    assert objectives["default"]["weighted_f1"] == pytest.approx(figures["weighted_f1"])
    card = (trained_run.release / "README.md").read_text()
    for sentence in promise_sentences(promise, "the test split"):
        assert sentence in card
