"""The tutorial, command by command, as a reader would type it, and the other ways to a release in place."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pytest
from synthetic import AFTER, ROOT, WHERE, WHO, notes, old_layout, write_csv

from tocsin import EventClassifier
from tocsin.calibration import Calibration
from tocsin.cli.main import main
from tocsin.release import LAYOUT, read_manifest, write_manifest
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import load_settings, to_toml
from tocsin_training.corpus import load_corpus
from tocsin_training.importing.build import import_corpus
from tocsin_training.importing.options import ImportOptions

DOCUMENT = ROOT / "docs" / "retraining.md"
COMMANDS = [
    line.strip() for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("    tocsin ")
]
# What Python runs before anything else where it finds it (a module of this name): every attempt to reach a machine, the
# looking up of a name included, is written down and fails. Sockets of the file system have no tuple for an address.
GUARD = """
import os
import sys

def watch(event, arguments):
    sent = event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[1], tuple)
    if sent or event in ("socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["ATTEMPTS"], "a") as file:
            print(sys.argv[:3], event, arguments, file=file)
        raise OSError("the network is closed")

sys.addaudithook(watch)
"""
Rows = list[dict[str, Any]]


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
    write_csv(folder / "old.csv", old_layout(list(notes(400))))
    (names,) = re.findall(r"```toml\n# old-names\.toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "old-names.toml").write_text(names)


def guarded(folder: Path) -> dict[str, str]:
    """An environment in which no Python gets to the network; what tried to is listed in a file `attempts`."""
    guard = folder / "guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(GUARD)
    rooms = (str(ROOT / room) for room in ("model", "training", "serving"))
    path = filter(None, (str(guard), os.environ.get("PYTHONPATH"), *rooms))
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "ATTEMPTS": str(folder / "attempts")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command of the document was run, in its order, without a network."""
    folder = tmp_path_factory.mktemp("tutorial")
    write_tiny_recipes(folder)
    write_data(folder)
    (folder / "datasets").symlink_to(ROOT / "datasets")
    environment = guarded(folder)
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


def test_nothing_of_the_data_leaves_the_machine(done: Path) -> None:
    """No command of the document, with all the processes it starts, so much as looks up a name."""
    assert any(command.startswith("tocsin data") for command in COMMANDS)
    assert any(command.startswith("tocsin train") for command in COMMANDS)
    attempts = done / "attempts"
    assert not attempts.exists(), attempts.read_text()


@pytest.mark.parametrize(
    "reaching",
    [
        "import urllib.request; urllib.request.urlopen('http://localhost:9/')",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import socket; socket.gethostbyname(\"a\")'])",
    ],
)
def test_an_attempt_to_leave_the_machine_is_seen(reaching: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", reaching], env=guarded(tmp_path), capture_output=True, check=False)
    assert "socket." in (tmp_path / "attempts").read_text()


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


# --- every layout, and another taxonomy, from the file to a release in place


@pytest.fixture
def tocsin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in a folder that has the toy recipe, in this process; gives what it printed, or why it failed."""
    write_tiny_recipes(tmp_path)
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    monkeypatch.chdir(tmp_path)

    def run(command: str, *, fails: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", shlex.split(f"tocsin {command}"))
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        assert bool(done.value.code) == fails, f"{command}\n{said.err}"
        return said.err if fails else said.out

    return run


def before_2019(folder: Path, rows: Rows) -> str:
    """Nine types, four of them decided by a person; a workbook."""
    names = {"Riots/Protests": "violent_demonstration", "Remote violence": "air_drone_strike"}
    names |= {"Violence against civilians": "attack", "Strategic development": "looting_property_destruction"}
    lines = [f"{json.dumps(name)} = {json.dumps(label)}\n" for name, label in names.items()]
    (folder / "names.toml").write_text("[labels]\n" + "".join(lines))
    book, cells = openpyxl.Workbook(), old_layout(rows)
    book.active.append(list(cells[0]))
    for row in cells:
        book.active.append(list(row.values()))
    book.save(folder / "export.xlsx")
    return "export.xlsx --names names.toml"


def from_2019_to_2023(folder: Path, rows: Rows) -> str:
    """No disorder type; CSV."""
    cells = [{name: cell for name, cell in row.items() if name != "disorder_type"} for row in rows]
    return write_csv(folder / "export.csv", cells).name


def of_today(folder: Path, rows: Rows) -> str:
    """As the API answers."""
    (folder / "export.json").write_text(json.dumps({"status": 200, "count": len(rows), "data": rows}))
    return "export.json"


@pytest.mark.parametrize(
    ("write", "name", "labels"),
    [(before_2019, "export.xlsx", 5), (from_2019_to_2023, "export.csv", 6), (of_today, "export.json", 6)],
)
def test_every_layout_of_acled_goes_from_the_file_to_a_release_in_place(
    write: Callable[[Path, Rows], str], name: str, labels: int, tocsin: Callable[..., str], tmp_path: Path
) -> None:
    rows = list(notes(120))
    release = tocsin(f"train --config training/train-tiny.toml --data {write(tmp_path, rows)} --no-label-errors")
    tocsin("promote latest --target ours")
    lineage = read_manifest(tmp_path / "ours").lineage
    assert lineage is not None
    (file,) = lineage.data.files
    assert (file.layout, file.name, file.rows) == ("ACLED", name, 120)
    assert sum(lineage.data.records.values()) == 120
    assert (lineage.data.first or "").startswith("2023-01")
    assert sum(texts > 0 for texts in lineage.data.labels.values()) == labels
    answers = [
        EventClassifier.load(folder).classify_batch([row["notes"] for row in rows[:8]])
        for folder in (Path(release.strip()), tmp_path / "ours")
    ]
    assert answers[0] == answers[1]
    if write is of_today:
        worse_is_refused_forced_and_undone(tocsin, tmp_path, [row["notes"] for row in rows])


def worse_is_refused_forced_and_undone(tocsin: Callable[..., str], folder: Path, texts: list[str]) -> None:
    """A release that says armed clash of everything, on text that the one in place answers rightly, all of it."""
    kept, worse = folder / "ours", folder / "worse"
    answers = EventClassifier.load(kept).classify_batch(texts)
    shutil.copytree(kept, worse)
    calibration = Calibration.load(worse / LAYOUT.calibration)
    calibration.model_copy(update={"bias": (1000.0, *calibration.bias[1:])}).save(worse / LAYOUT.calibration)
    write_manifest(worse, read_manifest(worse))
    labels = ["; ".join(event.label for event in answer.events) for answer in answers]
    write_csv(folder / "read.csv", [{"text": text, "labels": own} for text, own in zip(texts, labels, strict=True)])
    refused = tocsin("promote worse --target ours --data read.csv", fails=True)
    assert "first answer right 1 -> " in refused and "--force" in refused
    assert EventClassifier.load(kept).classify_batch(texts) == answers
    tocsin("promote worse --target ours --data read.csv --force 'everything is a clash'")
    forced = read_manifest(kept).forced
    assert forced is not None and forced.reason == "everything is a clash"
    assert EventClassifier.load(kept).classify_batch(texts) != answers
    tocsin("rollback --target ours")
    assert EventClassifier.load(kept).classify_batch(texts) == answers


PLOVER = {
    "AGREE": "promised to sign the accord with",
    "CONSULT": "held talks by telephone with",
    "SUPPORT": "praised and endorsed",
    "CONCEDE": "apologised and pardoned",
    "COOPERATE": "shared intelligence and trained with",
    "AID": "delivered food parcels to",
    "RETREAT": "withdrew troops and freed captives of",
    "REQUEST": "appealed for mediation to",
    "ACCUSE": "blamed and denounced",
    "REJECT": "turned down the offer of",
    "THREATEN": "warned of reprisals against",
    "PROTEST": "marched with banners against",
    "SANCTION": "cut diplomatic ties and embargoed",
    "MOBILIZE": "put the army on alert near",
    "COERCE": "arrested and expelled members of",
    "ASSAULT": "shelled and shot at",
}


CAMEO = {
    "MAKE PUBLIC STATEMENT": "commented in public on the plans of",
    "APPEAL": "appealed for mediation to",
    "EXPRESS INTENT TO COOPERATE": "promised to sign the accord with",
    "CONSULT": "held talks by telephone with",
    "ENGAGE IN DIPLOMATIC COOPERATION": "praised and endorsed",
    "ENGAGE IN MATERIAL COOPERATION": "shared intelligence and trained with",
    "PROVIDE AID": "delivered food parcels to",
    "YIELD": "withdrew troops and freed captives of",
    "INVESTIGATE": "opened an inquiry into the finances of",
    "DEMAND": "insisted on the resignation of",
    "DISAPPROVE": "blamed and denounced",
    "REJECT": "turned down the offer of",
    "THREATEN": "warned of reprisals against",
    "PROTEST": "marched with banners against",
    "EXHIBIT FORCE POSTURE": "put the army on alert near",
    "REDUCE RELATIONS": "cut diplomatic ties and embargoed",
    "COERCE": "arrested and expelled members of",
    "ASSAULT": "abducted and tortured relatives of",
    "FIGHT": "shelled and shot at",
    "USE UNCONVENTIONAL MASS VIOLENCE": "gassed thousands of followers of",
}


def deed(rng: random.Random, done: str) -> str:
    return f"{rng.choice(WHO)} {done} {rng.choice(WHO).lower()} in {rng.choice(WHERE)}. {rng.choice(AFTER)}."


@pytest.mark.parametrize(("name", "deeds"), [("plover", PLOVER), ("cameo-root", CAMEO)])
def test_plover_s_categories_and_cameo_s_roots_are_learned_and_answered_in_every_way(
    name: str, deeds: dict[str, str], tocsin: Callable[..., str], tmp_path: Path
) -> None:
    rng = random.Random(3)
    rows = [{"text": deed(rng, done), "labels": label} for _ in range(40) for label, done in deeds.items()]
    rows += [{"text": deed(rng, "slept beside"), "labels": ""} for _ in range(60)]
    write_csv(tmp_path / "coded.csv", rows)
    recipe = tmp_path / "training" / "train-tiny.toml"
    tiny = load_settings(recipe)
    recipe.write_text(
        to_toml(
            tiny.model_copy(
                update={
                    "model": tiny.model.model_copy(update={"max_tokens": 48}),
                    "finetune": tiny.finetune.model_copy(update={"epochs": 8, "batch_size": 16, "learning_rate": 5e-3}),
                }
            )
        )
    )
    taxonomy = f"datasets/taxonomies/{name}.toml"
    tocsin(f"train --config {recipe} --data coded.csv --taxonomy {taxonomy} --no-near-duplicates --no-label-errors")
    tocsin("promote latest --target ours")

    texts = [deed(rng, done) for done in deeds.values()]
    write_csv(tmp_path / "asked.csv", [{"text": text} for text in texts])
    tocsin("score asked.csv scored.csv --release ours")
    with (tmp_path / "scored.csv").open(newline="", encoding="utf-8") as file:
        scored = list(csv.DictReader(file))
    predictions = EventClassifier.load(tmp_path / "ours").classify_batch(texts)
    given = [[event.label for event in prediction.events] for prediction in predictions]
    assert [[event["label"] for event in json.loads(row["events"])] for row in scored] == given
    known = Taxonomy.load(ROOT / taxonomy)
    right = [labels == [known.find(label).label] for label, labels in zip(deeds, given, strict=True)]
    assert sum(right) >= len(deeds) - 2, list(zip(deeds, given, strict=True))
    parents = {label.label: label.event_type for label in known.labels}
    assert all(event.event_type == parents[event.label] for each in predictions for event in each.events)
    assert {row["sub_event_type"] for row in scored} == {""}
    first = right.index(True)
    wanted = known.find(list(deeds)[first])
    # A table breaks long names over lines.
    assert wanted.name.split()[0] in tocsin(f"classify --release ours {shlex.quote(texts[first])}")
    assert f'"{wanted.label}"' in tocsin(f"classify --json --release ours {shlex.quote(texts[first])}")
