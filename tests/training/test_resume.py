"""A training that was killed goes on, and nothing about it is lost but the work since the last evaluation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from tocsin.cli.main import main
from tocsin.errors import UsageError
from tocsin.release import LAYOUT, sha256
from tocsin_training.config import FinetuneSettings, SearchSettings, Settings, load_settings, to_toml
from tocsin_training.errors import ConfigError
from tocsin_training.experiment import run_until
from tocsin_training.finetune import last_checkpoint
from tocsin_training.model import EventModel
from tocsin_training.pipeline import go_on, train
from tocsin_training.run import Run
from tocsin_training.search import space


def changed(settings: Settings, runs: Path, **finetune: object) -> Settings:
    options = FinetuneSettings.model_validate(settings.finetune.model_dump() | finetune)
    return settings.model_copy(update={"runs": runs, "finetune": options})


def kill_after_checkpoints(recipe: Path, runs: Path, count: int) -> Run:
    """Train in a process of its own and kill it as soon as so many checkpoints were begun."""
    command = [sys.executable, "-m", "tocsin.cli.main", "train", "--config", str(recipe), "--name", "killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        seen: set[str] = set()
        while len(seen) < count:
            assert process.poll() is None, "it ended before it could be killed"
            seen |= {path.name for path in runs.glob("*/checkpoints/checkpoint-*")}
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    (recipe_of_run,) = runs.glob("*/config.toml")
    return Run.open(recipe_of_run.parent)


def test_a_killed_training_that_goes_on_gives_the_model_of_one_that_was_left_alone(
    trained_run: Run, settings: Settings, console: Console, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(changed(settings, tmp_path / "runs")))
    killed = kill_after_checkpoints(recipe, tmp_path / "runs", 3)
    begun = last_checkpoint(killed.checkpoints)
    assert begun is not None
    assert not killed.model.exists()

    run = go_on(killed, console)

    assert "going on from checkpoint-" in run.log.read_text()
    history = [entry["epoch"] for entry in run.figures()["finetune"]["history"] if "eval_macro_f1" in entry]
    assert history == [1, 2, 3, 4, 5, 6, 7, 8]
    first, second = (EventModel.load(each.model).state_dict() for each in (trained_run, run))
    assert all((first[name] == second[name]).all() for name in first)
    assert not run.checkpoints.exists()


def test_a_finished_run_has_nothing_to_go_on_with(run_copy: Run, console: Console) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_copy.release.iterdir()}
    go_on(run_copy, console)
    assert {path: path.stat().st_mtime_ns for path in run_copy.release.iterdir()} == before


def test_a_finished_run_is_exported_again_from_the_model_it_has(run_copy: Run, console: Console) -> None:
    before = {name: sha256(run_copy.release / name) for name in (LAYOUT.model, LAYOUT.calibration, LAYOUT.screen)}
    weights = (run_copy.model / "model.safetensors").stat().st_mtime_ns
    for name in before:
        (run_copy.release / name).write_bytes(b"spoiled")
    go_on(run_copy, console, again_from="export")
    assert {name: sha256(run_copy.release / name) for name in before} == before
    assert (run_copy.model / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize("again_from", [None, "calibrate"])
def test_a_run_does_not_go_on_with_another_corpus_than_it_was_prepared_with(
    run_copy: Run, console: Console, corpus: Path, again_from: str | None
) -> None:
    """Or thresholds would be fitted to, and figures measured on, text that may have been trained on."""
    settings = run_copy.settings()
    path = corpus / "test" / "four.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    run_copy.change_settings(settings.model_copy(update={"data": settings.data.model_copy(update={"corpus": corpus})}))
    minutes = run_copy.figures()["minutes"]
    if again_from is None:
        run_copy.record("minutes", {"prepare": minutes["prepare"], "estimate": minutes["estimate"]})
    figures = run_copy.figures()
    with pytest.raises(UsageError, match="not the corpus that"):
        go_on(run_copy, console, again_from=again_from)
    assert run_copy.figures() == figures
    go_on(run_copy, console, again_from="prepare", until="prepare")
    assert run_copy.figures()["prepare"]["corpus_sha256"] != figures["prepare"]["corpus_sha256"]


def test_a_run_does_not_go_on_with_labels_in_another_order(run_copy: Run, console: Console, tmp_path: Path) -> None:
    """Or every answer would go by a wrong name, and int8 would agree with fp32 about it."""
    settings = run_copy.settings()
    head, *labels = settings.data.taxonomy.read_text().split("[[labels]]")
    other = tmp_path / "other.toml"
    other.write_text("[[labels]]".join([head, *labels[1:], f"{labels[0].rstrip()}\n"]))
    run_copy.change_settings(settings.model_copy(update={"data": settings.data.model_copy(update={"taxonomy": other})}))
    with pytest.raises(UsageError, match="not in the order, that"):
        go_on(run_copy, console, again_from="export")


Stopped = Callable[[Callable[[Settings], object]], Run]


@pytest.fixture
def stopped(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stopped:
    """Makes a training of two epochs, which a full disk stops behind its last step and before it is written down."""

    def stop(begin: Callable[[Settings], object]) -> Run:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
            patch.setattr("tocsin_training.plots.training_curves", Mock(side_effect=OSError("no space left")))
            begin(changed(settings, tmp_path, epochs=2))
        (recipe,) = tmp_path.glob("*/config.toml")
        return Run.open(recipe.parent)

    return stop


def test_a_training_stopped_before_it_was_written_down_is_not_made_again(stopped: Stopped, console: Console) -> None:
    run = go_on(stopped(lambda few: train(few, "full", console, until="finetune")), console, until="finetune")
    assert "going on from checkpoint-" in run.log.read_text()
    assert run.figures()["finetune"]["texts_per_second"] is None, "not a step was left to make"
    assert not run.checkpoints.exists()


def test_an_experiment_that_was_stopped_goes_on_as_a_training_and_no_forecast_costs_its_checkpoints(
    stopped: Stopped, console: Console, tmp_path: Path
) -> None:
    begun = stopped(lambda few: run_until("finetune", few, "part", console))
    asked = go_on(Run(Path(shutil.copytree(begun.folder, tmp_path / "asked"))), console, until="estimate")
    assert asked.figures()["estimate"]["steps"] == 40
    for run in (asked, begun):
        go_on(run, console, until="finetune")
        assert "going on from checkpoint-" in run.log.read_text()
        assert not run.checkpoints.exists()
    assert "estimate" not in begun.figures(), "nobody asked, and its training had begun"


def test_whoever_asks_again_what_a_training_takes_is_told_again(run_copy: Run, console: Console) -> None:
    stages = list(run_copy.figures()["minutes"])
    go_on(run_copy, console, until="estimate")
    assert run_copy.log.read_text().count("fine-tuning: about") == 2
    assert list(run_copy.figures()["minutes"]) == stages


def test_a_run_without_a_forecast_is_begun_again_from_any_stage(run_copy: Run, console: Console) -> None:
    minutes = run_copy.figures()["minutes"]
    del minutes["estimate"]
    run_copy.record("minutes", minutes)
    go_on(run_copy, console, again_from="card")
    assert list(run_copy.figures()["minutes"]) == list(minutes)


def test_a_stage_that_a_run_has_not_come_to_is_not_run_again(run_copy: Run, console: Console) -> None:
    with pytest.raises(UsageError, match="no stage 'sing'; stages are: prepare, estimate"):
        go_on(run_copy, console, again_from="sing")
    run_copy.record("minutes", {"prepare": 0.0, "estimate": 0.0})
    with pytest.raises(UsageError, match="the run has not come to 'export': finetune still to be done"):
        go_on(run_copy, console, again_from="export")


def test_a_checkpoint_that_was_being_written_is_not_gone_on_from(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, state in ((20, "{}"), (100, '{"global_step": 100, "log_his'), (120, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-20"


def test_training_stops_when_it_gets_no_better_and_reports_where_it_was_asked_to(
    settings: Settings, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    trackers = ["tensorboard", "mlflow"]
    eager = changed(settings, tmp_path / "runs", epochs=40, patience=1, learning_rate=1e-9, report_to=trackers)
    run = train(eager, "eager", console, until="finetune")
    epochs = [entry for entry in run.figures()["finetune"]["history"] if "eval_macro_f1" in entry]
    assert len(epochs) < 5
    assert list((run.folder / "tensorboard").rglob("events.out.tfevents.*"))
    with closing(sqlite3.connect(run.folder / "mlflow.db")) as store:
        assert store.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]
        measured = store.execute("SELECT value FROM metrics WHERE key = 'eval_macro_f1' ORDER BY step").fetchall()
        settled = dict(store.execute("SELECT key, value FROM params").fetchall())
    assert [value for (value,) in measured] == pytest.approx([entry["eval_macro_f1"] for entry in epochs])
    assert float(settled["learning_rate"]) == 1e-9
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "nothing is put where the user happens to be"


def test_patience_goes_on_where_a_killed_training_was(settings: Settings, console: Console, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    hopeless = changed(settings, tmp_path / "runs", epochs=40, patience=3, learning_rate=1e-9)
    recipe.write_text(to_toml(hopeless))
    run = go_on(kill_after_checkpoints(recipe, tmp_path / "runs", 3), console, until="finetune")
    epochs = [entry["epoch"] for entry in run.figures()["finetune"]["history"] if "eval_macro_f1" in entry]
    assert epochs == [1, 2, 3, 4], "the first is the best, and three in a row are no better"


def test_a_search_tries_batches_that_all_processes_can_share_out() -> None:
    def sizes(**finetune: int) -> list[int]:
        trial = Mock()
        space(trial, FinetuneSettings.model_validate(finetune))
        return list(trial.suggest_categorical.call_args.args[1])

    assert sizes(batch_size=32, processes=1) == [16, 32, 64]
    assert sizes(batch_size=64, processes=32) == [32, 64]
    assert sizes(batch_size=48, processes=3) == [48]


def test_a_search_puts_its_best_settings_into_the_recipe_and_lacks_no_trial_after_a_stop(
    settings: Settings, console: Console, tmp_path: Path
) -> None:
    searching = changed(settings, tmp_path, epochs=1).model_copy(update={"search": SearchSettings(trials=2)})
    run = train(searching, "search", console, until="search")
    found = run.figures()["search"]
    assert len(found["trials"]) == 2
    assert found["macro_f1"] == max(trial["macro_f1"] for trial in found["trials"])
    assert run.settings().finetune.learning_rate == found["best"]["learning_rate"] != 5e-3
    assert run.settings().data == settings.data

    # As if it had been killed with one trial missing.
    figures = run.figures()
    del figures["minutes"]["search"]
    run.metrics.write_text(json.dumps(figures))
    run.change_settings(searching.model_copy(update={"search": SearchSettings(trials=3)}))
    go_on(run, console, until="search")
    assert [trial["state"] for trial in run.figures()["search"]["trials"]] == ["COMPLETE"] * 3


def test_the_estimate_is_of_the_right_size(trained_run: Run) -> None:
    found = trained_run.figures()["estimate"]
    spent = trained_run.figures()["minutes"]["finetune"]
    assert found["steps"] == 160
    assert found["schedule"] == "8 epochs of 320 texts"
    measured = trained_run.figures()["finetune"]["texts_per_second"]
    assert measured / 10 < found["texts_per_second"] < 10 * measured
    assert f"at {measured:.0f} texts a second with 1 thread:" in trained_run.log.read_text()
    assert found["minutes"] < 10 * spent
    assert spent < 10 * found["minutes"] + 0.5
    assert 1e8 < found["memory_bytes"] < 1e10
    assert found["parameters"] == found["trained_parameters"]


def test_an_estimate_by_itself_keeps_no_run_and_names_no_release(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(changed(settings, tmp_path / "runs")))
    monkeypatch.setattr(sys, "argv", ["tocsin", "train", "--config", str(recipe), "--estimate", "--device", "cpu"])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    said = capsys.readouterr()
    told = " ".join(said.err.split())
    assert "160 steps" in told and "CPU" in told and "no run is kept;" in told
    assert "has no release yet" not in told, "of a folder that is gone"
    assert said.out == "" and "/release" not in told
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["prepared"]


def test_a_preset_goes_over_the_recipe(trained_run: Run) -> None:
    plain, base = load_settings(trained_run.config), load_settings(trained_run.config, preset="base")
    assert base.model.base == "mpnet"
    assert base.finetune.learning_rate != plain.finetune.learning_rate
    assert base.model.max_tokens == plain.model.max_tokens
    with pytest.raises(ConfigError, match="presets are: small, base"):
        load_settings(trained_run.config, preset="huge")


def test_a_tracker_that_is_not_installed_is_refused_before_anything_starts(
    settings: Settings, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"install tocsin\[mlflow\]"):
        train(changed(settings, tmp_path / "runs", report_to=["mlflow"]), "tracked", console)
    with pytest.raises(ConfigError, match=r"install tocsin\[mlflow\]"):
        run_until("finetune", changed(settings, tmp_path / "runs", report_to=["mlflow"]), "tracked", console)
    assert not (tmp_path / "runs").exists()


def test_only_a_run_can_be_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a training run"):
        Run.open(tmp_path)
