"""Old output under new names: renamed where it says so, and otherwise as it was, to the byte."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from support import TAXONOMY, read_rows
from typer.testing import CliRunner, Result

from tocsin import InputError, Taxonomy, UsageError
from tocsin_serving import cli
from tocsin_serving.batch import score_file
from tocsin_serving.batch.remap import Renaming, read_names, remap

TEXTS = ["An airstrike, and shelling.", "The minister\rspoke.", 'Looting, "events": [] and protest.']


@pytest.fixture
def renaming(tmp_path: Path) -> Renaming:
    """Airstrikes get another name; shelling and airstrikes stay two; arrests join looting."""
    text = TAXONOMY.read_text()
    text = text.replace('label = "air_drone_strike"', 'label = "air_strike"').replace(
        '"Air/drone strike"', '"Air strike"'
    )
    head, *labels = text.split("[[labels]]")
    kept = [label for label in labels if 'label = "arrests"' not in label]
    new = tmp_path / "new.toml"
    new.write_text("[[labels]]".join([head, *kept]))
    names = tmp_path / "map.toml"
    names.write_text('[labels]\nair_drone_strike = "air_strike"\narrests = "looting_property_destruction"\n')
    return Renaming(read_names(names), Taxonomy.load(new))


def make_input(kind: str, path: Path) -> None:
    numbers = ["1.50", "2e3", "3"]
    if kind == "jsonl":
        lines = (f'{{"n": {n},  "text": {json.dumps(t)}}}\n' for n, t in zip(numbers, TEXTS, strict=True))
        path.write_text("".join(lines))
    elif kind == "csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([["n", "text"], *zip(numbers, TEXTS, strict=True)])
    else:
        pq.write_table(pa.table({"n": numbers, "text": TEXTS}), path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_only_names_change(kind: str, tiny_release: Path, renaming: Renaming, tmp_path: Path) -> None:
    source, scored, target = (tmp_path / f"{name}.{kind}" for name in ("in", "scored", "out"))
    make_input(kind, source)
    score_file(source, scored, release=tiny_release, scores=True)

    assert remap(scored, target, renaming) == len(TEXTS)

    before, after = read_rows(scored), read_rows(target)
    assert [event["label"] for event in before[0]["events"]][:1] == ["air_drone_strike"]
    for old, new in zip(before, after, strict=True):
        assert list(old) == list(new)
        swap = {"air_drone_strike": "air_strike", "arrests": "looting_property_destruction"}
        assert [swap.get(event["label"], event["label"]) for event in old["events"]] == [
            event["label"] for event in new["events"]
        ]
        first = new["events"][0] if new["events"] else {}
        for name in ("label", "sub_event_type", "event_type", "disorder_type"):
            assert (new[name] or None) == first.get(name)
        assert set(new["scores"]) == {label.label for label in renaming.taxonomy.labels}
        merged = max(old["scores"]["arrests"], old["scores"]["looting_property_destruction"])
        assert new["scores"]["looting_property_destruction"] == merged
        changed = {"events", "label", "sub_event_type", "event_type", "disorder_type", "scores"}
        assert {name: old[name] for name in old.keys() - changed} == {name: new[name] for name in new.keys() - changed}
    assert after[0]["sub_event_type"] == "Air strike"
    if kind == "jsonl":
        for old_line, new_line in zip(scored.read_bytes().splitlines(), target.read_bytes().splitlines(), strict=True):
            kept = old_line[: old_line.rfind(b', "events": ')]
            assert new_line.startswith(kept)
    if kind == "parquet":
        assert pq.read_schema(target) == pq.read_schema(scored)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_map_that_changes_nothing_gives_the_same_bytes(kind: str, tiny_release: Path, tmp_path: Path) -> None:
    source, scored, target = (tmp_path / f"{name}.{kind}" for name in ("in", "scored", "out"))
    make_input(kind, source)
    score_file(source, scored, release=tiny_release, scores=True)
    remap(scored, target, Renaming({}, Taxonomy.load(TAXONOMY)))
    assert target.read_bytes() == scored.read_bytes()


def test_the_delimiter_is_the_one_it_was_written_with_whatever_stands_in_a_name(
    tiny_release: Path, tmp_path: Path
) -> None:
    source, scored, target = (tmp_path / f"{name}.csv" for name in ("in", "scored", "out"))
    with source.open("w", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows([["text", "notes" + 30 * ","], *([text, ""] for text in TEXTS)])
    score_file(source, scored, release=tiny_release)
    remap(scored, target, Renaming({}, Taxonomy.load(TAXONOMY)))
    assert target.read_bytes() == scored.read_bytes()


def test_labels_that_become_one_are_one_event_with_the_highest_probability(renaming: Renaming) -> None:
    old = [{"label": "arrests", "probability": 0.9}, {"label": "looting_property_destruction", "probability": 0.6}]
    (event,) = renaming.events(old)
    assert (event["label"], event["probability"]) == ("looting_property_destruction", 0.9)


def test_a_label_that_nothing_is_said_about_is_refused_by_row(tiny_release: Path, tmp_path: Path) -> None:
    source, scored, target = (tmp_path / f"{name}.jsonl" for name in ("in", "scored", "out"))
    make_input("jsonl", source)
    score_file(source, scored, release=tiny_release)
    text = TAXONOMY.read_text().replace('label = "air_drone_strike"', 'label = "air_strike"')
    (tmp_path / "new.toml").write_text(text)
    with pytest.raises(InputError, match=r"scored\.jsonl:1: label 'air_drone_strike' is not in the new taxonomy"):
        remap(scored, target, Renaming({}, Taxonomy.load(tmp_path / "new.toml")))
    assert not target.exists()


def test_what_is_no_output_of_ours_is_refused(renaming: Renaming, tmp_path: Path) -> None:
    for kind in ("csv", "jsonl", "parquet"):
        source = tmp_path / f"in.{kind}"
        make_input(kind, source)
        with pytest.raises(InputError, match="not an output of `tocsin score`"):
            remap(source, tmp_path / f"out.{kind}", renaming)
    with pytest.raises(UsageError, match="both end in"):
        remap(tmp_path / "in.csv", tmp_path / "out.jsonl", renaming)


@pytest.mark.parametrize("content", ["[labels", "labels = 3", "", "[labels]\na = 1"])
def test_a_map_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(content)
    with pytest.raises(UsageError, match=r"map\.toml"):
        read_names(tmp_path / "map.toml")


def test_a_map_to_what_is_no_label_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(
        '[labels]\nair_drone_strike = "airstrikes"\narrests = "attack"\nlooting = "looted"\n'
    )
    done = remapped("none.csv", "out.csv", tmp_path)
    assert isinstance(done.exception, UsageError)
    said = str(done.exception)
    assert 'no such label: air_drone_strike = "airstrikes", looting = "looted". It has: armed_clash, ' in said


def test_lines_of_the_map_that_no_row_met_are_named(tiny_release: Path, tmp_path: Path) -> None:
    make_input("csv", tmp_path / "in.csv")
    score_file(tmp_path / "in.csv", tmp_path / "scored.csv", release=tiny_release)
    (tmp_path / "map.toml").write_text(
        '[labels]\nair_drone_strike = "attack"\nair_strike = "attack"\narrests = "attack"\n'
    )
    done = remapped("scored.csv", "out.csv", tmp_path)
    assert done.exit_code == 0, done.exception
    assert "of the map, no row had: air_strike, arrests\n" in done.stderr


def test_the_files_of_a_folder_or_glob_go_into_a_folder(tiny_release: Path, tmp_path: Path) -> None:
    for kind, name in (("csv", "a.csv"), ("jsonl", "deep/b.jsonl")):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        make_input(kind, tmp_path / "in" / name)
        (tmp_path / "scored" / name).parent.mkdir(parents=True)
        score_file(tmp_path / "in" / name, tmp_path / "scored" / name, release=tiny_release)
    (tmp_path / "map.toml").write_text('[labels]\nair_drone_strike = "attack"\n')
    done = remapped("scored", "new", tmp_path)
    assert done.exit_code == 0, done.exception
    assert f"{2 * len(TEXTS)} rows under new names" in done.stderr and "no row had" not in done.stderr
    for name in ("a.csv", "deep/b.jsonl"):
        remapped(f"scored/{name}", f"one{Path(name).suffix}", tmp_path)
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / f"one{Path(name).suffix}").read_bytes()
    assert sum(path.is_file() for path in (tmp_path / "new").rglob("*")) == 2

    (tmp_path / "new" / "a.csv").unlink()
    again = remapped("scored", "new", tmp_path)
    assert "b.jsonl exists; --overwrite replaces it" in str(again.exception)
    assert not (tmp_path / "new" / "a.csv").exists(), "nothing is written where one file cannot be"
    assert remapped("scored/*.csv", "some", tmp_path).exit_code == 0
    (tmp_path / "scored" / "deep" / "b.jsonl").write_text("{}\n")
    broken = remapped("scored", "broken", tmp_path)
    assert "The 1 before it are written; --overwrite writes them again." in str(broken.exception)
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["a.csv"]


def remapped(source: str, target: str, folder: Path) -> Result:
    """`tocsin remap` with the folder's map and the shipped taxonomy."""
    app = typer.Typer()
    app.command()(cli.remap)
    options = ["--names", str(folder / "map.toml"), "--taxonomy", str(TAXONOMY)]
    return CliRunner().invoke(app, [str(folder / source), str(folder / target), *options])


