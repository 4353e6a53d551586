from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import make_tiny_release

from tocsin.calibration import Calibration
from tocsin.classifier import EventClassifier
from tocsin.drift import Profile
from tocsin.encoder import Encoder
from tocsin.release import Release
from tocsin_training.calibrate import (
    calibration_gain,
    fit_calibration,
    fit_precision,
    fit_thresholds,
    main,
    too_few_to_promise,
)
from tocsin_training.config import CalibrateSettings, Settings
from tocsin_training.metrics import expected_calibration_error, least_count, top_answers, top_is_right, wilson
from tocsin_training.run import Run

SETTINGS = CalibrateSettings()


def sample(texts: int, labels: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Truth drawn from honest log-odds, and logits that are three times too sure and one too high."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.5, 2.0, size=(texts, labels))
    truth = rng.random((texts, labels)) < 1 / (1 + np.exp(-odds))
    return (3 * odds + 1).astype(np.float32), truth


def all_ece(calibration: Calibration, logits: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    return expected_calibration_error(calibration.probabilities(logits).ravel(), truth.ravel())


def test_calibration_lowers_the_error_on_texts_it_has_not_seen() -> None:
    fitted = fit_calibration(*sample(600, 8, seed=1), SETTINGS)
    logits, truth = sample(4000, 8, seed=2)
    assert all_ece(Calibration.identity(8), logits, truth) > 0.05
    assert all_ece(fitted, logits, truth) < 0.01


def test_what_calibration_gains_is_measured_on_the_labels_that_it_gives() -> None:
    logits, truth = sample(600, 8, seed=1)
    fitted = fit_calibration(logits, truth, SETTINGS)
    gain = calibration_gain(fitted, logits, truth)
    for figure in ("log_loss", "ece"):
        assert gain["calibrated"][figure] < gain["uncalibrated"][figure], "on the very data that it was fitted to"
    given = fitted.decide(fitted.probabilities(logits))
    bare = Calibration.identity(8).probabilities(logits)
    assert gain["uncalibrated"]["ece"] == expected_calibration_error(bare[given], truth[given])


def test_the_honest_scale_and_bias_are_found() -> None:
    fitted = fit_calibration(*sample(3000, 8, seed=1), SETTINGS)
    assert np.allclose(fitted.scale, 1 / 3, atol=0.05)
    assert np.allclose(fitted.bias, -1 / 3, atol=0.3)


def test_a_label_with_few_examples_follows_the_others() -> None:
    logits, truth = sample(600, 8, seed=3)
    # One label's ten true examples happen to have low logits: luck, not a law.
    truth[:, 0] = False
    truth[np.argsort(logits[:, 0])[:10], 0] = True
    fitted = fit_calibration(logits, truth, SETTINGS)
    others = np.array(fitted.scale[1:])
    assert fitted.scale[0] > 0
    assert abs(fitted.thresholds[0] - np.median(fitted.thresholds)) < 0.15
    assert others.std() < 0.1


def test_a_label_with_many_examples_gets_a_threshold_of_its_own() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4000, 3)) < 0.5
    probabilities = np.where(truth, rng.uniform(0.5, 1, truth.shape), rng.uniform(0, 0.5, truth.shape))
    probabilities[:, 2] = np.where(truth[:, 2], rng.uniform(0.8, 1, 4000), rng.uniform(0, 0.8, 4000))
    thresholds = fit_thresholds(probabilities.astype(np.float32), truth, prior=50)
    assert thresholds[:2] == pytest.approx([0.5, 0.5], abs=0.05)
    assert thresholds[2] == pytest.approx(0.8, abs=0.05)


def test_the_review_band_keeps_its_promise_where_it_was_chosen() -> None:
    logits, truth = sample(2000, 6, seed=5)
    fitted = fit_calibration(logits, truth, SETTINGS.model_copy(update={"target_accuracy": 0.9}))
    probabilities = fitted.probabilities(logits)
    kept = fitted.confidence(probabilities) >= fitted.review_below
    right = top_is_right(truth, top_answers(probabilities, fitted.decide(probabilities)))
    assert fitted.review_promise is not None
    assert 0.05 < kept.mean() < 1
    assert right[kept].mean() >= 0.9
    assert right[kept].mean() == pytest.approx(fitted.review_promise.validation_accuracy)
    assert 1 - kept.mean() == pytest.approx(fitted.review_promise.validation_review_share)
    assert right[~kept].mean() < right[kept].mean()


