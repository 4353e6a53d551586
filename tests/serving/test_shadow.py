"""The shadow reads along, counts, and is never noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support import assert_same_predictions, other_version

from tocsin import EventClassifier, Prediction, ReleaseError, Scores, UsageError
from tocsin.calibration import Calibration
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin_serving.shadow import Labels, PrometheusTally, Shadow, ShadowSettings

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


def test_the_service_answers_as_ever_and_counts_how_the_shadow_would_have_answered(
    serving_tocsin: ServingTocsin, tiny_release: Path, tiny_classifier: EventClassifier, tmp_path: Path
) -> None:
    """The shadow never says airstrike, and says looting where one of its name's words stands."""
    challenger = other_version(tiny_release, tmp_path / "challenger", "9")
    calibration = Calibration.load(challenger / LAYOUT.calibration)
    changed = {"air_drone_strike": 0.999, "looting_property_destruction": 0.1}
    thresholds = zip(tiny_classifier.taxonomy.names, calibration.thresholds, strict=True)
    calibration.model_copy(update={"thresholds": tuple(changed.get(name, old) for name, old in thresholds)}).save(
        challenger / LAYOUT.calibration
    )
    write_manifest(challenger, read_manifest(challenger))
    shadowed = {"TOCSIN_SHADOW_RELEASE": str(challenger), "TOCSIN_SHADOW_SHARE": "1"}
    with serving_tocsin(tiny_release, **shadowed) as url:
        answer = httpx.post(f"{url}/classify", json={"texts": TEXTS}, timeout=30).json()
        _wait_for(lambda: sum(shadow_counts(httpx.get(f"{url}/metrics").text, "tiny-9")[0].values()), len(TEXTS))
        counted = shadow_counts(httpx.get(f"{url}/metrics").text, "tiny-9")
    assert_same_predictions(tiny_classifier.classify_batch(TEXTS), [Prediction.model_validate(one) for one in answer])
    assert counted == (
        {"agreed": 1, "differed": 2},
        {("air_drone_strike", "lost"): 1, ("looting_property_destruction", "gained"): 1},
    )


def test_every_outcome_has_a_counter_of_its_own() -> None:
    tally = PrometheusTally("tiny-8")
    for served, shadow in ((["a"], ["a"]), ([], []), (["a", "b"], ["a", "c"]), ([], ["c"]), (["b"], [])):
        tally.compared(frozenset(served), frozenset(shadow))
    tally.dropped(7)
    tally.failed(2)
    assert shadow_counts(generate_latest().decode(), "tiny-8") == (
        {"agreed": 2, "differed": 3, "dropped": 7, "failed": 2},
        {("b", "lost"): 2, ("c", "gained"): 2},
    )


def shadow_counts(metrics: str, shadow: str) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Outcome -> texts, and label and direction -> texts, as /metrics tells them of a shadow."""
    texts, labels = dict[str, float](), dict[tuple[str, str], float]()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.labels.get("shadow") != shadow:
                continue
            if sample.name == "tocsin_shadow_texts_total":
                texts[sample.labels["outcome"]] = sample.value
            elif sample.name == "tocsin_shadow_label_differences_total":
                labels[sample.labels["label"], sample.labels["direction"]] = sample.value
    return texts, labels


def _wait_for(value: Callable[[], float], wanted: float) -> float:
    deadline = time.monotonic() + 30
    while value() < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return value()
