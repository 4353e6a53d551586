"""Stage 6: the exported models answer like the model they came from, or there is no release.

Three comparisons on the test split: PyTorch against the fp32 graph on the same tokens, alone and padded (a graph that
ignores the mask passes the first and fails the second); int8 against fp32 through the library; and what int8 costs in
F1, against fp32 with scales and thresholds of its own: with int8's it would not be the model that int8 stands in for.
A screen that loses more events here than the recipe allows is taken out of the release, which is sound without it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tocsin.calibration import Calibration
from tocsin.classifier import EventClassifier, Scores
from tocsin.encoder import open_session
from tocsin.release import LAYOUT, Release
from tocsin_training.calibrate import calibrate
from tocsin_training.config import Settings, VerifySettings
from tocsin_training.corpus import label_matrix, load_split
from tocsin_training.errors import VerificationError
from tocsin_training.metrics import f1_cost
from tocsin_training.model import EventModel, load_tokenizer, predict_logits
from tocsin_training.run import Run, verified_files, write_json
from tocsin_training.screen import drop_screen, found_lost, settled_by

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)
_PADDED_BATCH = 32


class Verification(BaseModel):
    """What was measured, against what is allowed."""

    model_config = ConfigDict(frozen=True)

    texts: int
    fp32_logit_difference: float
    fp32_padded_logit_difference: float
    int8_probability_difference: float
    int8_f1_cost: float
    int8_f1_cost_low: float | None = None
    """Ends of its 95 % interval; older verdicts have none."""
    int8_f1_cost_high: float | None = None
    screen_events_lost: float | None = None
    """Share of the texts with an event that the screen takes from the encoder, which would have labelled them; none
    without a screen."""
    tolerances: VerifySettings

    @property
    def faults(self) -> tuple[str, ...]:
        """Each tolerance that was exceeded, in words."""
        allowed = self.tolerances
        checks = (
            ("fp32 logits, text by text", self.fp32_logit_difference, allowed.logit_tolerance),
            ("fp32 logits, padded batches", self.fp32_padded_logit_difference, allowed.logit_tolerance),
            ("int8 probabilities, on average", self.int8_probability_difference, allowed.int8_probability_tolerance),
            ("weighted F1 lost to int8", self.int8_f1_cost, allowed.int8_f1_cost),
        )
        # "not <=" and not ">": a NaN is a fault.
        return tuple(f"{what}: {found:.2g}, allowed {limit:.2g}" for what, found, limit in checks if not found <= limit)

    @property
    def passed(self) -> bool:
        """Whether everything is within its tolerance."""
        return not self.faults


def verify(
    *,
    model: Path,
    reference: Path,
    release: Path,
    reference_calibration: Calibration,
    texts: list[str],
    labels: list[list[str]],
    settings: VerifySettings,
    samples: int,
    threads: int,
) -> Verification:
    """Measure a fine-tuned model, its fp32 export and its release against each other.

    :param model: folder of the PyTorch model.
    :param reference: release folder with the fp32 graph.
    :param release: release folder that is to be shipped.
    :param reference_calibration: the fp32 graph's own (``own_calibration``), by which it answers where int8's cost is
        measured. Probabilities are held against each other by the release's.
    :param texts: texts with their true ``labels``; all of them are used.
    :param samples: draws of texts for the interval of int8's cost.
    """
    fp32 = EventClassifier.load(reference, threads=threads)
    int8 = EventClassifier.load(release, threads=threads)
    truth = label_matrix(labels, int8.taxonomy)
    alone, padded = graph_differences(
        EventModel.load(model),
        load_tokenizer(str(model)),
        reference / LAYOUT.model,
        texts,
        max_tokens=int8.release.manifest.window_tokens,
        threads=threads,
    )
    readings = fp32.read(texts)
    expected, found = fp32.answers(readings), int8.score_batch(texts)
    at_its_best = reference_calibration.decide(reference_calibration.probabilities(readings.logits))
    cost = f1_cost(truth, at_its_best & expected.read[:, None], found.given, samples=samples)
    return Verification(
        texts=len(texts),
        fp32_logit_difference=alone,
        fp32_padded_logit_difference=padded,
        int8_probability_difference=float(np.abs(expected.probabilities - found.probabilities).mean()),
        int8_f1_cost=cost.value,
        int8_f1_cost_low=cost.low,
        int8_f1_cost_high=cost.high,
        screen_events_lost=_screen_events_lost(int8.release, texts, found, truth),
        tolerances=settings,
    )


def _screen_events_lost(
    release: Release, texts: Sequence[str], alone: Scores, truth: NDArray[np.bool_]
) -> float | None:
    if release.screen is None:
        return None
    events: NDArray[np.bool_] = np.any(truth, axis=1)
    return found_lost(settled_by(release, texts), alone.given, events)


def _keep_or_drop_screen(run: Run, lost: float | None, allowed: float) -> None:
    if lost is None or lost <= allowed:
        return
    drop_screen(run)
    _log.warning(
        "the screen loses %.2f %% of the test split's events, allowed %.2f %%: the release goes without it and cannot "
        "score with --cascade",
        100 * lost,
        100 * allowed,
    )


def own_calibration(reference: Path, settings: Settings) -> Calibration:
    """That of the fp32 graph by its own answers to the validation split, as the release has its own.

    :param reference: release folder with the fp32 graph.
    """
    validation = load_split(settings.data, "validation")
    fp32 = EventClassifier.load(reference, threads=settings.evaluate.threads)
    return calibrate(fp32, fp32.read(validation["text"]), list(validation["labels"]), settings.calibrate)[0]


def graph_differences(
    model: EventModel,
    tokenizer: PreTrainedTokenizerFast,
    graph: Path,
    texts: Sequence[str],
    *,
    max_tokens: int,
    threads: int = 1,
) -> tuple[float, float]:
    """Greatest absolute difference of logits between PyTorch and an ONNX graph: text by text, and in padded batches.

    The reference is PyTorch text by text in both, so a fault of padding on either side shows.
    """
    session = open_session(graph, threads=threads)
    expected = predict_logits(model, tokenizer, list(texts), max_tokens=max_tokens, batch_size=1).numpy()
    differences = []
    for size in (1, _PADDED_BATCH):
        parts = []
        for start in range(0, len(texts), size):
            tokens = tokenizer(
                list(texts[start : start + size]),
                padding=True,
                truncation=True,
                max_length=max_tokens,
                return_tensors="np",
            )
            feed = {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
            parts.append(session.run(["logits"], feed)[0])
        differences.append(float(np.abs(np.concatenate(parts) - expected).max()))
    return differences[0], differences[1]


def main(run: Run) -> None:
    """Verify a run on its test split and write the verdict.

    :raises VerificationError: a tolerance is exceeded; the message has the figures.
    """
    settings = run.settings()
    test = load_split(settings.data, "test")
    # A verdict of an earlier attempt must not outlive what it was about.
    run.verification.unlink(missing_ok=True)
    verdict = verify(
        model=run.model,
        reference=run.reference,
        release=run.release,
        reference_calibration=own_calibration(run.reference, settings),
        texts=list(test["text"]),
        labels=list(test["labels"]),
        settings=settings.verify,
        samples=settings.evaluate.bootstrap_samples,
        threads=settings.evaluate.threads,
    )
    # Before the hashes of what was verified are taken.
    _keep_or_drop_screen(run, verdict.screen_events_lost, settings.screen.events_lost)
    figures = verdict.model_dump(mode="json") | {"passed": verdict.passed, "faults": list(verdict.faults)}
    figures["files"] = verified_files(run.release)
    write_json(run.verification, figures)
    run.record("verify", figures)
    if not verdict.passed:
        raise VerificationError(f"{run.release}: the export is not faithful:\n" + "\n".join(verdict.faults))
    _log.info(
        "verified on %d texts: fp32 within %.1e, int8 within %.4f on average, costs %.4f F1",
        verdict.texts,
        max(verdict.fp32_logit_difference, verdict.fp32_padded_logit_difference),
        verdict.int8_probability_difference,
        verdict.int8_f1_cost,
    )
