"""The shadow reads along, counts, and is never noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from support import assert_same_predictions

from tocsin import EventClassifier, Prediction, ReleaseError, Scores, UsageError
from tocsin_serving.shadow import Labels, Shadow, ShadowSettings

ServingTocsin = Callable[..., AbstractContextManager[str]]
TEXTS = ["An airstrike on a town.", "Looting in a town.", "The minister spoke of a town."]


class Counts:
    """What the shadow told."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Labels, Labels]] = []
        self.dropped_texts = self.failed_texts = 0

    def compared(self, served: Labels, shadow: Labels) -> None:
        self.pairs.append((served, shadow))

    def dropped(self, texts: int) -> None:
        self.dropped_texts += texts

    def failed(self, texts: int) -> None:
        self.failed_texts += texts


class Challenger:
    """Answers like a classifier, once it is let."""

    def __init__(self, classifier: EventClassifier) -> None:
        self._classifier = classifier
        self.allowed = threading.Event()
        self.fails = False

    def score_batch(self, texts: list[str]) -> Scores:
        self.allowed.wait()
        if self.fails:
            raise MemoryError
        return self._classifier.score_batch(texts)


@pytest.fixture
def challenger(tiny_classifier: EventClassifier) -> Challenger:
    return Challenger(tiny_classifier)


def shadow_of(challenger: Challenger, share: float = 1.0) -> tuple[Shadow, Counts]:
    counts = Counts()
    return Shadow(challenger, share=share, tally=counts), counts  # type: ignore[arg-type]


def without(prediction: Prediction, label: str) -> Prediction:
    return prediction.model_copy(update={"events": tuple(e for e in prediction.events if e.label != label)})


def test_every_text_is_compared_with_the_answer_that_was_served(
    challenger: Challenger, tiny_classifier: EventClassifier
) -> None:
    shadow, counts = shadow_of(challenger)
    challenger.allowed.set()
    answers = tiny_classifier.classify_batch(TEXTS)
    shadow.offer(TEXTS, answers)
    shadow.offer(TEXTS[:1], [without(answers[0], "air_drone_strike")])
    shadow.join()
    strike = frozenset({"air_drone_strike"})
    assert counts.pairs[0] == (strike, strike)
    assert counts.pairs[3] == (frozenset(), strike)
    assert len(counts.pairs) == 4


def test_a_slow_shadow_delays_nobody_and_drops_what_it_cannot_take(
    challenger: Challenger, tiny_classifier: EventClassifier
) -> None:
    shadow, counts = shadow_of(challenger)
    answers = tiny_classifier.classify_batch(TEXTS)
    begun = time.monotonic()
    for _ in range(1000):
        shadow.offer(TEXTS, answers)
    assert time.monotonic() - begun < 5
    assert 2700 < counts.dropped_texts < 3000
    challenger.allowed.set()
    shadow.join()
    assert len(counts.pairs) + counts.dropped_texts == 3000


def test_a_shadow_that_fails_is_counted_and_goes_on(challenger: Challenger, tiny_classifier: EventClassifier) -> None:
    shadow, counts = shadow_of(challenger)
    answers = tiny_classifier.classify_batch(TEXTS)
    challenger.fails = True
    challenger.allowed.set()
    shadow.offer(TEXTS, answers)
    shadow.join()
    challenger.fails = False
    shadow.offer(TEXTS, answers)
    shadow.join()
    assert (counts.failed_texts, len(counts.pairs)) == (3, 3)


def test_the_share_is_kept(challenger: Challenger, tiny_classifier: EventClassifier) -> None:
    answers = tiny_classifier.classify_batch(TEXTS)
    challenger.allowed.set()
    for share, low, high in ((0.0, 0, 0), (0.25, 15, 60)):
        shadow, counts = shadow_of(challenger, share)
        for _ in range(50):
            shadow.offer(TEXTS, answers)
        shadow.join()
        assert low <= len(counts.pairs) <= high


def test_settings_are_refused_by_name(tmp_path: Path) -> None:
    assert ShadowSettings.from_environment({}) is None
    assert ShadowSettings.from_environment({"TOCSIN_SHADOW_RELEASE": "x"}) == ShadowSettings("x", 0.1)
    for share in ("2", "-1", "half", "nan"):
        with pytest.raises(UsageError, match="TOCSIN_SHADOW_SHARE"):
            ShadowSettings.from_environment({"TOCSIN_SHADOW_RELEASE": "x", "TOCSIN_SHADOW_SHARE": share})
    with pytest.raises(ReleaseError, match="no such release"):
        Shadow.from_environment({"TOCSIN_SHADOW_RELEASE": str(tmp_path / "none")})


def test_the_service_answers_as_ever_and_counts_agreement(
    serving_tocsin: ServingTocsin, release: Path, tiny_release: Path, classifier: EventClassifier
) -> None:
    shadowed = {"TOCSIN_SHADOW_RELEASE": str(tiny_release), "TOCSIN_SHADOW_SHARE": "1"}
    with serving_tocsin(release, **shadowed) as url:
        answer = httpx.post(f"{url}/classify", json={"texts": TEXTS}, timeout=30).json()
        counted = _wait_for(lambda: _shadow_texts(httpx.get(f"{url}/metrics").text), len(TEXTS))
    assert_same_predictions(classifier.classify_batch(TEXTS), [Prediction.model_validate(one) for one in answer])
    assert counted == len(TEXTS)


def _shadow_texts(metrics: str) -> float:
    """Texts that the keyword model, as the shadow, has compared."""
    lines = [line for line in metrics.splitlines() if line.startswith("tocsin_shadow_texts_total")]
    assert all('shadow="tiny-0"' in line for line in lines)
    return sum(float(line.rpartition(" ")[2]) for line in lines if "agreed" in line or "differed" in line)


def _wait_for(value: Callable[[], float], wanted: float) -> float:
    deadline = time.monotonic() + 30
    while value() < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return value()
