from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.errors import CorpusError
from tocsin_training.validate import check_corpus

Edit = Callable[..., None]


@pytest.fixture
def taxonomy(taxonomy_file: Path) -> Taxonomy:
    return Taxonomy.load(taxonomy_file)


def test_a_sound_corpus_has_no_faults(sound_corpus: Path, taxonomy: Taxonomy) -> None:
    assert check_corpus(sound_corpus, taxonomy) == []


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("schema", {"text": ...}),
        ("schema", {"text": 5}),
        ("schema", {"surplus": "field"}),
        ("schema", {"country": "Kenya"}),
        ("schema", {"decade": "1995"}),
        ("labels", {"labels": ["hail"], "reason": ...}),
        ("labels", {"labels": ["storm", "storm"], "reason": ...}),
        ("labels", {"annotations": {"writer": ["hail"]}}),
        ("reason", {"labels": [], "reason": ...}),
        ("reason", {"labels": ["storm"], "reason": "sport"}),
        ("reason", {"labels": [], "reason": "boredom"}),
        ("register", {"register": "song"}),
        ("length", {"text": "Far too short."}),
        ("length", {"text": "word " * 75 + "word"}),
        ("characters", {"text": "A zero\u200bwidth space hides in here."}),
        ("characters", {"text": "A byte that was lost \ufffd in here."}),
        ("characters", {"text": "An accent apart: cafe\u0301 in the square."}),
        ("characters", {"text": "Two  spaces between these words here."}),
        ("characters", {"text": "A line\nbreak in the text here."}),
    ],
)
def test_a_faulty_record_is_named_by_file_line_and_rule(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit, rule: str, changes: dict[str, object]
) -> None:
    path = corpus / "train" / "two.jsonl"
    edit_line(path, 3, **changes)
    faults = check_corpus(corpus, taxonomy)
    assert [(fault.file, fault.line, fault.rule) for fault in faults] == [(path, 3, rule)]
    assert str(faults[0]).startswith(f"{path}:3: {rule}: ")


def test_a_line_that_is_not_json_is_named(corpus: Path, taxonomy: Taxonomy) -> None:
    path = corpus / "test" / "four.jsonl"
    path.write_bytes(path.read_bytes() + b"{broken\n\xff\xfe\n")
    assert [(f.line, f.rule) for f in check_corpus(corpus, taxonomy)] == [(101, "schema"), (102, "schema")]


def test_an_id_is_given_once(corpus: Path, taxonomy: Taxonomy, edit_line: Edit) -> None:
    edit_line(corpus / "test" / "four.jsonl", 9, id="one-0001")
    assert [(f.line, f.rule) for f in check_corpus(corpus, taxonomy)] == [(9, "unique-id")]


@pytest.mark.parametrize("group", ["pair", "article"])
def test_what_was_written_together_stays_in_one_split(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit, group: str
) -> None:
    for split, name in (("train", "one"), ("train", "two"), ("validation", "three")):
        edit_line(corpus / split / f"{name}.jsonl", 1, **{group: "g1"})
    (fault,) = check_corpus(corpus, taxonomy)
    assert (fault.file.name, fault.rule) == ("three.jsonl", "one-split")
    assert "train/one.jsonl:1" in fault.message


def test_a_batch_stays_in_one_split(corpus: Path, taxonomy: Taxonomy) -> None:
    moved = corpus / "test" / "one.jsonl"
    lines = (corpus / "train" / "one.jsonl").read_text().splitlines(keepends=True)
    (corpus / "train" / "one.jsonl").write_text("".join(lines[:-1]))
    moved.write_text(lines[-1])
    assert [f.rule for f in check_corpus(corpus, taxonomy)] == ["one-split"]


def test_a_record_stands_in_the_file_of_its_batch(corpus: Path, taxonomy: Taxonomy, edit_line: Edit) -> None:
    edit_line(corpus / "train" / "one.jsonl", 4, batch="two")
    assert [(f.line, f.rule) for f in check_corpus(corpus, taxonomy)] == [(4, "batch")]


def test_an_exact_duplicate_is_found_whatever_its_case_and_punctuation(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit
) -> None:
    edit_line(corpus / "train" / "one.jsonl", 2, text="A quiet morning by the river, officials said.")
    edit_line(corpus / "train" / "two.jsonl", 5, text="a quiet morning - by the river - officials said")
    (fault,) = check_corpus(corpus, taxonomy)
    assert (fault.file.name, fault.line, fault.rule) == ("two.jsonl", 5, "duplicate")
    assert "train/one.jsonl:2" in fault.message


