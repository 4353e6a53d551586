"""What docs/taxonomies.md tells people to run: five hazards, none of them ACLED's, from a file of labels to answers.

The corpus is made here and the model is the tiny one, so that its answers are those of keywords.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright
from support import ROOT, assert_same_predictions

from tocsin import EventClassifier, Prediction
from tocsin_training.run import Run

PAGE = (ROOT / "docs" / "taxonomies.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (tocsin .*)$", PAGE, re.MULTILINE)
HAZARDS, RECIPE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
# A model that is trained in seconds, and is what the recipe's defaults are not.
TINY = """
[model]
base = "tiny"
max_tokens = 32
[export]
window_overlap = 8
[finetune]
epochs = 8
batch_size = 16
learning_rate = 5e-3
head_learning_rate_multiple = 3
freeze_word_embeddings = false
threads = 1
[verify]
int8_f1_cost = 0.05
[evaluate]
bootstrap_samples = 50
threads = 1
"""
# Identifier -> how the spreadsheet spells it, and the word that reports it.
SPELLINGS = {
    "flood": "Flood",
    "storm": "storm ",
    "earthquake": "Earthquake",
    "wildfire": "Wild fire",
    "outbreak": "Sick",
}
_WORDS = """
relief trucks clinic district families shelter water road bridge school volunteers assessment team officials morning
evening valley coast hillside market farmers crops boats radio warned moved camp tents blankets supplies helicopter
neighbours teachers mayor council report damage repairs night north south province villages roofs power lines hospital
"""
WORDS = _WORDS.split()
ANSWERED = ["The flood came at night.", "An earthquake, and then a wildfire.", "The mayor opened the market."]


def sentence(rng: random.Random, labels: list[str]) -> str:
    words = rng.sample(WORDS, 10)
    for label in labels:
        words.insert(rng.randrange(len(words)), label)
    return " ".join(words).capitalize() + "."


def record(number: int, batch: str, rng: random.Random) -> dict[str, Any]:
    labels = sorted(rng.sample(sorted(SPELLINGS), rng.choice((0, 1, 1, 2))))
    made: dict[str, Any] = {
        "id": f"{batch}-{number}",
        "text": sentence(rng, labels),
        "labels": labels,
        "register": "sitrep",
        "batch": batch,
        "annotations": {"writer": labels},
    }
    return made if labels else made | {"reason": "background"}


def write_inputs(folder: Path) -> None:
    """What the page takes as given: taxonomy, recipe, corpus, spreadsheet, map, and the examples of the project."""
    rng = random.Random(11)
    for name, size in {"train/field": 400, "validation/desk": 120, "test/radio": 120}.items():
        path = folder / "corpus" / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        records = (record(number, path.stem, rng) for number in range(size))
        path.write_text("".join(json.dumps(one) + "\n" for one in records))
    with (folder / "reports.csv").open("w", newline="") as stream:
        rows = [(text, "") for text in ANSWERED] + [(sentence(rng, [name]), SPELLINGS[name]) for name in SPELLINGS]
        csv.writer(stream).writerows([("text", "hazard"), *rows])
    (folder / "hazards.toml").write_text(HAZARDS)
    (folder / "recipe.toml").write_text(RECIPE + TINY)
    (folder / "map.toml").write_text('[labels]\nwildfire = "wild_fire"\noutbreak = "sick"\n')
    shutil.copytree(ROOT / "datasets" / "taxonomies", folder / "datasets" / "taxonomies")


def tocsin(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "tocsin.cli.main", *shlex.split(command)[1:]]
    return subprocess.run(
        arguments, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every command of the page has been run, in the page's order, but for the server and the download."""
    folder = tmp_path_factory.mktemp("own")
    write_inputs(folder)
    for command in COMMANDS:
        if command.split()[1] not in ("serve", "acled-download"):
            done = tocsin(command, folder)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            (folder / f"{command.split()[1]}.out").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> EventClassifier:
    return EventClassifier.load(folder / "hazards")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Address of the page's server."""
    with served(folder) as address:
        yield address


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of the page's server while it lives."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (command,) = (command for command in COMMANDS if command.startswith("tocsin serve"))
    arguments = [sys.executable, "-m", "tocsin.cli.main", *shlex.split(command)[1:], "--port", str(port)]
    environment = os.environ | {"BENTOML_HOME": str(folder / "bentoml"), "TOCSIN_MAX_WAIT_MS": "60000"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([*arguments, "--workers", "1"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 300
        while not _ready(f"http://127.0.0.1:{port}/readyz"):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def labels(prediction: Prediction) -> set[str]:
    return {event.label for event in prediction.events}


def test_the_five_labels_are_learnt_and_answered_without_acled_s_names(classifier: EventClassifier) -> None:
    flood, two, none = classifier.classify_batch(ANSWERED)
    assert (labels(flood), labels(two), labels(none)) == ({"flood"}, {"earthquake", "wildfire"}, set())
    (event,) = flood.events
    assert (event.name, event.event_type, event.sub_event_type, event.disorder_type) == ("Flood", "Weather", None, None)
    assert {event.event_type for event in two.events} == {"Earthquake", "Wildfire"}
    assert flood.event_type_scores is not None and set(flood.event_type_scores) == {
        "Weather",
        "Earthquake",
        "Wildfire",
        "Disease outbreak",
    }


def test_the_command_line_speaks_the_taxonomy_s_words(folder: Path) -> None:
    shown = (folder / "classify.out").read_text()
    assert "Flood" in shown and "Weather" in shown
    assert "ACLED" not in shown + (folder / "info.out").read_text()
    card = (folder / "hazards" / "README.md").read_text()
    assert "5 labels of the taxonomy that travels with it" in card and "`wildfire` | Wildfire" in card
    assert "sub-event" not in card and "ACLED's codebook" not in card


def test_a_batch_job_gives_the_library_s_answers_and_acled_s_columns_are_refused(
    folder: Path, classifier: EventClassifier
) -> None:
    with (folder / "labelled.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    predictions = classifier.classify_batch([row["text"] for row in rows])
    assert [{event["label"] for event in json.loads(row["events"])} for row in rows] == list(map(labels, predictions))
    assert {row["event_type"] for row in rows} >= {"Weather", "Earthquake"}
    assert {(row["sub_event_type"], row["disorder_type"]) for row in rows} == {("", "")}
    report = (folder / "labelled.html").read_text()
    assert "Wildfire" in report and "Weather" in report

    for extra in ("", " --dry-run"):
        refused = tocsin(f"tocsin score reports.csv acled.csv --release hazards --output-schema acled{extra}", folder)
        assert refused.returncode == 2
        assert "not every label of hazards-en-0.1.0 has ACLED's names" in refused.stderr.replace("\n", " ")
        assert not list(folder.glob("acled.csv*"))


def test_old_answers_go_under_derived_names(folder: Path) -> None:
    with (folder / "renamed.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {event["label"] for event in json.loads(rows[1]["events"])} == {"earthquake", "wild_fire"}
    assert {event["sub_event_type"] for row in rows for event in json.loads(row["events"])} == {None}


def test_the_service_gives_the_library_s_answers(url: str, classifier: EventClassifier) -> None:
    answer = httpx.post(f"{url}/classify", json={"texts": ANSWERED, "scores": True}, timeout=60)
    assert answer.status_code == 200, answer.text
    answered = [Prediction.model_validate(one) for one in answer.json()]
    assert_same_predictions(classifier.classify_batch(ANSWERED), answered)
    document = httpx.post(f"{url}/classify_document", json={"document": " ".join(ANSWERED)}, timeout=60).json()
    assert {event["name"] for event in document["summary"]["events"]} >= {"Flood"}
    taxonomy = httpx.get(f"{url}/taxonomy").json()
    assert [label["label"] for label in taxonomy["labels"]] == list(classifier.taxonomy.names)
    assert taxonomy["event_types"][0] == {"name": "Weather", "aliases": ["meteorological"]}
    assert httpx.get(f"{url}/model").json()["model_version"] == "hazards-en-0.1.0"
    page, schema = httpx.get(f"{url}/").text, httpx.get(f"{url}/docs.json").json()
    assert "ACLED" not in page
    assert "ACLED" not in schema["info"]["description"]


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium browser on the PATH")
def test_the_page_answers_in_the_taxonomy_s_words_in_a_browser(url: str, classifier: EventClassifier) -> None:
    document = "\n\n".join(ANSWERED)
    expected = [event.name for each in classifier.classify_document(document).sentences for event in each.events]
    assert set(expected) == {"Flood", "Earthquake", "Wildfire"}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.get_by_label("Article or report").fill(document)
        page.get_by_role("button", name="Find events").click()
        tags = page.locator("#sentences .tag:not(.note)")
        expect(tags).to_have_count(len(expected), timeout=60_000)
        assert all(name in tag for name, tag in zip(expected, tags.all_inner_texts(), strict=True))
        expect(page.locator("#overview")).to_contain_text("3 sentences, 2 with events")
        assert "ACLED" not in page.locator("body").inner_text()
        browser.close()
    assert complaints == []


def test_the_run_measured_the_labels_of_the_taxonomy(folder: Path) -> None:
    (run,) = (Run(path.parent) for path in (folder / "runs").glob("*/config.toml"))
    assert list(run.figures()["evaluate"]["labels"]) == list(SPELLINGS)
    assert "storm" in (folder / "evaluate.out").read_text()
    assert "weighted F1" in (folder / "compare.out").read_text()


def test_a_benchmark_in_acled_s_terms_is_left_out_and_said(folder: Path) -> None:
    benchmark = folder / "case.tsv"
    benchmark.write_text("text\tsub_type\nRebels shelled a town.\tART_MISS_ATTACK\n")
    done = tocsin("tocsin evaluate --release hazards --config recipe.toml --json --benchmark case.tsv", folder)
    assert done.returncode == 0, done.stderr
    assert "case2021" not in json.loads(done.stdout)
    assert "left out: it asks for ACLED's types" in done.stderr


def test_the_download_of_the_page_asks_for_an_account_first(folder: Path) -> None:
    (command,) = (command for command in COMMANDS if "acled-download" in command)
    refused = tocsin(command, folder, ACLED_EMAIL="", ACLED_PASSWORD="")
    assert refused.returncode == 2
    assert "set ACLED_EMAIL and ACLED_PASSWORD in the environment" in refused.stderr.replace("\n", " ")
