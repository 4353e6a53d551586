"""Taxonomies made from the labels in data, and the examples that are kept beside the project's own."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from random import Random

import openpyxl  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, TAXONOMY

from tocsin.cli.main import main
from tocsin.errors import InputError, TaxonomyError, UsageError
from tocsin.taxonomy import Taxonomy
from tocsin.text import fold
from tocsin_training.importing.build import import_corpus
from tocsin_training.importing.derived import derive_files, label_counts
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.tables import FORMATS
from tocsin_training.taxonomies import derive_taxonomy, summary, to_toml, write_taxonomy

KIND = ImportOptions(label_column=("kind",))
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


def write_as(path: Path, cells: list[str], lists: list[list[str] | None]) -> Path:
    """The same labels in any kind of file: as text where it has nothing else, as lists elsewhere."""
    rows = [{"kind": labels} for labels in lists]
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for cell in ("kind", *cells):
            book.active.append([cell, "x"])
        book.save(path)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"kind": lists}), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n{}\n")
    else:
        mark = "\t" if ".tsv" in path.name else ";"
        quoted = [json.dumps(cell).replace('\\"', '""') for cell in cells]
        content = f"id{mark}kind\n" + "".join(f"1{mark}{cell}\n" for cell in quoted)
        data = content.encode("utf-8-sig")
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("ending", [*FORMATS, ".csv.gz"])
def test_labels_are_counted_in_every_kind_of_file_that_training_reads(tmp_path: Path, ending: str) -> None:
    cells = ["Flood", "Flood; Storm", '["Storm", "Fire"]', "", "[sic] hail", "None"]
    lists = [["Flood"], ["Flood", "Storm"], ["Storm", "Fire"], None, ["[sic] hail"], ["none"]]
    path = write_as(tmp_path / f"a{ending}", cells, lists)
    counts = label_counts([path], KIND, texts=False)
    assert counts.labels == {"Flood": 2, "Storm": 2, "Fire": 1, "[sic] hail": 1}
    assert counts.bad_rows == 0


def test_files_of_a_known_layout_need_no_column_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "It rained.", "labels": ["Flood"]}\n{"text": "It blew.", "labels": []}\n')
    assert label_counts([path], ImportOptions()).labels == {"Flood": 1}


def test_only_rows_with_a_text_count_where_texts_are_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,kind\nwater,Flood\n,Storm\n")
    options = ImportOptions(text_column="text", label_column=("kind",))
    assert label_counts([path], options).labels == {"Flood": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\n1,2\n", r"has no column 'kind' \(--label-column\); its columns are: text, label"),
        ("a.jsonl", '{"text": "x"}\n', "has no column 'kind'"),
        ("a.jsonl", "not json\n", r"a\.jsonl:1: not a JSON object"),
        ("a.parquet", "no parquet", "is not a Parquet file"),
        ("a.xls", "x", r"the name must end in one of \.csv, \.tsv, .*\.xlsx"),
        ("a.csv", "", "is empty"),
        ("a.csv", "kind\n", "has columns and no rows"),
        ("a.csv", "kind,x\n,1\n", "no row has a label"),
        ("a.csv", "kind\n\xff\n", "no row has a label"),
    ],
)
def test_data_without_labels_are_refused_with_the_words_that_training_has_for_it(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises((InputError, UsageError), match=message) as counted:
        label_counts([tmp_path / name], KIND, texts=False)
    # Whatever is wrong with the file as such is told alike by the import.
    if "no row" not in message:
        both = ImportOptions(text_column="kind", label_column=("kind",))
        with pytest.raises((InputError, UsageError)) as imported:
            import_corpus([tmp_path / name], tmp_path / "imports", TAXONOMY, both)
        assert str(imported.value).replace("--text-column", "--label-column") == str(counted.value)


def test_a_label_that_nothing_can_go_by_is_told_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("kind\n--\nFlood\n")
    with pytest.raises(TaxonomyError, match=r"a\.csv: label '--' has no letter or digit"):
        derive_files([tmp_path / "a.csv"], None, KIND)


def test_rows_that_cannot_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "reports.csv"
    data.write_text("text,kind\nwater,Flood\nwind,Storm,odd\n")
    assert run("taxonomy", "derive", data, "--label-column", "kind", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert 'name = "Flood"' in said.out and "Storm" not in said.out
    assert "1 rows cannot be read and are not counted; `tocsin data` says why" in said.err.replace("\n", " ")


def test_labels_that_may_be_spellings_of_others_are_told_and_those_of_other_case_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "reports.csv"
    derive = ("taxonomy", "derive", data, "--label-column", "kind")
    data.write_text("kind\nFlood\nflood\nFloods\nStorm\nSTORM\n")
    assert run(*derive, monkeypatch=monkeypatch) == 0
    assert "another spelling: floods (1) of flood (2); make" in " ".join(capsys.readouterr().err.split())
    data.write_text("kind\nFlood\nflood\nStorm\n")
    assert run(*derive, monkeypatch=monkeypatch) == 0
    assert "spelling" not in capsys.readouterr().err


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
