"""The corpus's own rules, checked; each breach names the file, the line and the rule."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from tocsin.errors import InputError, first_fault
from tocsin.taxonomy import Taxonomy
from tocsin.text import fold
from tocsin_training import published as promised
from tocsin_training.corpus import REASONS, REGISTERS, Line, Record, corpus_files
from tocsin_training.duplicates import find_alike, grams
from tocsin_training.importing.report import ImportReport
from tocsin_training.tsv import read_tsv

MIN_WORDS, MAX_WORDS = 4, 75
MAX_FILE_BYTES = 5_000_000
LEAK_OPENING = 60
LEAK_GRAM = 8
LEAK_SHARE = 0.1
"""Share of a record's word 8-grams that a benchmark may hold; stock phrases alone stay below it."""

# Zero-width joiners are letters' business in Persian, Hindi and others; every other format character is debris.
_JOINERS = frozenset("\u200c\u200d")
_BAD_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, order=True)
class Fault:
    """One breach of one rule."""

    file: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}"


def check_corpus(
    folder: Path, taxonomy: Taxonomy, *, benchmark: Path | None = None, published: bool = False
) -> list[Fault]:
    """Every breach in a corpus folder, in file order; an empty list means that it is sound.

    :param benchmark: a TSV file with a ``text`` column that no record may repeat.
    :param published: whether anyone may read it: its text is then invented and decent, its labels are decided by two
        readers, and its pairs are pairs. Own codings of real news, which nobody else sees, are learned from as they
        are.
    :raises CorpusError: a split has no files.
    :raises InputError: the benchmark cannot be read.
    """
    lines, faults = read_lines(folder)
    faults += chain.from_iterable(_check_record(line, taxonomy, published=published) for line in lines)
    faults += _large_files(folder)
    for rule in (_unique_ids, _one_split, _exact_duplicates, _near_duplicates, *((_pairs,) if published else ())):
        faults += rule(lines)
    if benchmark is not None:
        faults += leaks(lines, read_texts(benchmark))
    return sorted(faults)


def read_lines(folder: Path) -> tuple[list[Line], list[Fault]]:
    """All records that fit the schema, and a fault for each line that does not."""
    lines: list[Line] = []
    faults: list[Fault] = []
    for split, files in corpus_files(folder).items():
        for file in files:
            for number, raw in enumerate(file.read_bytes().splitlines(), 1):
                parsed = _parse(raw, split, file, number)
                if isinstance(parsed, Line):
                    lines.append(parsed)
                else:
                    faults.append(parsed)
    return lines, faults


def _parse(raw: bytes, split: str, file: Path, number: int) -> Line | Fault:
    try:
        record = Record.model_validate(json.loads(raw.decode("utf-8")), strict=False)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return Fault(file, number, "schema", f"not a JSON object in UTF-8: {error}")
    except ValidationError as error:
        return Fault(file, number, "schema", first_fault(error))
    return Line(record, split, file, number)


def _check_record(line: Line, taxonomy: Taxonomy, *, published: bool) -> Iterator[Fault]:
    for rule, check in (_RECORD_RULES | (_PUBLISHED_RULES if published else {})).items():
        for message in check(line, taxonomy):
            yield Fault(line.file, line.number, rule, message)


