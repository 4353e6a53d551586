"""The commands as users run them: what goes to stdout, and what a mistake looks like."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tocsin.calibration import Calibration
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin_training.cli import _measured_on
from tocsin_training.config import to_toml
from tocsin_training.run import Run


def tocsin(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tocsin.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_train_prints_the_release_folder_and_nothing_else(trained_run: Run, tmp_path: Path) -> None:
    quick = trained_run.settings()
    quick = quick.model_copy(
        update={"runs": tmp_path, "finetune": quick.finetune.model_copy(update={"epochs": 1, "learning_rate": 1e-3})}
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(quick))
    done = tocsin("train", "--config", recipe, "--name", "cli")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert (Path(line) / "manifest.json").is_file()
    assert "--- verify" in done.stderr


def test_evaluate_gives_json_on_stdout(trained_run: Run, tmp_path: Path) -> None:
    done = tocsin(
        "evaluate",
        "--release",
        trained_run.release,
        "--config",
        trained_run.config,
        "--json",
        "--output",
        tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["weighted_f1"] == trained_run.figures()["evaluate"]["weighted_f1"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == figures
    assert (tmp_path / "out" / "confusion_matrix.png").is_file()
    assert "# toy" in (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path / "out") in done.stderr.replace("\n", "")


def test_evaluate_writes_into_a_folder_of_its_own_unless_told_where(trained_run: Run) -> None:
    done = tocsin("evaluate", "--release", trained_run.release, "--config", trained_run.config)
    assert done.returncode == 0, done.stderr
    folder = trained_run.settings().runs / "evaluate" / f"{read_manifest(trained_run.release).release_name}-test"
    assert {path.name for path in folder.iterdir()} == {
        *("metrics.json", "README.md", "confusion_matrix.png"),
        *("reliability.png", "risk_coverage.png", "robustness.png"),
    }


def test_evaluate_refuses_at_once_what_it_could_not_write_or_read_in_the_end(trained_run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    before = (trained_run.release / "README.md").read_bytes()
    for options, said in {
        ("--output", file): "nothing can be written",
        ("--output", file / "in" / "it"): "nothing can be written",
        ("--output", trained_run.release): "release's or a run's own",
        ("--output", trained_run.folder): "release's or a run's own",
        ("--benchmark", tmp_path / "none.tsv"): "cannot be read",
    }.items():
        done = tocsin("evaluate", "--release", trained_run.release, "--config", trained_run.config, *options)
        assert done.returncode != 0 and "Traceback" not in done.stderr
        assert said in " ".join(done.stderr.split()), options
    assert (trained_run.release / "README.md").read_bytes() == before


def test_a_finished_run_is_evaluated_on_real_news_without_training_and_gets_a_new_card(
    run_copy: Run, tmp_path: Path
) -> None:
    case = tmp_path / "case.tsv"
    case.write_text("id\ttext\tsub_type\n1\tThe storm came.\tAIR_STRIKE\n2\tQuiet street.\tDIPLO\n")
    assert "real news snippets" not in (run_copy.release / LAYOUT.card).read_text()
    done = tocsin("train", "--resume", run_copy.folder, "--benchmark", case)
    assert done.returncode == 0, done.stderr
    assert "--- finetune" not in done.stderr and "--- evaluate" in done.stderr
    assert run_copy.settings().data.benchmark == case
    assert read_manifest(run_copy.release).metrics["case2021"]["texts"] == 2
    assert "On 2 real news snippets" in (run_copy.release / LAYOUT.card).read_text()
    # And calibrating it anew forgets nothing of that.
    again = tocsin("calibrate", run_copy.folder)
    assert again.returncode == 0, again.stderr
    assert read_manifest(run_copy.release).metrics["case2021"]["texts"] == 2


def test_a_benchmark_is_measured_whatever_later_stage_is_to_be_run_again(run_copy: Run, tmp_path: Path) -> None:
    case = tmp_path / "case.tsv"
    case.write_text("id\ttext\tsub_type\n1\tThe storm came.\tAIR_STRIKE\n")
    begun = {again_from: _measured_on(run_copy, case, again_from) for again_from in (None, "card", "export")}
    assert begun == {None: "evaluate", "card": "evaluate", "export": "export"}
    assert _measured_on(run_copy, None, "card") == "card"


def test_an_estimate_of_a_run_undoes_none_of_its_stages(run_copy: Run, tmp_path: Path) -> None:
    figures = run_copy.metrics.read_bytes()
    for options in (("--from", "finetune"), ("--benchmark", tmp_path / "case.tsv")):
        done = tocsin("train", "--resume", run_copy.folder, "--estimate", *options)
        assert done.returncode != 0 and "make parts of it anew" in " ".join(done.stderr.split())
    assert run_copy.metrics.read_bytes() == figures


def test_a_benchmark_that_cannot_be_read_costs_no_training_and_is_not_put_into_a_run(
    trained_run: Run, tmp_path: Path
) -> None:
    recipe = trained_run.config.read_text()
    for command in (
        ("train", "--config", trained_run.config),
        ("train", "--resume", trained_run.folder),
        ("calibrate", trained_run.folder),
    ):
        done = tocsin(*command, "--benchmark", tmp_path / "none.tsv")
        assert done.returncode == 1 and "none.tsv: cannot be read" in done.stderr.replace("\n", "")
    assert trained_run.config.read_text() == recipe


def test_promote_puts_the_release_in_its_place(trained_run: Run, tmp_path: Path) -> None:
    done = tocsin("promote", trained_run.folder, "--target", tmp_path / "release")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "release" / "manifest.json").is_file()
    assert done.stdout == "" and "rollback" not in done.stderr  # nothing was there to go back to


def test_a_worse_release_is_refused_forced_and_rolled_back(trained_run: Run, tmp_path: Path) -> None:
    """The challenger never says storm."""
    worse = tmp_path / "worse"
    shutil.copytree(trained_run.release, worse)
    calibration = Calibration.load(worse / LAYOUT.calibration)
    changed = calibration.model_copy(update={"bias": (-1000.0, *calibration.bias[1:])})
    changed.save(worse / LAYOUT.calibration)
    write_manifest(worse, read_manifest(worse))
    place = ("--target", tmp_path / "model" / "release")
    recipe = ("--config", trained_run.config)

    assert tocsin("promote", trained_run.folder, *place).returncode == 0
    refused = tocsin("promote", worse, *place, *recipe)
    assert refused.returncode == 1
    assert "storm: F1" in refused.stderr and "--force" in refused.stderr

    forced = tocsin("promote", worse, *place, *recipe, "--force", "no storms here")
    assert forced.returncode == 0, forced.stderr
    assert f"`tocsin rollback --target {place[1]}` undoes it" in forced.stderr.replace("\n", "")
    told = json.loads(tocsin("info", "--lineage", "--json", "--release", place[1]).stdout)
    assert told["forced"]["reason"] == "no storms here"
    assert told["data"]["records"]["train"] == 320
    assert tocsin("rollback", *place).returncode == 0
    assert {path.name: path.read_bytes() for path in place[1].iterdir()} == {
        path.name: path.read_bytes() for path in trained_run.release.iterdir()
    }


def test_compare_prints_a_verdict_and_writes_a_report(trained_run: Run, tmp_path: Path) -> None:
    arguments = ("compare", trained_run.folder, trained_run.release, "--config", trained_run.config)
    done = tocsin(*arguments, "--report", tmp_path / "out" / "report.html")
    assert done.returncode == 0, done.stderr
    assert "weighted F1" in done.stdout
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_corpus_check_fails_on_a_fault_and_says_where(corpus: Path, taxonomy_file: Path) -> None:
    assert tocsin("corpus", "check", corpus, "--taxonomy", taxonomy_file).returncode == 0
    path = corpus / "test" / "four.jsonl"
    path.write_text(path.read_text() + "{}\n")
    done = tocsin("corpus", "check", corpus, "--taxonomy", taxonomy_file)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{path}:101: schema: ")
    assert "Traceback" not in done.stderr


def test_corpus_coverage_prints_tables(sound_corpus: Path, taxonomy_file: Path) -> None:
    done = tocsin("corpus", "coverage", sound_corpus, "--taxonomy", taxonomy_file)
    assert done.returncode == 0, done.stderr
    for title in ("split", "register", "words", "decade", "region"):
        assert f"records by {title}" in done.stdout


def test_mistakes_are_one_plain_message(tmp_path: Path) -> None:
    for arguments, code in (
        (("train", "--config", tmp_path / "none.toml"), 1),
        (("promote", tmp_path), 1),
        (("promote", tmp_path, "--force", " "), 2),
        (("rollback", "--target", tmp_path / "release"), 1),
        (("compare", tmp_path, "shipped"), 1),
        (("train", "--resume", tmp_path), 2),
        (("train", "--resume", tmp_path, "--search", "3"), 2),
        (("corpus", "check", tmp_path), 1),
    ):
        done = tocsin(*arguments)
        assert done.returncode == code
        assert done.stdout == ""
        assert "error:" in done.stderr
        assert "Traceback" not in done.stderr