def test_a_promise_by_the_low_end_keeps_less_and_surer_answers() -> None:
    logits, truth = sample(2000, 6, seed=5)
    lines, shares = [], []
    for low_end in (False, True):
        settings = SETTINGS.model_copy(update={"target_accuracy": 0.9, "target_low_end": low_end})
        fitted = fit_calibration(logits, truth, settings)
        probabilities = fitted.probabilities(logits)
        kept = fitted.confidence(probabilities) >= fitted.review_below
        right = top_is_right(truth, top_answers(probabilities, fitted.decide(probabilities)))[kept]
        lines.append(fitted.review_below)
        shares.append(wilson(float(right.mean()), len(right))[0])
    assert lines[1] > lines[0]
    assert shares[0] < 0.9 <= shares[1]


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 0.98, 0.995])
def test_so_few_texts_that_all_would_go_to_review_are_told_and_not_one_more(target: float) -> None:
    least = least_count(target)
    assert wilson(1.0, least - 1)[0] < target <= wilson(1.0, least)[0]
    settings = SETTINGS.model_copy(update={"target_accuracy": target, "target_low_end": True})
    assert too_few_to_promise(least, settings) is None
    told = too_few_to_promise(least - 1, settings)
    assert told is not None and f"it takes {least} such texts" in told
    assert too_few_to_promise(1, settings.model_copy(update={"target_low_end": False})) is None
    for texts, shares in ((least - 1, 1.0), (least, 0.0)):
        # Without a mistake: each text has its own label, far from every doubt.
        truth = np.eye(4, dtype=np.bool_)[np.arange(texts) % 4]
        fitted = fit_calibration(np.where(truth, 9, -9).astype(np.float32), truth, settings)
        assert fitted.review_promise is not None
        assert fitted.review_promise.validation_review_share == shares


def test_text_that_is_not_read_is_no_part_of_the_fit_and_counts_as_sent_to_review() -> None:
    settings = SETTINGS.model_copy(update={"target_accuracy": 0.9})
    logits, truth = sample(2000, 6, seed=5)
    # Foreign text as a corpus has it: no event holds, and the model is sure of that.
    foreign = np.full((500, 6), -20.0, dtype=np.float32)
    readable = np.arange(2500) < 2000
    both = np.concatenate([logits, foreign]), np.concatenate([truth, np.zeros((500, 6), dtype=np.bool_)])
    fitted, alone = fit_calibration(*both, settings, readable=readable), fit_calibration(logits, truth, settings)
    assert (fitted.scale, fitted.thresholds, fitted.review_below) == (alone.scale, alone.thresholds, alone.review_below)
    assert fitted.review_promise is not None and alone.review_promise is not None
    kept = (1 - alone.review_promise.validation_review_share) * 2000
    assert fitted.review_promise.validation_review_share == pytest.approx(1 - kept / 2500)
    assert (fitted.review_promise.validation_texts, alone.review_promise.validation_texts) == (2500, 2000)
    assert fitted.review_promise.validation_accuracy == alone.review_promise.validation_accuracy


def test_a_calibration_of_nothing_that_is_read_sends_everything_to_review() -> None:
    logits, truth = sample(60, 3, seed=5)
    fitted = fit_calibration(logits, truth, SETTINGS, readable=np.zeros(60, dtype=np.bool_))
    assert fitted.review_below == 1.0 and fitted.review_promise is not None
    assert fitted.review_promise.validation_review_share == 1.0