def scored_csv(folder: Path, release: Path) -> tuple[Path, Path]:
    source, scored = folder / "in.csv", folder / "scored.csv"
    make_input("csv", source)
    score_file(source, scored, release=release)
    return scored, folder / "out.csv"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("The minister", "Le pr\xe9sident", r"scored\.csv:3: .*not valid UTF-8"),
        ("1.50,", "1.50,more,", r"scored\.csv:2: .* has \d+ cells, the header has \d+"),
    ],
)
def test_damaged_csv_output_is_refused_with_its_line(
    old: str, new: str, message: str, tiny_release: Path, tmp_path: Path
) -> None:
    scored, target = scored_csv(tmp_path, tiny_release)
    content = scored.read_bytes().decode()
    assert old in content
    scored.write_bytes(content.replace(old, new, 1).encode("latin-1"))
    with pytest.raises(InputError, match=message):
        remap(scored, target, Renaming({}, Taxonomy.load(TAXONOMY)))
    assert not target.exists()


@pytest.mark.parametrize("row", [1, len(TEXTS)])
def test_a_quote_opened_in_the_last_cell_swallows_no_row(row: int, tiny_release: Path, tmp_path: Path) -> None:
    scored, target = scored_csv(tmp_path, tiny_release)
    lines = scored.read_bytes().split(b"\n")
    head, _, digest = lines[row].rpartition(b",")
    scored.write_bytes(b"\n".join([*lines[:row], head + b',"' + digest, *lines[row + 1 :]]))
    with pytest.raises(InputError, match=r"is never closed|may have run together"):
        remap(scored, target, Renaming({}, Taxonomy.load(TAXONOMY)))
    assert not target.exists()


