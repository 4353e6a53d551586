"""PyTorch, ONNX fp32 and ONNX int8 give the same answers, or there is no release."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tocsin.classifier import EventClassifier
from tocsin.release import LAYOUT, Manifest, Release, write_manifest
from tocsin_training import verify as stage
from tocsin_training.calibrate import calibrate
from tocsin_training.corpus import load_split
from tocsin_training.errors import VerificationError
from tocsin_training.export import export_graph
from tocsin_training.model import EventModel, load_tokenizer, predict_logits
from tocsin_training.run import Run
from tocsin_training.verify import Verification, graph_differences


def test_pytorch_and_fp32_agree_alone_and_padded(trained_run: Run, test_texts: list[str]) -> None:
    model, tokenizer = EventModel.load(trained_run.model), load_tokenizer(str(trained_run.model))
    graph = trained_run.reference / LAYOUT.model
    differences = graph_differences(model, tokenizer, graph, test_texts, max_tokens=32)
    assert max(differences) <= 1e-4


def test_the_library_reads_the_same_logits_as_pytorch(trained_run: Run, test_texts: list[str]) -> None:
    model, tokenizer = EventModel.load(trained_run.model), load_tokenizer(str(trained_run.model))
    expected = predict_logits(model, tokenizer, test_texts, max_tokens=32, batch_size=1).numpy()
    found = EventClassifier.load(trained_run.reference).logits(test_texts)
    assert np.abs(expected - found).max() <= 1e-4


def test_padding_changes_nothing_in_pytorch(trained_run: Run, test_texts: list[str]) -> None:
    model, tokenizer = EventModel.load(trained_run.model), load_tokenizer(str(trained_run.model))
    texts = ["Storm.", *test_texts[:20]]
    alone, padded = (predict_logits(model, tokenizer, texts, max_tokens=32, batch_size=size) for size in (1, 32))
    assert (alone - padded).abs().max() <= 1e-5


def test_int8_gives_the_labels_of_fp32(trained_run: Run, test_texts: list[str]) -> None:
    fp32, int8 = (
        EventClassifier.load(folder).score_batch(test_texts) for folder in (trained_run.reference, trained_run.release)
    )
    assert (
        np.abs(fp32.probabilities - int8.probabilities).mean()
        <= trained_run.settings().verify.int8_probability_tolerance
    )
    assert (fp32.given == int8.given).mean() > 0.98


def test_the_toy_model_has_learned_something(trained_run: Run) -> None:
    """Or all the agreement above would be between two models that never answer."""
    assert trained_run.figures()["evaluate"]["weighted_f1"] > 0.6


def test_a_sound_run_passes_with_its_figures(trained_run: Run) -> None:
    verdict = json.loads(trained_run.verification.read_text())
    assert verdict["passed"] is True
    assert verdict["faults"] == []
    assert 0 <= verdict["fp32_logit_difference"] <= 1e-4
    assert 0 < verdict["int8_probability_difference"] <= 0.02


def damage(folder: Path) -> None:
    """Scale the classification head and mend the manifest, so that only the answers show it."""
    path = folder / LAYOUT.model
    graph = onnx.load(path)
    weights = next(w for w in graph.graph.initializer if list(w.dims) == [4])
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) + np.float32(9), weights.name))
    onnx.save(graph, path)
    write_manifest(folder, Manifest.model_validate_json((folder / LAYOUT.manifest).read_bytes()))
    Release.open(folder)


@pytest.mark.parametrize(("part", "complaint"), [("reference", "fp32 logits"), ("release", "int8 probabilities")])
def test_a_damaged_export_is_refused_with_figures(run_copy: Run, part: str, complaint: str) -> None:
    damage(getattr(run_copy, part))
    with pytest.raises(VerificationError, match=rf"{complaint}.*: [\d.]+.*, allowed"):
        stage.main(run_copy)
    assert json.loads(run_copy.verification.read_text())["passed"] is False


def test_a_screen_that_breaks_its_promise_is_left_out_of_the_release(
    run_copy: Run, caplog: pytest.LogCaptureFixture
) -> None:
    loose = replace(Release.open(run_copy.release).require_screen(), threshold=np.inf)
    run_copy.amend(lambda folder: loose.save(folder / LAYOUT.screen))
    with caplog.at_level(logging.WARNING):
        stage.main(run_copy)
    verdict = json.loads(run_copy.verification.read_text())
    assert verdict["passed"] is True
    assert verdict["screen_events_lost"] > run_copy.settings().screen.events_lost
    assert Release.open(run_copy.release).screen is None
    assert LAYOUT.screen not in verdict["files"]
    assert "cannot score with --cascade" in caplog.text


def test_the_verdict_is_on_the_screen_too(trained_run: Run) -> None:
    verdict = json.loads(trained_run.verification.read_text())
    assert 0 <= verdict["screen_events_lost"] <= trained_run.settings().screen.events_lost
    assert LAYOUT.screen in verdict["files"]


def test_an_export_traced_without_padding_is_caught(
    trained_run: Run, test_texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault this stage was built for: right for every text alone, wrong for padded batches."""
    model, tokenizer = EventModel.load(trained_run.model), load_tokenizer(str(trained_run.model))
    monkeypatch.setattr(
        model.encoder, "forward", lambda input_ids, attention_mask, _f=model.encoder.forward: _f(input_ids=input_ids)
    )
    graph = tmp_path / "blind.onnx"
    export_graph(model, tokenizer, graph)
    monkeypatch.undo()
    texts = ["Storm.", *test_texts[:31]]
    alone, padded = graph_differences(model, tokenizer, graph, texts, max_tokens=32)
    assert alone <= 1e-4 < padded


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_each_tolerance_is_kept_and_nan_is_a_fault(trained_run: Run, value: float) -> None:
    verdict = json.loads(trained_run.verification.read_text())
    sound = Verification.model_validate({k: v for k, v in verdict.items() if k in Verification.model_fields})
    assert sound.passed
    for field in (
        "fp32_logit_difference",
        "fp32_padded_logit_difference",
        "int8_probability_difference",
        "int8_f1_cost",
    ):
        assert len(sound.model_copy(update={field: value}).faults) == 1


