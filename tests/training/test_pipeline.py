from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console

from tocsin.classifier import EventClassifier
from tocsin.drift import Profile
from tocsin.errors import UsageError
from tocsin.release import Release
from tocsin_training.cli import calibrate
from tocsin_training.config import CalibrateSettings, Settings, to_toml
from tocsin_training.corpus import SPLITS, learned_records
from tocsin_training.device import multiplies_bf16
from tocsin_training.distil import read_teacher, write_teacher
from tocsin_training.errors import ConfigError, CorpusError
from tocsin_training.model import EventModel
from tocsin_training.pipeline import recalibrate, train
from tocsin_training.run import Run

STAGES = ["prepare", "estimate", "finetune", "export", "calibrate", "screen", "verify", "evaluate", "card"]


def test_a_run_keeps_everything_that_it_made(trained_run: Run) -> None:
    assert list(trained_run.figures()["minutes"]) == STAGES
    assert all(trained_run.figures()[stage] for stage in STAGES if stage != "card")
    assert "done in" in trained_run.log.read_text()
    pictures = {path.name: path.read_bytes()[:4] for path in trained_run.plots.iterdir()}
    drawn = ("training_curves", "confusion_matrix", "reliability", "risk_coverage", "robustness")
    assert pictures == {f"{name}.png": b"\x89PNG" for name in drawn}
    assert not trained_run.checkpoints.exists()


def test_a_run_can_be_repeated_from_its_own_recipe(trained_run: Run, settings: Settings) -> None:
    assert trained_run.settings() == settings


def test_the_manifest_says_where_the_release_comes_from(trained_run: Run) -> None:
    manifest = Release.open(trained_run.release).manifest
    figures = trained_run.figures()
    assert manifest.corpus.sha256 == figures["prepare"]["corpus_sha256"]
    assert (manifest.corpus.records, manifest.corpus.augmented) == (320, 0)
    assert manifest.quantization == "int8-dynamic"
    assert (manifest.window_tokens, manifest.window_overlap) == (32, 8)
    assert manifest.metrics["weighted_f1"] == pytest.approx(figures["evaluate"]["weighted_f1"], abs=1e-4)
    assert {"torch", "transformers", "onnxruntime"} <= set(manifest.versions)


def test_the_manifest_tells_data_code_and_settings_and_no_path(trained_run: Run, settings: Settings) -> None:
    manifest = Release.open(trained_run.release).manifest
    lineage = manifest.lineage
    assert lineage is not None
    assert lineage.data.records == {"train": 320, "validation": 100, "test": 100}
    records = [
        json.loads(line)
        for path in (settings.data.corpus / "train").iterdir()
        for line in path.read_text().splitlines()
    ]
    assert lineage.data.labels["storm"] == sum("storm" in record["labels"] for record in records)
    assert lineage.data.without_event == sum(not record["labels"] for record in records)
    assert (lineage.data.first, lineage.data.last) == ("2020s", "2020s")
    assert lineage.settings["finetune"]["learning_rate"] == 5e-3
    assert str(settings.data.corpus.parent) not in manifest.model_dump_json()


def test_the_release_carries_how_it_answers_the_validation_split(trained_run: Run) -> None:
    release = Release.open(trained_run.release)
    assert release.profile is not None
    lines = (trained_run.settings().data.corpus / "validation" / "three.jsonl").read_text().splitlines()
    classifier = EventClassifier.load(trained_run.release)
    scores = classifier.score_batch([json.loads(line)["text"] for line in lines])
    assert release.profile == Profile.of(scores)
    assert release.profile.texts == sum(language == "en" for language in scores.languages) > 0
    assert "profile.json" in Release.open(trained_run.reference).files


