from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support import ROOT

from tocsin_training.cli import corpus_card
from tocsin_training.corpus_card import write_sections
from tocsin_training.errors import CorpusError
from tocsin_training.learning_curve import FILE, Point

Edit = Callable[..., None]
DATASETS = ROOT / "datasets"


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The shipped card and its page of tables, their sections emptied."""
    for name in ("README.md", "COVERAGE.md"):
        text = (DATASETS / name).read_text(encoding="utf-8")
        emptied = re.sub(r"(<!-- begin ([\w ]+) -->\n).*?(<!-- end \2 -->)", r"\1\3", text, flags=re.DOTALL)
        (tmp_path / name).write_text(emptied, encoding="utf-8")
    return tmp_path / "README.md"


def section(card: Path, name: str) -> str:
    found = re.search(f"<!-- begin {name} -->\n(.*?)<!-- end {name} -->", card.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_shipped_card_is_in_step_with_the_shipped_corpus() -> None:
    corpus_card(DATASETS / "corpus", DATASETS / "taxonomy.toml", DATASETS / "README.md", check=True)


def test_the_cards_own_example_loads_the_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readme = (DATASETS / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    statements = [line for line in example.splitlines() if line and not line.startswith("from ")]
    assert len(statements) == 1, "one line besides the import"
    monkeypatch.chdir(ROOT)
    found: dict[str, dict[str, list[str]]] = {}
    cached = example.replace('load_dataset("./datasets")', f'load_dataset("./datasets", cache_dir={str(tmp_path)!r})')
    exec(cached, found)
    loaded = found["corpus"]
    assert {"train", "validation", "test"} == set(loaded)
    lines = sum(len(file.read_text().splitlines()) for file in (DATASETS / "corpus").glob("*/*.jsonl"))
    assert sum(map(len, loaded.values())) == lines


def test_figures_are_written_once_and_then_in_step_until_a_record_changes(
    corpus: Path, taxonomy_file: Path, card: Path, edit_line: Edit
) -> None:
    with pytest.raises(CorpusError, match=r"composition.*`tocsin corpus card`"):
        corpus_card(corpus, taxonomy_file, card, check=True)
    corpus_card(corpus, taxonomy_file, card)
    assert "520 records in 4 batches" in section(card, "composition")
    written = card.read_bytes()
    corpus_card(corpus, taxonomy_file, card, check=True)
    edit_line(corpus / "train" / "one.jsonl", 1, register="post")
    with pytest.raises(CorpusError, match=r"out of step.*COVERAGE\.md: by register;?"):
        corpus_card(corpus, taxonomy_file, card, check=True)
    assert card.read_bytes() == written


def test_what_people_wrote_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- begin a -->\nold\n<!-- end a -->\nbetween\n<!-- begin b -->\nkept\n<!-- end b -->\n")
    assert write_sections(page, {"a": r"new \1 text" + "\n"}) == ["a"]
    assert page.read_text() == (
        "before\n<!-- begin a -->\nnew \\1 text\n<!-- end a -->\nbetween\n<!-- begin b -->\nkept\n<!-- end b -->\n"
    )


def test_a_card_without_a_place_for_a_figure_is_refused_by_name(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("nothing\n")
    with pytest.raises(CorpusError, match="<!-- begin labels -->"):
        write_sections(page, {"labels": "x\n"})
    with pytest.raises(CorpusError, match="cannot be read"):
        write_sections(tmp_path / "none.md", {"labels": "x\n"})


def test_the_benchmark_is_held_against_the_records_where_its_file_is(
    corpus: Path, taxonomy_file: Path, card: Path, edit_line: Edit, tmp_path: Path
) -> None:
    known = "The harbour master closed both piers before noon because the ice had reached the outer lights again."
    edit_line(corpus / "train" / "one.jsonl", 7, text=known)
    benchmark = tmp_path / "benchmark.tsv"
    benchmark.write_text(f"id\ttext\n1\t{known}\n", encoding="utf-8")
    corpus_card(corpus, taxonomy_file, card, benchmark)
    assert "1 of 520 records repeat one" in section(card, "leak")
    corpus_card(corpus, taxonomy_file, card)
    assert "1 of 520 records repeat one" in section(card, "leak"), "kept where the file is not at hand"


def test_the_learning_curve_is_taken_in_and_says_when_it_is_old(corpus: Path, taxonomy_file: Path, card: Path) -> None:
    point = Point(
        share=0.5, seed=1, records=160, corpus_sha256="old", macro_f1=0.7, weighted_f1=0.71, case_weighted_f1=None
    )
    card.with_name(FILE).write_text(json.dumps([asdict(point)]))
    corpus_card(corpus, taxonomy_file, card)
    told = section(card, "learning curve")
    assert "| 50% | 160 | 1 | 0.700 | 0.710 |  |" in told
    assert "earlier state" in told
    assert ".png" not in told, "no picture is linked that is not there"
    assert "Recipe" not in told
    other = replace(point, recipe_sha256="f" * 64, epochs=2.0, augmented=False, macro_f1=0.6)
    card.with_name(FILE).write_text(json.dumps([asdict(point), asdict(other)]))
    corpus_card(corpus, taxonomy_file, card)
    told = section(card, "learning curve")
    assert "| 50% | 160 | 1 | 0.700 | 0.710 |  |" in told and "| 50% | 160 | 1 | 0.600 | 0.710 |  |" in told
    assert "Recipe not recorded:" in told and "Recipe `ffffffff`, 2 epochs, without augmentation:" in told