def test_calibration_is_that_of_the_release_in_both_folders(trained_run: Run) -> None:
    contents = {(folder / LAYOUT.calibration).read_bytes() for folder in (trained_run.release, trained_run.reference)}
    assert len(contents) == 1
    assert Release.open(trained_run.release).calibration.review_promise is not None


def test_what_int8_costs_is_held_against_fp32_at_its_best(trained_run: Run, test_texts: list[str]) -> None:
    settings = trained_run.settings()
    own = stage.own_calibration(trained_run.reference, settings)
    validation = load_split(settings.data, "validation")
    fp32 = EventClassifier.load(trained_run.reference)
    fitted, _ = calibrate(fp32, fp32.read(validation["text"]), list(validation["labels"]), settings.calibrate)
    assert own == fitted != Release.open(trained_run.reference).calibration
    # Thresholds that give nothing: int8 then wins as much as its whole F1, whatever its twin's folder holds.
    silent = own.model_copy(update={"bias": (-99.0,) * len(own.bias)})
    test = load_split(settings.data, "test")
    verdict = stage.verify(
        model=trained_run.model,
        reference=trained_run.reference,
        release=trained_run.release,
        reference_calibration=silent,
        texts=test_texts,
        labels=list(test["labels"]),
        settings=settings.verify,
        samples=10,
        threads=1,
    )
    assert verdict.int8_f1_cost == pytest.approx(-trained_run.figures()["evaluate"]["weighted_f1"])
    assert verdict.int8_f1_cost_low is not None and verdict.int8_f1_cost_high is not None
    assert verdict.int8_f1_cost_low <= verdict.int8_f1_cost <= verdict.int8_f1_cost_high
    assert 0 < verdict.int8_probability_difference <= settings.verify.int8_probability_tolerance * 2


def test_a_release_does_not_depend_on_its_run(trained_run: Run, test_texts: list[str], tmp_path: Path) -> None:
    moved = Path(shutil.copytree(trained_run.release, tmp_path / "elsewhere"))
    here, there = (EventClassifier.load(folder).score_batch(test_texts) for folder in (trained_run.release, moved))
    assert np.array_equal(here.probabilities, there.probabilities)
    text = "".join(path.read_text() for path in moved.iterdir() if path.suffix in {".json", ".md", ".toml"})
    assert str(trained_run.folder) not in text
    assert str(trained_run.settings().data.corpus) not in text
