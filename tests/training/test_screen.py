"""The screen loses no more events than the recipe allows, on the texts its threshold comes from and on others."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import EventClassifier
from tocsin.release import LAYOUT, Release
from tocsin_training import screen as stage
from tocsin_training.config import ScreenSettings
from tocsin_training.run import Run
from tocsin_training.screen import fit_screen, found_lost, least_events, settled_by, settled_shares

# A token each for what is told and what is not.
TOLD, NOT_TOLD = 7, 8


def texts(count: int, seed: int, noise: float = 0.1) -> tuple[list[list[int]], np.ndarray]:
    """Token ids with the telling token, now and then the wrong one, and whether each text has an event."""
    random = np.random.default_rng(seed)
    events = random.random(count) < 0.5
    shown = np.where(random.random(count) < noise, ~events, events)
    ids = [[101, *random.integers(1000, 1050, 6).tolist(), TOLD if one else NOT_TOLD, 102] for one in shown]
    return ids, events


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100), st.sampled_from([0.06, 0.1, 0.2]))
def test_no_more_events_are_settled_than_allowed(seed: int, allowed: float) -> None:
    train, events = texts(150, seed)
    validation, held = texts(150, seed + 1)
    truth = np.stack([held, np.zeros_like(held)], axis=1)
    screen = fit_screen(train, events, validation, truth, ScreenSettings(events_lost=allowed, buckets=1024))
    shares = settled_shares(screen.settles(validation), held)
    # With room to spare, for other texts will have more of them below the line.
    assert shares["events_lost"] <= allowed - 1 / held.sum()
    # Laplace: never zero, and about what was seen; only labels that occur have a share in it.
    assert 0 < screen.rates[0] < 1
    assert screen.rates[1] == 0


@pytest.mark.parametrize(("events", "allowed"), [(715, 0.005), (2000, 0.005), (100, 0.1)])
def test_what_is_allowed_holds_for_other_texts_nineteen_times_in_twenty(events: int, allowed: float) -> None:
    """The law that the line is drawn for; at the very share that is allowed it would hold every other time."""
    random = np.random.default_rng(0)
    held, broken = np.ones(events, dtype=np.bool_), 0
    for _ in range(1000):
        # Margins spread evenly, so that the share of all texts below the line is the line itself.
        threshold, _rate = stage._cut(random.random(events), held, allowed)
        broken += threshold > allowed
    assert 0 < broken <= 70


def test_so_many_events_it_takes_and_no_fewer() -> None:
    assert least_events(0.005) == 598
    assert stage._losses(598, 0.005) == 0
    assert stage._losses(597, 0.005) == -1


def test_what_is_plain_is_settled() -> None:
    train, events = texts(200, 1, noise=0.0)
    validation, held = texts(200, 2, noise=0.0)
    screen = fit_screen(train, events, validation, held[:, None], ScreenSettings(events_lost=0.04, buckets=1024))
    assert settled_shares(screen.settles(validation), held) == {"settled": 1.0, "events_lost": 0.0}


def test_a_run_s_release_carries_its_screen(trained_run: Run, test_texts: list[str]) -> None:
    assert LAYOUT.screen in Release.open(trained_run.release).manifest.files
    figures = trained_run.figures()["screen"]
    assert figures["events_lost"] <= trained_run.settings().screen.events_lost
    cascade = EventClassifier.load(trained_run.release, cascade=True).score_batch(test_texts)
    alone = EventClassifier.load(trained_run.release).score_batch(test_texts)
    open_rows = ~cascade.settled
    assert np.array_equal(cascade.probabilities[open_rows], alone.probabilities[open_rows])
    assert not cascade.given[cascade.settled].any()


@pytest.mark.parametrize(
    ("events_lost", "complaint"),
    [(0.0, "screen.events_lost = 0"), (0.005, "takes 598 validation texts .*promise less")],
)
def test_what_cannot_be_promised_is_not_made(
    run_copy: Run, caplog: pytest.LogCaptureFixture, events_lost: float, complaint: str
) -> None:
    settings = run_copy.settings()
    run_copy.change_settings(settings.model_copy(update={"screen": ScreenSettings(events_lost=events_lost)}))
    with caplog.at_level(logging.WARNING):
        stage.main(run_copy)
    assert Release.open(run_copy.release).screen is None
    assert run_copy.figures()["screen"] == {"settled": None}
    assert re.search(complaint, caplog.text)


def test_what_a_screen_settles_is_known_without_the_encoder(trained_run: Run, test_texts: list[str]) -> None:
    texts = [*test_texts, f"{test_texts[0]} " * 20, "\ud800 half a character"]
    cascade = EventClassifier.load(trained_run.release, cascade=True)
    settled = settled_by(cascade.release, texts)
    assert settled.any()
    assert np.array_equal(settled, cascade.score_batch(texts).settled)


def test_the_cost_is_what_the_encoder_would_have_found() -> None:
    events = np.array([True, True, True, True, False])
    settled = np.array([True, True, False, False, True])
    given = np.array([[True, False], [False, False], [True, True], [False, False], [True, False]])
    assert found_lost(settled, given, events) == 0.25
    assert found_lost(settled, given, np.zeros(5, dtype=np.bool_)) == 0


@pytest.mark.parametrize("buckets", [0, 3, 1000])
def test_buckets_are_a_power_of_two(buckets: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        ScreenSettings(buckets=buckets)