def test_a_damaged_page_of_parquet_is_refused(tiny_release: Path, tmp_path: Path) -> None:
    source, scored, target = (tmp_path / f"{name}.parquet" for name in ("in", "scored", "out"))
    make_input("parquet", source)
    score_file(source, scored, release=tiny_release)
    content = scored.read_bytes()
    scored.write_bytes(content[:4] + b"\xff" * 64 + content[68:])
    with pytest.raises(InputError, match=r"(?s)scored\.parquet to .*out\.parquet was not written"):
        remap(scored, target, Renaming({}, Taxonomy.load(TAXONOMY)))
    assert not target.exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_the_users_own_called_scores_is_kept(kind: str, tiny_release: Path, tmp_path: Path) -> None:
    source, scored, target = (tmp_path / f"{name}.{kind}" for name in ("in", "scored", "out"))
    texts, marks = ["An airstrike.", "A protest."], ["not JSON", '{"mine": 1}']
    if kind == "csv":
        with source.open("w", newline="") as stream:
            csv.writer(stream).writerows([["scores", "text"], *zip(marks, texts, strict=True)])
    elif kind == "jsonl":
        rows = (json.dumps({"scores": mark, "text": text}) for mark, text in zip(marks, texts, strict=True))
        source.write_text("\n".join(rows))
    else:
        pq.write_table(pa.table({"scores": marks, "text": texts}), source)
    score_file(source, scored, release=tiny_release)
    assert remap(scored, target, Renaming({}, Taxonomy.load(TAXONOMY))) == 2
    if kind == "parquet":
        assert pq.read_table(target).equals(pq.read_table(scored))
    else:
        assert target.read_bytes() == scored.read_bytes()
