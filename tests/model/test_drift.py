"""Profiles count answers, and the index tells how far two of them are apart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support import make_tiny_release

from tocsin import EventClassifier, Release, ReleaseError
from tocsin.drift import CONFIDENCE_EDGES, Bins, Profile, count, drift, stability_index
from tocsin.release import LAYOUT, read_manifest, write_manifest

STRIKE, LOOTING, NOTHING = (
    "An airstrike on a town.",
    "Looting or property destruction in a town.",
    "The minister spoke of a town.",
)
FOREIGN = "Die Regierung hat am Dienstag beschlossen, die Steuern im kommenden Jahr nicht zu erhöhen."
counts = st.lists(st.integers(0, 10_000), min_size=6, max_size=6).map(np.array)


def profile(classifier: EventClassifier, texts: Sequence[str]) -> Profile:
    return Profile.of(classifier.score_batch(texts))


def test_the_index_of_a_case_worked_by_hand() -> None:
    # Shares 0.5, 0.5 and 0.75, 0.25, each count raised by a half.
    index = stability_index(np.array([99.5, 99.5]), np.array([149.5, 49.5]))
    assert index == pytest.approx(0.25 * math.log(0.75 / 0.5) - 0.25 * math.log(0.25 / 0.5))


@given(counts, counts)
def test_the_index_is_finite_the_same_both_ways_and_zero_for_the_same(one: Bins, other: Bins) -> None:
    index = stability_index(one, other)
    assert 0 <= index + 1e-12 < math.inf
    assert index == pytest.approx(stability_index(other, one))
    assert stability_index(one, one) == 0


def test_chance_alone_makes_what_the_formula_says() -> None:
    rng = np.random.default_rng(1)
    bins, size = 27, 1000
    found = [stability_index(*rng.multinomial(size, np.full(bins, 1 / bins), 2)) for _ in range(300)]
    assert np.mean(found) == pytest.approx((bins - 1) * 2 / size, rel=0.1)
    assert max(found) < 0.25


def test_a_text_counts_once_by_its_first_answer_and_its_confidence(tiny_classifier: EventClassifier) -> None:
    found = profile(tiny_classifier, [STRIKE, STRIKE, LOOTING, NOTHING])
    by_label = dict(zip([*found.labels, None], found.first_answers, strict=True))
    assert by_label["air_drone_strike"] == 2
    assert by_label["looting_property_destruction"] == 1
    assert by_label[None] == 1
    assert found.texts == sum(found.confidence) == 4


def test_confidence_on_an_edge_is_below_it_as_prometheus_has_it(tiny_classifier: EventClassifier) -> None:
    scores = tiny_classifier.score_batch([STRIKE])
    edges = (float(scores.confidence[0]), 0.999999)
    assert count(scores, edges)["confidence"].tolist() == [1, 0, 0]


def test_what_the_model_cannot_read_is_in_no_profile(tiny_classifier: EventClassifier) -> None:
    assert profile(tiny_classifier, [FOREIGN, STRIKE]) == profile(tiny_classifier, [STRIKE])


def test_other_texts_are_far_and_more_of_the_same_are_not(tiny_classifier: EventClassifier) -> None:
    mixed = [STRIKE, LOOTING, NOTHING]
    reference = profile(tiny_classifier, mixed * 100).counts
    same, other = profile(tiny_classifier, mixed * 50).counts, profile(tiny_classifier, [LOOTING] * 150).counts
    assert all(index < 0.05 for index in drift(reference, same).values())
    assert drift(reference, other)["first_answer"] > 0.25


@pytest.mark.parametrize(
    ("field", "value"),
    [("first_answers", [1]), ("confidence", [3]), ("confidence_edges", [0.9] * 8), ("confidence", [0] * 9)],
)
def test_a_profile_that_does_not_add_up_is_refused(
    tiny_classifier: EventClassifier, field: str, value: list[float]
) -> None:
    content = json.loads(profile(tiny_classifier, [STRIKE]).model_dump_json())
    assert Profile.model_validate(content).texts == 1
    assert len(CONFIDENCE_EDGES) == 8
    with pytest.raises(ValidationError, match=field):
        Profile.model_validate(content | {field: value})


def with_profile(folder: Path, changes: dict[str, object]) -> Path:
    """A release that carries its profile, some of whose fields are changed."""
    make_tiny_release(folder)
    content = profile(EventClassifier.load(folder), [STRIKE, NOTHING]).model_dump(mode="json")
    (folder / LAYOUT.profile).write_text(json.dumps(content | changes))
    write_manifest(folder, read_manifest(folder))
    return folder


def test_a_release_carries_its_profile_and_one_without_loads(tiny_release: Path, tmp_path: Path) -> None:
    assert Release.open(tiny_release).profile is None
    release = Release.open(with_profile(tmp_path / "new", {}))
    assert release.profile is not None
    assert release.profile.texts == 2
    assert LAYOUT.profile in release.files


@pytest.mark.parametrize("changes", [{"labels": ["storm"] * 26}, {"first_answers": [1]}, {"confidence": "many"}])
def test_a_profile_that_does_not_fit_its_release_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = with_profile(tmp_path / "new", changes)
    with pytest.raises(ReleaseError, match=LAYOUT.profile):
        Release.open(folder)


def test_a_profile_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = with_profile(tmp_path / "new", {})
    (folder / LAYOUT.profile).write_text("{}")
    with pytest.raises(ReleaseError, match=r"profile\.json: content differs"):
        Release.open(folder)
