from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tocsin.taxonomy import Taxonomy
from tocsin_training import balance
from tocsin_training.balance import Minima, Row, check_balance
from tocsin_training.cli import corpus_balance
from tocsin_training.corpus import REASONS, SPLITS, Line, Record
from tocsin_training.errors import CorpusError

NOTHING = Minima(
    records=0, in_test=0, with_several_labels=0, with_no_label=0, pairs=0, countries=0, per_label=0, per_reason=0
)


@pytest.fixture
def taxonomy(taxonomy_file: Path) -> Taxonomy:
    return Taxonomy.load(taxonomy_file)


def line(split: str, labels: list[str], **more: object) -> Line:
    fields = {"id": "b-1", "text": "Text.", "labels": labels, "register": "wire", "batch": "b"}
    record = Record.model_validate(fields | {"annotations": {"writer": labels}} | more)
    return Line(record, split, Path("b.jsonl"), 1)


LINES = [
    line("train", ["storm"], pair="p1", country="KEN"),
    line("train", ["storm", "frost"], pair="p1", country="KEN"),
    line("validation", ["storm"], pair="p2", country="PER"),
    line("test", [], reason="sport", country="XXX"),
    line("test", [], reason="drill"),
]


def there(lines: list[Line], taxonomy: Taxonomy) -> dict[str, int]:
    return {row.name: row.there for row in check_balance(lines, taxonomy)}


def test_labels_and_reasons_are_counted_over_all_splits(taxonomy: Taxonomy) -> None:
    found = there(LINES, taxonomy)
    assert [found[label] for label in ("storm", "frost", "wheat", "apple")] == [3, 1, 0, 0]
    assert {name: number for name, number in found.items() if name.startswith("none: ") and number} == {
        "none: sport": 1,
        "none: drill": 1,
    }
    assert there([line(split, ["apple"]) for split in SPLITS], taxonomy)["apple"] == 3


def test_a_pair_has_two_halves_and_nowhere_is_no_country(taxonomy: Taxonomy) -> None:
    found = there(LINES, taxonomy)
    overall = ("records", "in test", "with several labels", "with no label", "pairs", "countries")
    assert {name: found[name] for name in overall} == {
        "records": 5,
        "in test": 2,
        "with several labels": 1,
        "with no label": 2,
        "pairs": 1,
        "countries": 2,
    }


def test_a_pair_whose_halves_have_the_same_labels_is_none(taxonomy: Taxonomy) -> None:
    halves = [line("train", ["storm", "frost"], pair="p1"), line("train", ["frost", "storm"], pair="p1")]
    assert there(halves, taxonomy)["pairs"] == 0
    assert there([line("train", [], pair="p1", reason=reason) for reason in ("sport", "drill")], taxonomy)["pairs"] == 0


def test_every_label_and_every_reason_is_wanted_even_if_there_is_none(taxonomy: Taxonomy) -> None:
    rows = check_balance([], taxonomy)
    assert len(rows) == 6 + len(taxonomy.names) + len(REASONS)
    assert all(row.there == 0 and row.missed for row in rows)


def test_each_minimum_is_held_against_its_own_count(taxonomy: Taxonomy) -> None:
    minima = Minima(
        records=1, in_test=2, with_several_labels=3, with_no_label=4, pairs=5, countries=6, per_label=7, per_reason=8
    )
    wanted = [row.wanted for row in check_balance(LINES, taxonomy, minima)]
    assert wanted == [1, 2, 3, 4, 5, 6, *[7] * len(taxonomy.names), *[8] * len(REASONS)]


def test_a_minimum_is_met_by_just_so_many() -> None:
    assert not Row("storm", there=450, wanted=450).missed
    assert Row("storm", there=449, wanted=450).missed


def test_the_command_passes_when_nothing_is_missed(
    sound_corpus: Path, taxonomy_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(balance, "check_balance", lambda lines, taxonomy: check_balance(lines, taxonomy, NOTHING))
    corpus_balance(sound_corpus, taxonomy_file, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == {"name": "records", "there": 520, "wanted": 0, "missed": False}


def test_the_command_names_what_is_missed_and_by_how_much(
    sound_corpus: Path, taxonomy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CorpusError, match=r"too few of: records, in test, .*apple, none: accident"):
        corpus_balance(sound_corpus, taxonomy_file)
    (records,) = (row for row in capsys.readouterr().out.splitlines() if "│ records " in row)
    assert records.replace("│", " ").split() == ["records", "520", "20000", "19480"]


def test_a_missed_minimum_is_exit_code_1_and_json_stays_alone_on_stdout(
    sound_corpus: Path, taxonomy_file: Path
) -> None:
    arguments = ("corpus", "balance", str(sound_corpus), "--taxonomy", str(taxonomy_file), "--json")
    command = [sys.executable, "-m", "tocsin.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)[0] == {"name": "records", "there": 520, "wanted": 20_000, "missed": True}
    assert "too few of: records" in done.stderr
    assert "Traceback" not in done.stderr