def test_the_promise_is_what_users_meet_on_the_very_texts_it_was_made_on(
    settings: Settings, taxonomy_file: Path, corpus: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (corpus / "validation" / "three.jsonl").read_text().splitlines()]
    for record in lines[:30]:
        record["text"] = f"Les habitants du village ont fêté la fin des récoltes avec leurs voisins, {record['id']}."
    (corpus / "validation" / "three.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    changed = {"runs": tmp_path / "runs", "data": settings.data.model_copy(update={"corpus": corpus})}
    easy = settings.calibrate.model_copy(update={"target_accuracy": 0.05})
    run = Run.create(settings.model_copy(update={**changed, "calibrate": easy}), "promised")
    for folder in (run.release, run.reference):
        make_tiny_release(folder, taxonomy_file=taxonomy_file)
    main(run)
    scores = EventClassifier.load(run.release).score_batch([record["text"] for record in lines])
    promise = Release.open(run.release).calibration.review_promise
    assert promise is not None
    assert 0.3 <= promise.validation_review_share < 1
    assert promise.validation_review_share == pytest.approx(scores.needs_review.mean())


def test_a_promise_that_cannot_be_kept_sends_everything_to_review() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 4)).astype(np.float32)
    truth = np.zeros((200, 4), dtype=np.bool_)
    # Right in every text, and never where the model looks.
    truth[np.arange(200), logits.argmin(axis=1)] = True
    fitted = fit_calibration(logits, truth, SETTINGS)
    assert fitted.review_below == 1.0
    assert all(scale > 0 for scale in fitted.scale)


@pytest.mark.parametrize("value", [False, True])
def test_truth_of_one_kind_only_still_gives_a_calibration(value: bool) -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    fitted = fit_calibration(logits, np.full((20, 3), value), SETTINGS)
    assert fitted.scale == (1.0, 1.0, 1.0)


def test_calibration_is_the_same_every_time() -> None:
    assert fit_calibration(*sample(300, 5, seed=9), SETTINGS) == fit_calibration(*sample(300, 5, seed=9), SETTINGS)


def test_the_precision_objective_reaches_its_target_on_texts_it_has_not_seen() -> None:
    fitted = fit_calibration(*sample(2000, 8, seed=1), SETTINGS)
    logits, truth = sample(4000, 8, seed=2)
    probabilities = fitted.probabilities(logits)
    default, precise = (fitted.decide(probabilities, name) for name in fitted.objective_names)
    assert truth[default].mean() < SETTINGS.target_precision <= truth[precise].mean()
    assert not (precise & ~default).any(), "it gives no label that the default does not"
    order = np.argsort(-probabilities, axis=None)
    held = np.cumsum(truth.ravel()[order]) / np.arange(1, truth.size + 1)
    most = np.flatnonzero(held >= SETTINGS.target_precision)[-1] + 1
    assert precise.sum() > most / 2, "what certainty costs is less than half of what one best line would give"
    assert fitted.objective_targets == {"precision": SETTINGS.target_precision}


def test_a_target_of_nought_makes_no_objective() -> None:
    fitted = fit_calibration(*sample(300, 5, seed=9), SETTINGS.model_copy(update={"target_precision": 0.0}))
    assert fitted.objective_names == ("default",)


def test_a_precision_out_of_reach_takes_the_surest_labels_only(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    probabilities, truth = rng.random((400, 3)).astype(np.float32), rng.random((400, 3)) < 0.5
    thresholds = fit_precision(probabilities, truth, [0.3, 0.3, 0.3], SETTINGS)
    assert all(threshold >= 0.3 for threshold in thresholds)
    assert "no thresholds reach a precision of 0.95" in caplog.text


def test_a_calibrated_release_carries_how_it_answers_the_validation_split(
    settings: Settings, taxonomy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(settings.model_copy(update={"runs": tmp_path}), "calibrated")
    for folder in (run.release, run.reference):
        make_tiny_release(folder, taxonomy_file=taxonomy_file)
    read, encode = list[int](), Encoder.logits

    def counted(self: Encoder, texts: Sequence[str], *more: Any) -> Any:  # noqa: ANN401
        read.append(len(texts))
        return encode(self, texts, *more)

    monkeypatch.setattr(Encoder, "logits", counted)
    main(run)
    assert read == [100], "the encoder reads the split once"
    lines = (settings.data.corpus / "validation" / "three.jsonl").read_text().splitlines()
    classifier = EventClassifier.load(run.release)
    scores = classifier.score_batch([json.loads(line)["text"] for line in lines])
    profile = Release.open(run.release).profile
    assert profile is not None
    assert profile == Profile.of(scores)
    assert 0 < profile.texts <= len(lines)
    assert Release.open(run.reference).profile == profile