def test_no_pickle_anywhere_in_a_run(trained_run: Run) -> None:
    suffixes = {path.suffix for path in trained_run.folder.rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib"}


def test_the_same_seed_gives_the_same_model(
    trained_run: Run, settings: Settings, console: Console, tmp_path: Path
) -> None:
    again = train(settings.model_copy(update={"runs": tmp_path}), "again", console)
    first, second = (EventModel.load(run.model).state_dict() for run in (trained_run, again))
    assert all((first[name] == second[name]).all() for name in first)
    assert Release.open(again.release).calibration == Release.open(trained_run.release).calibration


def test_a_faulty_corpus_stops_the_run_before_training(
    corpus: Path, settings: Settings, console: Console, tmp_path: Path
) -> None:
    path = corpus / "train" / "one.jsonl"
    record = json.loads(path.read_text().splitlines()[0]) | {"register": "song"}
    path.write_text(json.dumps(record) + "\n")
    faulty = settings.model_copy(
        update={"runs": tmp_path / "runs", "data": settings.data.model_copy(update={"corpus": corpus})}
    )
    with pytest.raises(CorpusError, match=r"one\.jsonl:1: register"):
        train(faulty, "faulty", console)
    (run,) = (path.parent for path in (tmp_path / "runs").glob("*/config.toml"))
    assert "one.jsonl:1: register" in (run / "train.log").read_text()
    assert not (run / "model").exists()


def test_a_run_name_stays_inside_the_runs_folder(settings: Settings, tmp_path: Path) -> None:
    for name in ("../out", "", "a b", ".hidden"):
        with pytest.raises(UsageError, match="run name"):
            Run.create(settings.model_copy(update={"runs": tmp_path}), name)


def test_runs_of_the_same_second_do_not_share_a_folder(settings: Settings, tmp_path: Path) -> None:
    here = settings.model_copy(update={"runs": tmp_path})
    assert len({Run.create(here, "twin").folder for _ in range(3)}) == 3


def test_a_teacher_s_answers_are_matched_by_id_and_text(trained_run: Run, tmp_path: Path) -> None:
    path = tmp_path / "teacher.parquet"
    write_teacher(trained_run.settings(), [trained_run.model], path, max_tokens=32)
    written = pyarrow.parquet.read_table(path).to_pydict()
    assert list(written) == ["id", "text_hash", "logits"]
    settings, ids = trained_run.settings(), written["id"]
    learned = learned_records(settings.data, settings.augment)
    texts = [text for split in SPLITS for text in learned[split]["text"]]
    answers = [list(logits) for logits in written["logits"]]
    assert read_teacher(path, ids[::-1], texts[::-1], 4).tolist() == answers[::-1]
    with pytest.raises(ConfigError, match=f"lacks 1 of {len(ids) + 1} records"):
        read_teacher(path, [*ids, "unheard-of"], [*texts, texts[0]], 4)
    other = [f"{texts[0]} Or was it?", *texts[1:]]
    with pytest.raises(ConfigError, match=f"{ids[0]!r} the first .* leave teacher_logits out"):
        read_teacher(path, ids, other, 4)
    found = read_teacher(path, ids, other, 4, missing_allowed=True)
    assert np.isnan(found[0]).all() and found[1:].tolist() == answers[1:]
    with pytest.raises(ConfigError, match="4 logits"):
        read_teacher(path, ids, texts, 5)
    with pytest.raises(ConfigError, match=r"none\.parquet"):
        read_teacher(tmp_path / "none.parquet", ids, texts, 4)


def test_a_teacher_s_file_that_does_not_tell_its_texts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.parquet"
    pyarrow.parquet.write_table(pa.table({"id": ["a"], "logits": [[0.0, 1.0]]}), path)
    with pytest.raises(ConfigError, match="text_hash"):
        read_teacher(path, ["a"], ["A text."], 2)


def test_a_student_learns_from_a_teacher_alone(trained_run: Run, settings: Settings, tmp_path: Path) -> None:
    from tocsin_training._datasets import load_from_disk
    from tocsin_training.base import resolve_base
    from tocsin_training.finetune import finetune

    path = tmp_path / "teacher.parquet"
    write_teacher(trained_run.settings(), [trained_run.model], path, max_tokens=32)
    options = settings.finetune.model_copy(
        update={"distillation_share": 1.0, "binary_weight": 1.0, "teacher_logits": path}
    )
    student = settings.model_copy(update={"finetune": options})
    base = resolve_base("tiny", scratch=tmp_path / "base")
    found = finetune(load_from_disk(trained_run.prepared), base, student, tmp_path / "model", tmp_path / "checkpoints")
    assert max(entry.get("eval_macro_f1", 0) for entry in found.history) > 0.5


def test_bf16_is_used_only_where_the_cpu_multiplies_it(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("flags : fpu avx512f avx512_bf16 sse")
    assert multiplies_bf16(info)
    info.write_text("flags : fpu avx2 sse")
    assert not multiplies_bf16(info)
    assert not multiplies_bf16(tmp_path / "none")


def test_a_run_is_calibrated_anew_without_training(
    run_copy: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = (run_copy.model / "head.safetensors").read_bytes()
    before = Release.open(run_copy.release)
    wanted = run_copy.settings()
    wanted = wanted.model_copy(
        update={"calibrate": CalibrateSettings(target_accuracy=0.6, target_precision=0.0), "name": "other"}
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(wanted))
    calibrate(str(run_copy.folder), config=recipe, version="0.1.0-strict")
    assert capsys.readouterr().out == f"{run_copy.release}\n"
    after = Release.open(run_copy.release)
    assert after.name == "toy-0.1.0-strict"
    assert after.calibration.review_promise is not None
    assert after.calibration.review_promise.target_accuracy == 0.6
    assert (before.calibration.objective_names, after.calibration.objective_names) == (
        ("default", "precision"),
        ("default",),
    )
    assert list(run_copy.figures()["minutes"]) == STAGES
    assert after.manifest.lineage is not None
    assert after.manifest.lineage.settings["calibrate"]["target_accuracy"] == 0.6
    assert "60.0%" in (run_copy.release / "README.md").read_text()
    assert (run_copy.model / "head.safetensors").read_bytes() == trained


def test_a_run_is_not_calibrated_on_another_corpus_or_without_a_release(
    run_copy: Run, console: Console, corpus: Path
) -> None:
    settings = run_copy.settings()
    path = corpus / "validation" / "three.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    run_copy.change_settings(settings.model_copy(update={"data": settings.data.model_copy(update={"corpus": corpus})}))
    recipe = run_copy.config.read_bytes()
    with pytest.raises(UsageError, match="not the corpus"):
        recalibrate(run_copy, settings, console)
    assert run_copy.config.read_bytes() == recipe
    run_copy.record("minutes", {"prepare": 0.1})
    with pytest.raises(UsageError, match="no exported release"):
        recalibrate(run_copy, settings, console)
