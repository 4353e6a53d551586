from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import make_tiny_release

from tocsin.calibration import Calibration
from tocsin.release import LAYOUT, read_manifest, write_manifest


def tocsin(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tocsin.cli.main", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def release(tiny_release: Path) -> tuple[str, str]:
    return ("--release", str(tiny_release))


def test_json_answers_are_a_line_each_and_nothing_else_on_stdout(release: tuple[str, str]) -> None:
    done = tocsin(
        "classify", "--json", *release, "An airstrike was reported in the town.", "Nothing happened here today."
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [[event["label"] for event in line["events"]] for line in lines] == [["air_drone_strike"], []]
    assert "scores" not in lines[0]


def test_stdin_is_read_line_by_line_and_an_empty_line_is_said(release: tuple[str, str]) -> None:
    done = tocsin("classify", "--json", *release, "-", stdin=b"There was shelling last night.\n\n\xff\xfe odd bytes\n")
    assert len(done.stdout.splitlines()) == 2
    assert b"line 2 is empty" in done.stderr


def test_people_get_a_table(release: tuple[str, str]) -> None:
    done = tocsin("classify", *release, "An airstrike was reported in the town.")
    assert b"Airstrike" in done.stdout and b"Air/drone strike" in done.stdout


def test_text_that_is_not_read_is_not_said_to_be_without_event(
    release: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    told = tocsin("classify", *release, "Le ministre a parlé de la guerre et des attaques.", "123 456").stdout.decode()
    assert "not read: language fr" in told and "not read: language unknown" in told
    assert told.count("please check") == 2
    assert "no event" not in told
    read = tocsin("classify", *release, "The mayor was away on Tuesday.").stdout.decode()
    assert "no event" in read and "not read" not in read


def test_a_document_comes_back_sentence_by_sentence(release: tuple[str, str]) -> None:
    done = tocsin("classify", "--document", "--json", *release, "-", stdin=b"An airstrike hit. All was quiet then.")
    answer = json.loads(done.stdout)
    assert [sentence["text"] for sentence in answer["sentences"]] == ["An airstrike hit.", "All was quiet then."]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("classify", "--release", "/nowhere", "text"), 1, b"no such release folder"),
        (("classify",), 2, b"Missing argument"),
        (("classify", "--scores", "text"), 2, b"add --json"),
        (("info", "--labels", "--lineage"), 2, b"give one of them"),
        (("frobnicate",), 2, b"No such command"),
    ],
)
def test_errors_are_one_plain_message_and_an_exit_code(arguments: tuple[str, ...], code: int, message: bytes) -> None:
    done = tocsin(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_an_empty_text_is_refused(release: tuple[str, str]) -> None:
    done = tocsin("classify", *release, " ")
    assert (done.returncode, b"text 1 is empty" in done.stderr) == (1, True)


def test_info_tells_the_release_and_checks_itself(release: tuple[str, str]) -> None:
    facts = json.loads(tocsin("info", "--json", *release).stdout)
    assert facts["release"] == "tiny-0"
    assert facts["self-check"]["answer"]
    assert facts["self-check"]["unlisted files"] == []
    assert len(facts["labels"]) == 26


def test_info_lists_the_threshold_of_every_label_by_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = make_tiny_release(tmp_path / "tiny")
    calibration = Calibration.load(folder / LAYOUT.calibration)
    objectives = {"precision": tuple(0.6 + index / 100 for index in range(26))}
    calibration.model_copy(update={"objectives": objectives, "objective_targets": {"precision": 0.95}}).save(
        folder / LAYOUT.calibration
    )
    figures = {"armed_clash": {"precision": 0.913, "recall": 0.5, "f1": 0.646, "support": 41}}
    write_manifest(folder, read_manifest(folder).model_copy(update={"metrics": {"labels": figures}}))

    told = json.loads(tocsin("info", "--labels", "--json", "--release", str(folder)).stdout)
    first, second, *_ = told["labels"]
    assert first == {
        "label": "armed_clash",
        "event_type": "Battles",
        "thresholds": {"default": 0.5, "precision": 0.6},
        "test": figures["armed_clash"],
    }
    assert (second["thresholds"]["precision"], second["test"]) == (0.61, None)
    assert len(told["labels"]) == 26 and told["review_below"] == 0.6

    people = tocsin("info", "--labels", "--release", str(folder)).stdout.decode()
    (row,) = (line for line in people.splitlines() if "armed_clash" in line)
    assert row.split() == ["armed_clash", "0.50", "0.60", "0.91", "0.50", "0.65", "41"]
    assert "\nBattles" in re.sub(r"\n +", "\n", people)
    assert "Aim of precision: 95%" in people


def test_labels_without_figures_are_listed_and_that_is_said(release: tuple[str, str]) -> None:
    people = tocsin("info", "--labels", *release).stdout.decode()
    assert "0.50" in people and "no figures by label" in people


def test_info_names_what_lies_beside_a_release(tiny_release: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_release, tmp_path / "copy")
    (folder / "notes.txt").write_text("mine")
    done = tocsin("info", "--release", str(folder))
    assert done.returncode == 0
    assert b"no part of the release, so neither checked nor copied with it: notes.txt" in b" ".join(done.stdout.split())
    assert json.loads(tocsin("info", "--json", "--release", str(folder)).stdout)["self-check"]["unlisted files"] == [
        "notes.txt"
    ]


def test_the_library_and_classify_need_no_heavy_package(release: tuple[str, str]) -> None:
    probe = (
        "import sys; from tocsin.cli.main import app\n"
        "import contextlib\n"
        f"with contextlib.suppress(SystemExit): app(['classify', '--json', *{list(release)!r}, 'An airstrike hit.'])\n"
        "print(sorted({'torch', 'transformers', 'bentoml', 'pyarrow', 'pandas', 'ray'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=60, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_lineage_says_what_an_older_release_did_not_record(release: tuple[str, str]) -> None:
    told = json.loads(tocsin("info", "--lineage", "--json", *release).stdout)
    assert told["data"] == {"sha256": "0" * 64, "records": 0, "augmented": 0}
    assert told["settings"].startswith("not recorded")
    assert len(told["digest"]) == 64
    people = tocsin("info", "--lineage", *release).stdout.decode()
    assert "base model" in people and told["digest"] in people
