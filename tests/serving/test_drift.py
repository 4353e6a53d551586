"""The window is one for all workers, forgets what is old, and keeps releases apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import make_tiny_release, other_version

from tocsin import EventClassifier, Release, UsageError
from tocsin.drift import Counts, Profile
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin_serving.drift import REFERENCE_VARIABLE, References, Window, no_answers, release_key

TEXTS = ["An airstrike on a town.", "The minister spoke of a town."]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def some(texts: int) -> Counts:
    counts = no_answers(2, 1)
    counts["first_answer"][1] = counts["confidence"][0] = texts
    return counts


def texts_in(window: Window, release: str) -> list[int]:
    found = window.counts(release, no_answers(2, 1))
    assert found["first_answer"].sum() == found["confidence"].sum()
    return [int(texts) for texts in found["first_answer"]]


def test_the_window_holds_what_all_workers_counted(tmp_path: Path) -> None:
    one, other = (Window(tmp_path / "drift.sqlite", seconds=60) for _ in range(2))
    one.add("a", some(2))
    other.add("a", some(3))
    other.add("b", some(7))
    assert texts_in(one, "a") == texts_in(other, "a") == [0, 5, 0]
    assert texts_in(one, "b") == [0, 7, 0]
    assert texts_in(one, "c") == [0, 0, 0]


def test_old_answers_leave_the_window_slot_by_slot(tmp_path: Path) -> None:
    clock = Clock()
    window = Window(tmp_path / "drift.sqlite", seconds=60, clock=clock)
    window.add("a", some(2))
    clock.now += 40
    window.add("a", some(3))
    clock.now += 19
    assert texts_in(window, "a") == [0, 5, 0]
    clock.now += 2
    assert texts_in(window, "a") == [0, 3, 0]
    clock.now += 60
    assert texts_in(window, "a") == [0, 0, 0]


def test_a_thing_is_told_once_by_all_workers(tmp_path: Path) -> None:
    one, other = (Window(tmp_path / "drift.sqlite", seconds=60) for _ in range(2))
    assert [one.first_to_tell("x"), other.first_to_tell("x"), other.first_to_tell("y")] == [True, False, True]


def profiled(release: Path, target: Path, version: str) -> Release:
    """A copy of a release with the profile of its answers to the texts."""
    other_version(release, target, version)
    classifier = EventClassifier.load(target)
    Profile.of(classifier.score_batch(TEXTS)).save(target / LAYOUT.profile)
    write_manifest(target, read_manifest(target))
    return Release.open(target)


def test_the_operators_reference_goes_before_the_releases(tiny_release: Path, tmp_path: Path) -> None:
    release = profiled(tiny_release, tmp_path / "one", "1")
    assert References().of(release) == release.profile
    assert release.profile is not None
    own = release.profile.model_copy(update={"confidence_edges": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)})
    own.save(tmp_path / "own.json")
    references = References.from_environment({REFERENCE_VARIABLE: str(tmp_path / "own.json")})
    assert references.of(release) == own
    assert references.edges(release) == own.confidence_edges


def test_no_reference_is_told_in_words_and_never_made_up(tiny_release: Path, tmp_path: Path) -> None:
    old, new = Release.open(tiny_release), profiled(tiny_release, tmp_path / "new", "1")
    assert References().of(old) is None
    assert "tiny-0 has no profile" in str(References().problem(old))
    assert References().problem(new) is None
    assert References(new.profile).of(old) is None
    assert "is of tiny-1, and tiny-0 is serving" in str(References(new.profile).problem(old))


def test_other_thresholds_make_another_release(tmp_path: Path) -> None:
    folder = make_tiny_release(tmp_path / "one")
    before = release_key(Release.open(folder))
    calibration = Release.open(folder).calibration
    calibration.model_copy(update={"thresholds": (0.4,) * len(calibration.thresholds)}).save(
        folder / "calibration.json"
    )
    write_manifest(folder, read_manifest(folder))
    assert release_key(Release.open(folder)) != before


@pytest.mark.parametrize("content", [None, "{", '{"model_version": "x"}'])
def test_a_reference_that_is_none_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "own.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=rf"{REFERENCE_VARIABLE}: .*own\.json: "):
        References.from_environment({REFERENCE_VARIABLE: str(path)})
