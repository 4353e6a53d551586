from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.errors import CorpusError
from tocsin_training.importing.report import ImportReport
from tocsin_training.regions import UNKNOWN, country_codes, region
from tocsin_training.validate import check_corpus, main

Edit = Callable[..., None]


def read(*answers: str) -> dict[str, list[str]]:
    """What the writer, the second reader and the third said."""
    return {reader: answer.split() for reader, answer in zip(("writer", "second", "third"), answers, strict=False)}


SOUND: dict[str, object] = {"labels": ["storm"], "reason": ..., "annotations": read("storm", "storm")}


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
    monkeypatch.setattr("tocsin_training.published.offensive_words", lambda text: ["thistle"] * ("thistle" in text))
    edit_line(corpus / "train" / "two.jsonl", 3, text="He called them a thistle at the gate.")
    (fault,) = check_corpus(corpus, taxonomy, published=True)
    assert (fault.line, fault.rule) == (3, "offensive")
    assert "'thistle'" in fault.message
    assert check_corpus(corpus, taxonomy) == []


@pytest.mark.parametrize(
    ("rule", "changes", "told"),
    [
        ("second-reading", {"annotations": {"writer": ["storm"]}}, "annotations.second"),
        ("decision", {"annotations": read("storm", "frost")}, "no third look"),
        ("decision", {"annotations": read("storm", "")}, "the second reader no event, and no third"),
        ("decision", {"annotations": read("frost", "frost")}, "both readers gave frost"),
        ("decision", {"annotations": read("storm", "frost", "frost")}, "the third look decided on frost"),
        ("decision", {"annotations": read("storm", "storm", "")}, "the third look decided on no event"),
        ("decision", {"annotations": read("storm", "frost"), "ambiguous": True}, "no third look"),
        ("country", {"country": "QQQ"}, "'QQQ'"),
        ("country", {"country": "YUG"}, "'YUG'"),
        ("decade", {"decade": "2090s"}, "1940s"),
        ("decade", {"decade": "1930s"}, "2020s"),
        ("pair", {"pair": "p1"}, "one record"),
    ],
)
def test_a_published_record_keeps_what_the_corpus_promises_and_a_private_one_need_not(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit, rule: str, changes: dict[str, object], told: str
) -> None:
    path = corpus / "train" / "two.jsonl"
    edit_line(path, 3, **SOUND | changes)
    (fault,) = check_corpus(corpus, taxonomy, published=True)
    assert (fault.file, fault.line, fault.rule) == (path, 3, rule)
    assert told in fault.message
    assert check_corpus(corpus, taxonomy) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["frost", "storm"], "annotations": read("storm frost", "frost storm")},
        {"annotations": read("frost", "storm", "storm")},
        {"annotations": read("frost", "", "storm"), "ambiguous": True},
        # A rule sharpened later: both had read it otherwise.
        {"annotations": read("frost", "frost", "storm")},
        {"labels": [], "reason": "sport", "annotations": read("", "")},
        {"country": "XKX", "decade": "1940s"},
        {"country": ..., "decade": ...},
    ],
)
def test_labels_are_what_readers_decided_in_whatever_order(
    corpus: Path, taxonomy: Taxonomy, edit_line: Edit, changes: dict[str, object]
) -> None:
    edit_line(corpus / "train" / "two.jsonl", 3, **SOUND | changes)
    assert check_corpus(corpus, taxonomy, published=True) == []


def test_an_ambiguous_record_is_no_test(corpus: Path, taxonomy: Taxonomy, edit_line: Edit) -> None:
    for split, batch in (("train", "one"), ("validation", "three"), ("test", "four")):
        edit_line(corpus / split / f"{batch}.jsonl", 5, ambiguous=True)
    (fault,) = check_corpus(corpus, taxonomy, published=True)
    assert (fault.file.name, fault.line, fault.rule) == ("four.jsonl", 5, "ambiguous")


def test_a_pair_is_two_records_of_different_labels(corpus: Path, taxonomy: Taxonomy, edit_line: Edit) -> None:
    one, two = corpus / "train" / "one.jsonl", corpus / "train" / "two.jsonl"
    half, other = SOUND | {"pair": "p1"}, {"labels": ["frost"], "annotations": read("frost", "frost")}
    edit_line(one, 2, **half)
    edit_line(two, 4, **half | other)
    assert check_corpus(corpus, taxonomy, published=True) == []
    edit_line(two, 4, **half)
    (fault,) = check_corpus(corpus, taxonomy, published=True)
    assert (fault.file, fault.line, fault.rule) == (two, 4, "pair")
    assert "same labels" in fault.message and "train/one.jsonl:2" in fault.message
    edit_line(two, 6, **half | other)
    assert [(f.line, f.rule) for f in check_corpus(corpus, taxonomy, published=True)] == [(6, "pair")]


def test_a_pair_of_no_events_is_none_whatever_their_reasons(corpus: Path, taxonomy: Taxonomy, edit_line: Edit) -> None:
    nothing = {"labels": [], "annotations": read("", ""), "pair": "p1"}
    for number, reason in ((2, "sport"), (4, "planned")):
        edit_line(corpus / "train" / "two.jsonl", number, **nothing | {"reason": reason})
    assert [(f.line, f.rule) for f in check_corpus(corpus, taxonomy, published=True)] == [(4, "pair")]


def test_an_imported_corpus_is_its_owners_and_keeps_no_promise(
    corpus: Path, taxonomy_file: Path, edit_line: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_line(corpus / "train" / "one.jsonl", 1, **SOUND | {"annotations": {"writer": ["storm"]}})
    assert main(corpus, taxonomy_file) == 1
    assert "one.jsonl:1: second-reading: " in capsys.readouterr().out
    ImportReport(files=[], rows=0).save(corpus)
    assert main(corpus, taxonomy_file) == 0


def test_every_country_in_use_has_a_region_and_no_other() -> None:
    assert {code for code in country_codes() if region(code) == UNKNOWN} == set()
    assert {"COD", "ROU", "SRB", "XKX"} < country_codes()
    assert not {"ZAR", "ROM", "YUG", "SCG", "ANT", "KOS"} & country_codes()


def test_a_file_too_large_to_be_shown_is_a_fault(
    corpus: Path, taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(corpus.glob("*/*.jsonl"), key=lambda file: file.stat().st_size)
    monkeypatch.setattr("tocsin_training.validate.MAX_FILE_BYTES", largest.stat().st_size - 1)
    faults = check_corpus(corpus, taxonomy)
    assert {fault.rule for fault in faults} == {"file-size"}
    assert largest in {fault.file for fault in faults}