def _labels(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    record = line.record
    given = [record.annotations.writer, record.annotations.second or (), record.annotations.third or ()]
    for name in dict.fromkeys(chain(record.labels, *given)):
        if name not in taxonomy.names:
            yield f"{name!r} is not in the taxonomy"
    if len(set(record.labels)) < len(record.labels):
        yield "the same label twice"


def _reason(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    record = line.record
    if record.labels and record.reason is not None:
        yield f"has labels and also the reason {record.reason!r} for having none"
    if not record.labels and record.reason is None:
        yield "has no labels and no reason for it"
    if record.reason is not None and record.reason not in REASONS:
        yield f"{record.reason!r} is not one of: {', '.join(sorted(REASONS))}"


def _register(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    if line.record.text_register not in REGISTERS:
        yield f"{line.record.text_register!r} is not one of: {', '.join(sorted(REGISTERS))}"


def _batch(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    if line.record.batch != line.file.stem:
        yield f"batch {line.record.batch!r} stands in the file of batch {line.file.stem!r}"


def _length(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    words = len(line.record.text.split())
    if not MIN_WORDS <= words <= MAX_WORDS:
        yield f"{words} words; {MIN_WORDS} to {MAX_WORDS} are allowed"


def _characters(line: Line, taxonomy: Taxonomy) -> Iterator[str]:
    text = line.record.text
    bad = {c for c in text if unicodedata.category(c) in _BAD_CATEGORIES and c not in _JOINERS} | (
        {"\ufffd"} & set(text)
    )
    if bad:
        yield f"characters not allowed: {', '.join(sorted(f'U+{ord(c):04X}' for c in bad))}"
    elif text != unicodedata.normalize("NFC", text):
        yield "not in Unicode normal form C"
    elif text != " ".join(text.split()):
        yield "space at an end, or more than one between words"


Rules = dict[str, Callable[[Line, Taxonomy], Iterator[str]]]

_RECORD_RULES: Rules = {
    "labels": _labels,
    "reason": _reason,
    "register": _register,
    "batch": _batch,
    "length": _length,
    "characters": _characters,
}
_PUBLISHED_RULES: Rules = {
    "offensive": promised.offensive,
    "real-person": promised.real_person,
    "second-reading": promised.second_reading,
    "decision": promised.decision,
    "ambiguous": promised.ambiguous,
    "country": promised.country,
    "decade": promised.decade,
}


def _large_files(folder: Path) -> Iterator[Fault]:
    """Files that pages for code and data no longer show."""
    for file in chain.from_iterable(corpus_files(folder).values()):
        if (size := file.stat().st_size) > MAX_FILE_BYTES:
            yield Fault(file, 1, "file-size", f"{size / 1e6:.1f} MB; {MAX_FILE_BYTES / 1e6:.0f} MB are allowed a file")


def _unique_ids(lines: Sequence[Line]) -> Iterator[Fault]:
    first: dict[str, Line] = {}
    for line in lines:
        other = first.setdefault(line.record.id, line)
        if other is not line:
            yield _fault(line, "unique-id", f"id {line.record.id!r} is also that of {_place(other)}")


def _one_split(lines: Sequence[Line]) -> Iterator[Fault]:
    """Whatever was written together must be judged together, or the test split is no test."""
    first: dict[tuple[str, str], Line] = {}
    for line in lines:
        record = line.record
        for group, name in (("batch", record.batch), ("pair", record.pair), ("article", record.article)):
            if name is None:
                continue
            other = first.setdefault((group, name), line)
            if other.split != line.split:
                message = f"{group} {name!r} is in {line.split} and, at {_place(other)}, in {other.split}"
                yield _fault(line, "one-split", message)


def _pairs(lines: Sequence[Line]) -> Iterator[Fault]:
    """A pair shows what one changed fact does to the labels: two records, of different labels, and no more."""
    halves: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.record.pair is not None:
            halves[line.record.pair].append(line)
    for name, (first, *others) in halves.items():
        if not others:
            yield _fault(first, "pair", f"pair {name!r} has one record; a pair has two")
        for surplus in others[1:]:
            yield _fault(surplus, "pair", f"pair {name!r} has two records already, at {_place(first)} and after it")
        if len(others) == 1 and set(first.record.labels) == set(others[0].record.labels):
            yield _fault(others[0], "pair", f"pair {name!r} has the same labels here and at {_place(first)}")


def _exact_duplicates(lines: Sequence[Line]) -> Iterator[Fault]:
    first: dict[str, Line] = {}
    for line in lines:
        other = first.setdefault(fold(line.record.text), line)
        if other is not line:
            yield _fault(line, "duplicate", f"the same text as {_place(other)}")


def _near_duplicates(lines: Sequence[Line]) -> Iterator[Fault]:
    for pair in find_alike(lines):
        same = fold(pair.first.record.text) == fold(pair.second.record.text)
        if pair.crosses_splits and not same:
            message = f"{pair.similarity:.0%} like {_place(pair.first)} in {pair.first.split}"
            yield _fault(pair.second, "near-duplicate", message)


def leaks(lines: Sequence[Line], texts: Sequence[str]) -> Iterator[Fault]:
    """Records that repeat a text which is for measuring only."""
    whole = {fold(text) for text in texts}
    openings = {text[:LEAK_OPENING] for text in whole}
    known = set().union(*(grams(text, LEAK_GRAM) for text in texts))
    for line in lines:
        text = fold(line.record.text)
        own = grams(text, LEAK_GRAM)
        share = len(own & known) / len(own) if own else 0.0
        if (len(text) >= LEAK_OPENING and text[:LEAK_OPENING] in openings) or text in whole:
            yield _fault(line, "leak", "opens like a text of the benchmark")
        elif share >= LEAK_SHARE:
            yield _fault(line, "leak", f"shares {share:.0%} of its {LEAK_GRAM}-word runs with the benchmark")


def read_texts(path: Path) -> list[str]:
    """The ``text`` column of a TSV file.

    :raises InputError: the file cannot be read, has no such column or holds no texts.
    """
    texts = [row["text"] or "" for _, row in read_tsv(path, "text")]
    if not texts:
        raise InputError(f"{path}: holds no texts")
    return texts


def _fault(line: Line, rule: str, message: str) -> Fault:
    return Fault(line.file, line.number, rule, message)


def _place(line: Line) -> str:
    return f"{line.file.parent.name}/{line.file.name}:{line.number}"


def main(folder: Path, taxonomy: Path, benchmark: Path | None = None, *, published: bool = True) -> int:
    """Print every fault to stdout and a summary to stderr; the number of faults.

    :param published: see ``check_corpus``; what was imported from tables never is.
    """
    published = published and ImportReport.of(folder) is None
    faults = check_corpus(folder, Taxonomy.load(taxonomy), benchmark=benchmark, published=published)
    for fault in faults:
        print(fault)
    files = list(chain.from_iterable(corpus_files(folder).values()))
    lines = sum(len(file.read_bytes().splitlines()) for file in files)
    by_rule = ", ".join(f"{rule} {count}" for rule, count in Counter(fault.rule for fault in faults).most_common())
    print(
        f"{lines} records in {len(files)} files, {len(faults)} faults" + (f": {by_rule}" if by_rule else ""),
        file=sys.stderr,
    )
    return len(faults)
