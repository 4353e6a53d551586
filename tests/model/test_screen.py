"""The screen settles what plainly reports nothing, the same in any company, and never gives a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import add_settling_screen, assert_same_predictions, make_tiny_release

from tocsin import EventClassifier, ReleaseError
from tocsin.encoder import Window, unsettled
from tocsin.release import LAYOUT
from tocsin.screen import Screen, ngrams

BUCKETS = 64
IDS = st.lists(st.integers(0, 30_000), min_size=1, max_size=12)
EVENT = "An airstrike was reported in the town on Tuesday."
PLAIN = "The minister opened a new school and thanked the teachers."


def make_screen(*, labels: int = 26, threshold: float = 0.0, bias: float = 0.0) -> Screen:
    weights = np.random.default_rng(0).normal(size=BUCKETS).astype(np.float16).astype(np.float32)
    return Screen(weights, bias, threshold, np.full(labels, 0.001, dtype=np.float32))


@pytest.fixture
def screened_release(tmp_path: Path) -> Path:
    return add_settling_screen(make_tiny_release(tmp_path / "release"))


@settings(deadline=None)
@given(st.lists(IDS, min_size=1, max_size=8))
def test_a_text_s_margin_does_not_depend_on_its_neighbours(texts: list[list[int]]) -> None:
    screen = make_screen()
    alone = [screen.margins([ids])[0] for ids in texts]
    assert screen.margins(texts).tolist() == alone


@settings(deadline=None)
@given(st.lists(IDS, min_size=1, max_size=8))
def test_every_token_counts_once_alone_and_once_with_the_one_before(texts: list[list[int]]) -> None:
    found = ngrams(texts, BUCKETS)
    assert found.counts.tolist() == [2 * len(ids) for ids in texts]
    assert found.counts.sum() == len(found.buckets)
    assert ((found.buckets >= 0) & (found.buckets < BUCKETS)).all()


def test_the_order_of_tokens_matters() -> None:
    screen = make_screen()
    first, second = screen.margins([[5, 6, 7], [7, 6, 5]])
    assert first != second


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    screen = make_screen(threshold=-0.25, bias=0.125)
    screen.save(tmp_path / "screen.npz")
    loaded = Screen.load(tmp_path / "screen.npz", labels=26)
    texts = [[1, 2, 3], [9], [4, 4, 4, 4]]
    assert loaded.margins(texts).tolist() == screen.margins(texts).tolist()
    assert loaded.threshold == screen.threshold
    assert loaded.rates.tolist() == screen.rates.tolist()


def test_the_same_screen_is_saved_to_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_screen().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_screen_of_another_taxonomy_is_refused(tmp_path: Path) -> None:
    make_screen(labels=3).save(tmp_path / "screen.npz")
    with pytest.raises(ReleaseError, match="is for 3 labels, the taxonomy has 26"):
        Screen.load(tmp_path / "screen.npz", labels=26)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04N."])
def test_a_damaged_screen_is_a_plain_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "screen.npz").write_bytes(content)
    with pytest.raises(ReleaseError, match=r"screen\.npz: not a screen"):
        Screen.load(tmp_path / "screen.npz", labels=26)


def test_texts_of_several_windows_are_always_read() -> None:
    everything = make_screen(threshold=np.inf)
    windows = [Window(0, [1, 2]), Window(1, [3, 4]), Window(1, [4, 5]), Window(2, [6])]
    assert [window.text_index for window in unsettled(windows, everything)] == [1, 1]
    assert unsettled(windows, make_screen(threshold=-np.inf)) == windows


def test_without_cascade_a_screen_changes_nothing(screened_release: Path, tiny_classifier: EventClassifier) -> None:
    classifier = EventClassifier.load(screened_release)
    assert_same_predictions(tiny_classifier.classify_batch([EVENT, PLAIN]), classifier.classify_batch([EVENT, PLAIN]))
    assert not classifier.score_batch([EVENT, PLAIN]).settled.any()


def test_a_settled_text_gets_no_label_and_the_rates_as_probabilities(screened_release: Path) -> None:
    cascade = EventClassifier.load(screened_release, cascade=True)
    scores = cascade.score_batch([PLAIN, "x " * 200 + "then shelling began"])
    assert scores.settled.tolist() == [True, False]
    assert not scores.given[0].any()
    assert scores.probabilities[0] == pytest.approx(0.001)
    assert scores.no_event[0] == pytest.approx(0.999**26, abs=1e-6)
    assert scores.truncated.tolist() == [False, True]
    assert scores.given[1].any()


def test_answers_of_a_cascade_say_so(screened_release: Path) -> None:
    cascade = EventClassifier.load(screened_release, cascade=True)
    assert cascade.classify(PLAIN).model_version.endswith("+cascade")
    assert not EventClassifier.load(screened_release).classify(PLAIN).model_version.endswith("+cascade")


def test_a_foreign_text_is_flagged_in_a_cascade_too(screened_release: Path) -> None:
    text = "Le ministre a parlé de la guerre et des négociations avec les autres pays."
    assert EventClassifier.load(screened_release, cascade=True).classify(text).needs_review


def test_a_cascade_needs_a_release_with_a_screen(tiny_release: Path) -> None:
    with pytest.raises(ReleaseError, match=r"has no screen\.npz"):
        EventClassifier.load(tiny_release, cascade=True)


def test_a_screen_that_the_manifest_does_not_list_is_not_used(tmp_path: Path) -> None:
    folder = make_tiny_release(tmp_path / "release")
    make_screen().save(folder / LAYOUT.screen)
    with pytest.raises(ReleaseError, match=r"has no screen\.npz"):
        EventClassifier.load(folder, cascade=True)
