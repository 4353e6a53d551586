"""Taxonomies made from the labels in data, and the examples that are kept beside the project's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, TAXONOMY

from tocsin.cli.main import main
from tocsin.errors import InputError, TaxonomyError
from tocsin.taxonomy import Taxonomy, fold
from tocsin_training.taxonomies import count_labels, derive_taxonomy, summary, to_toml, write_taxonomy

EXAMPLES = ROOT / "datasets" / "taxonomies"
SPELLINGS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(fold)


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["tocsin", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_spellings_that_differ_in_case_and_punctuation_are_one_label_under_the_commonest() -> None:
    taxonomy = derive_taxonomy({"flash flood": 2, "Flash Flood": 7, "FLASH-FLOOD ": 1, "Storm": 1, "never": 0})
    assert [(label.label, label.name) for label in taxonomy.labels] == [
        ("flash_flood", "Flash Flood"),
        ("storm", "Storm"),
    ]
    assert [parent.name for parent in taxonomy.event_types] == ["Flash Flood", "Storm"]


@pytest.mark.parametrize(
    ("spelling", "identifier"),
    [
        ("Flash flood!", "flash_flood"),
        ("Überfall", "uberfall"),
        ("наводнение", "navodnenie"),
        ("洪水", "hongshui"),
        ("2nd strike", "label_2nd_strike"),
        ("x" * 100, "x" * 64),
    ],
)
def test_any_spelling_gives_a_clean_identifier_and_keeps_its_name(spelling: str, identifier: str) -> None:
    (label,) = derive_taxonomy({spelling: 1}).labels
    assert (label.label, label.name) == (identifier, spelling)


def test_labels_that_look_alike_in_ascii_stay_apart() -> None:
    taxonomy = derive_taxonomy({"Uberfall": 1, "Überfall": 1, "Uberfall 2": 1})
    assert len(set(taxonomy.names)) == 3
    assert all(taxonomy.find(name).name == name for name in ("Uberfall", "Überfall", "Uberfall 2"))


def test_labels_stand_under_a_parent_only_where_they_say_so() -> None:
    taxonomy = derive_taxonomy(
        {
            "Weather > Hail": 3,
            "weather / Storm": 1,
            "Fire > Other": 1,
            "Weather > Other": 2,
            "Weather": 1,
            "Air/ground": 1,
        }
    )
    assert {label.label: label.event_type for label in taxonomy.labels} == {
        "hail": "Weather",
        "storm": "Weather",
        "weather_other": "Weather",
        "weather": "Weather",
        "fire_other": "Fire",
        "air_ground": "Air/ground",
    }
    assert taxonomy.find("Weather > Hail").label == "hail"
    assert taxonomy.find("fire / other").name == "Fire: Other"


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(SPELLINGS, st.integers(1, 9), min_size=1, max_size=6), st.randoms())
def test_every_label_of_the_data_is_found_and_their_order_is_no_difference(
    counts: dict[str, int], random: Random
) -> None:
    taxonomy = derive_taxonomy(counts)
    assert all(taxonomy.find(spelling) for spelling in counts)
    shuffled = list(counts.items())
    random.shuffle(shuffled)
    assert derive_taxonomy(dict(shuffled)) == taxonomy


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(SPELLINGS, st.just(1), min_size=1, max_size=6))
def test_a_written_taxonomy_is_read_back_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]
) -> None:
    path = tmp_path_factory.mktemp("written") / "taxonomy.toml"
    write_taxonomy(derive_taxonomy(counts), path, header="# By hand.\n")
    assert Taxonomy.load(path) == derive_taxonomy(counts)


@pytest.mark.parametrize("path", [TAXONOMY, *sorted(EXAMPLES.glob("*.toml"))], ids=lambda path: path.stem)
def test_every_kept_taxonomy_is_sound_and_survives_writing(path: Path, tmp_path: Path) -> None:
    taxonomy = Taxonomy.load(path)
    write_taxonomy(taxonomy, tmp_path / "copy.toml")
    assert Taxonomy.load(tmp_path / "copy.toml") == taxonomy


def test_plover_has_its_sixteen_categories_in_four_groups_and_cameo_its_twenty_roots() -> None:
    plover, cameo = (Taxonomy.load(EXAMPLES / f"{name}.toml") for name in ("plover", "cameo-root"))
    assert (len(plover.labels), len(plover.event_types)) == (16, 4)
    assert [cameo.index(cameo.find(f"{code:02}").label) for code in range(1, 21)] == list(range(20))
    assert cameo.find("8") == cameo.find("08")
    assert summary(cameo) == "20 labels under 20 event types, none with ACLED's names"


@pytest.mark.parametrize("counts", [{}, {"flood": 0}])
def test_no_label_makes_no_taxonomy(counts: dict[str, int]) -> None:
    with pytest.raises(TaxonomyError, match="no label to make a taxonomy of"):
        derive_taxonomy(counts)


def test_a_label_without_letter_or_digit_is_named() -> None:
    with pytest.raises(TaxonomyError, match="'--' has no letter or digit; leave the cell empty"):
        derive_taxonomy({"--": 4, "flood": 1})


def test_labels_are_counted_in_every_kind_of_file_and_cell(tmp_path: Path) -> None:
    cells = ["Flood", "Flood; Storm", '["Storm", "Fire"]', "", "[sic] hail"]
    lists = [["Flood"], ["Flood", "Storm"], ["Storm", "Fire"], None, ["[sic] hail"]]
    quoted = [json.dumps(cell).replace('\\"', '""') for cell in cells]
    (tmp_path / "a.csv").write_text("id;kind\n" + "".join(f"1;{cell}\n" for cell in quoted), encoding="utf-8-sig")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"kind": cell}) + "\n" for cell in lists) + "\n{}\n")
    pq.write_table(pa.table({"kind": lists}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert count_labels(tmp_path / name, "kind") == {"Flood": 2, "Storm": 2, "Fire": 1, "[sic] hail": 1}, name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\n", r"has no column 'kind'; its columns are: text, label"),
        ("a.jsonl", '{"text": "x"}\n', "no line has a field 'kind'"),
        ("a.jsonl", '{"kind": "x"}\nnot json\n', r"a\.jsonl:2: not a JSON object"),
        ("a.parquet", "no parquet", "cannot be read as Parquet"),
        ("a.xlsx", "", r"name ends in \.csv, \.jsonl, \.parquet"),
        ("a.csv", "kind\n\xff", "cannot be read"),
    ],
)
def test_data_without_labels_are_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        count_labels(tmp_path / name, "kind")


def test_the_commands_check_and_derive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, target = tmp_path / "reports.csv", tmp_path / "mine.toml"
    data.write_text("text,kind\nwater,Flood\nwind,Storm\nnothing,\n")
    derive = ("taxonomy", "derive", data, "--label-column", "kind")
    assert run(*derive, monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert run(*derive, "--output", target, monkeypatch=monkeypatch) == 0
    assert Taxonomy.load(target) == derive_taxonomy({"Flood": 1, "Storm": 1})
    assert target.read_text().endswith(printed) and printed == to_toml(Taxonomy.load(target))
    assert run(*derive, "--output", target, monkeypatch=monkeypatch) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err

    assert run("taxonomy", "check", target, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert "flood" in said.out and "2 labels under 2 event types, none with ACLED's names" in said.err.replace(
        "\n", " "
    )
    target.write_text('[[labels]]\nlabel = "Flood"\n')
    assert run("taxonomy", "check", target, monkeypatch=monkeypatch) == 1
    assert "mine.toml: [[labels]] entry 1 (Flood)" in capsys.readouterr().err.replace("\n", "")
