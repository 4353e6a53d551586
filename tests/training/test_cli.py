"""The commands as users run them: what goes to stdout, and what a mistake looks like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


def test_promote_puts_the_release_in_its_place(trained_run: Run, tmp_path: Path) -> None:
    done = tocsin("promote", trained_run.folder, "--target", tmp_path / "release")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "release" / "manifest.json").is_file()
    assert done.stdout == ""


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
        (("promote", tmp_path), 2),
        (("corpus", "check", tmp_path), 1),
    ):
        done = tocsin(*arguments)
        assert done.returncode == code
        assert done.stdout == ""
        assert "error:" in done.stderr
        assert "Traceback" not in done.stderr