def test_near_duplicates_are_refused_across_splits_and_allowed_within_one(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit
) -> None:
    text = "Nine members of the council met at the old bridge on Monday to talk about {} and the price of bread."
    edit_line(corpus / "train" / "one.jsonl", 1, text=text.format("water"))
    edit_line(corpus / "train" / "two.jsonl", 1, text=text.format("wood"))
    assert check_corpus(corpus, taxonomy) == []
    edit_line(corpus / "test" / "four.jsonl", 1, text=text.format("wool"))
    faults = check_corpus(corpus, taxonomy)
    # The later of two records is the one at fault, and files are read in the order train, validation, test.
    assert {(f.file.name, f.line, f.rule) for f in faults} == {("four.jsonl", 1, "near-duplicate")}


def test_text_of_a_benchmark_is_a_leak(corpus: Path, taxonomy: Taxonomy, edit_line: Edit, tmp_path: Path) -> None:
    known = "The harbour master closed both piers before noon because the ice had reached the outer lights again."
    benchmark = tmp_path / "benchmark.tsv"
    benchmark.write_text(f"id\ttext\tsub_type\n1\t{known}\tX\n", encoding="utf-8")
    path = corpus / "train" / "one.jsonl"
    edit_line(path, 7, text=known[:80] + " and then said nothing more.")
    edit_line(path, 8, text="Everyone agreed on this: because the ice had reached the outer lights again, they stayed.")
    assert [(f.line, f.rule) for f in check_corpus(corpus, taxonomy, benchmark=benchmark)] == [
        (7, "leak"),
        (8, "leak"),
    ]


def test_a_benchmark_without_texts_is_an_input_error(sound_corpus: Path, taxonomy: Taxonomy, tmp_path: Path) -> None:
    path = tmp_path / "other.tsv"
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match=r"other\.tsv.*text"):
        check_corpus(sound_corpus, taxonomy, benchmark=path)


def test_a_corpus_without_a_split_is_refused(corpus: Path, taxonomy: Taxonomy) -> None:
    (corpus / "validation" / "three.jsonl").unlink()
    with pytest.raises(CorpusError, match="validation"):
        check_corpus(corpus, taxonomy)


def test_faults_are_counted_on_the_command_line(
    corpus: Path, taxonomy_file: Path, edit_line: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    from tocsin_training.cli import corpus_check

    corpus_check(corpus, taxonomy_file)
    assert capsys.readouterr().out == ""
    edit_line(corpus / "train" / "one.jsonl", 1, register="song")
    with pytest.raises(CorpusError, match=r"1 fault$"):
        corpus_check(corpus, taxonomy_file)
    assert "one.jsonl:1: register: 'song'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("real-person", "Fighters of Joseph Kony crossed the river at dawn."),
        ("real-person", "President Vladimir Putin said the road was open."),
    ],
)
def test_published_text_names_no_known_person_but_private_text_may(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit, rule: str, text: str
) -> None:
    path = corpus / "train" / "two.jsonl"
    edit_line(path, 3, text=text)
    assert check_corpus(corpus, taxonomy) == []
    assert [(f.file, f.line, f.rule) for f in check_corpus(corpus, taxonomy, published=True)] == [(path, 3, rule)]


def test_published_text_is_decent(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_training.validate.offensive_words", lambda text: ["thistle"] * ("thistle" in text))
    edit_line(corpus / "train" / "two.jsonl", 3, text="He called them a thistle at the gate.")
    (fault,) = check_corpus(corpus, taxonomy, published=True)
    assert (fault.line, fault.rule) == (3, "offensive")
    assert "'thistle'" in fault.message
    assert check_corpus(corpus, taxonomy) == []


def test_a_file_too_large_to_be_shown_is_a_fault(
    corpus: Path, taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(corpus.glob("*/*.jsonl"), key=lambda file: file.stat().st_size)
    monkeypatch.setattr("tocsin_training.validate.MAX_FILE_BYTES", largest.stat().st_size - 1)
    faults = check_corpus(corpus, taxonomy)
    assert {fault.rule for fault in faults} == {"file-size"}
    assert largest in {fault.file for fault in faults}
