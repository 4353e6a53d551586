"""The tutorial, command by command, as a reader would type it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pytest
from synthetic import ROOT, notes, write_csv

from tocsin.release import LAYOUT, read_manifest
from tocsin_training.config import load_settings, to_toml
from tocsin_training.corpus import load_corpus
from tocsin_training.importing.build import import_corpus
from tocsin_training.importing.options import ImportOptions

DOCUMENT = ROOT / "docs" / "retraining.md"
COMMANDS = [
    line.strip() for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("    tocsin ")
]


def write_tiny_recipes(folder: Path) -> None:
    """The toy recipe, quicker still, under both names that the document uses."""
    tiny = load_settings(ROOT / "training" / "train-tiny.toml")
    quick = tiny.model_copy(
        update={
            "runs": folder / "runs",
            "finetune": tiny.finetune.model_copy(update={"epochs": 2}),
            # Coin tosses: nothing has been learned after two epochs.
            "verify": tiny.verify.model_copy(update={"int8_f1_cost": 1.0, "int8_probability_tolerance": 1.0}),
            "evaluate": tiny.evaluate.model_copy(update={"bootstrap_samples": 20}),
        }
    )
    (folder / "training").mkdir()
    for name in ("train.toml", "train-tiny.toml"):
        (folder / "training" / name).write_text(to_toml(quick), encoding="utf-8")


def write_data(folder: Path) -> None:
    rows = list(notes(160))
    write_csv(folder / "export.csv", rows[:120])
    write_csv(folder / "newest.csv", rows[120:])
    book = openpyxl.Workbook()
    book.active.append(["note", "code"])
    for number, row in enumerate(notes(80, seed=9)):
        book.active.append([row["notes"], "no event" if number % 8 == 0 else row["sub_event_type"]])
    book.save(folder / "coded.xlsx")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command of the document was run, in its order."""
    folder = tmp_path_factory.mktemp("tutorial")
    write_tiny_recipes(folder)
    write_data(folder)
    path = os.pathsep.join(str(ROOT / room) for room in ("model", "training", "serving"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), path)))}
    for command in COMMANDS:
        ran = subprocess.run(
            [sys.executable, "-m", "tocsin.cli.main", *shlex.split(command)[1:]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return folder


def test_every_command_of_the_document_works(done: Path) -> None:
    assert len(COMMANDS) > 10
    assert (done / "names.toml").read_text().startswith("# Check every line")


def test_the_release_tells_what_it_was_trained_on_and_claims_nothing_else(done: Path) -> None:
    manifest = read_manifest(done / "our-release")
    assert manifest.lineage is not None
    data = manifest.lineage.data
    assert [file.name for file in data.files] == ["export.csv"]
    assert data.files[0].rows == 120
    assert (data.licence, data.first) == ("ACLED terms of use, internal only", "2023-01-01")
    assert data.mixed > 0
    assert "+" in manifest.version
    card = (done / "our-release" / LAYOUT.card).read_text(encoding="utf-8")
    assert "export.csv" in card and "ACLED terms of use, internal only" in card
    assert "license: other" in card
    assert "written and labelled by the project" not in card
    assert "not measured" in card


def test_going_back_brings_the_release_before_and_its_lineage(done: Path) -> None:
    lineage = read_manifest(done / "our-release").lineage
    assert lineage is not None
    assert [file.name for file in lineage.data.files] == ["export.csv"]
    latest = sorted((done / "runs").glob("*-next/release"))[-1]
    newer = read_manifest(latest).lineage
    assert newer is not None
    assert [file.name for file in newer.data.files] == ["export.csv", "newest.csv"]


def test_an_imported_corpus_is_read_like_any_other(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", list(notes(100)))
    taxonomy = ROOT / "datasets" / "taxonomy.toml"
    imported = import_corpus([path], tmp_path / "imports", taxonomy, ImportOptions(label_errors=False))
    assert imported.folder is not None
    loaded = load_corpus(imported.folder)
    assert {split: len(loaded[split]) for split in loaded} == imported.report.splits
    assert loaded["train"][0]["origin"].startswith("a.csv:")
