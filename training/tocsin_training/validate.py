"""The corpus's own rules, checked; each breach names the file, the line and the rule.

Near-duplicates are found by MinHash (Broder 1997) with locality-sensitive hashing and then measured exactly, so a
report is never a hash's guess.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from tocsin.errors import InputError
from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import REASONS, REGISTERS, Line, Record, corpus_files

MIN_WORDS, MAX_WORDS = 4, 75
SHINGLE_WORDS = 3
NEAR_DUPLICATE = 0.5
"""Jaccard similarity of word trigrams from which two texts count as one."""
LEAK_OPENING = 60
LEAK_GRAM = 8
LEAK_SHARE = 0.1
"""Share of a record's word 8-grams that a benchmark may hold; stock phrases alone stay below it."""

_PERMUTATIONS = 64
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


def check_corpus(folder: Path, taxonomy: Taxonomy, *, benchmark: Path | None = None) -> list[Fault]:
    """Every breach in a corpus folder, in file order; an empty list means that it is sound.

    :param benchmark: a TSV file with a ``text`` column that no record may repeat.
    :raises CorpusError: a split has no files.
    :raises InputError: the benchmark cannot be read.
    """
    lines, faults = read_lines(folder)
    faults += chain.from_iterable(_check_record(line, taxonomy) for line in lines)
    for rule in (_unique_ids, _one_split, _exact_duplicates, _near_duplicates):
        faults += rule(lines)
    if benchmark is not None:
        faults += _leaks(lines, read_texts(benchmark))
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
        first = error.errors()[0]
        return Fault(file, number, "schema", f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}")
    return Line(record, split, file, number)


def _check_record(line: Line, taxonomy: Taxonomy) -> Iterator[Fault]:
    for rule, check in _RECORD_RULES.items():
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


_RECORD_RULES: dict[str, Callable[[Line, Taxonomy], Iterator[str]]] = {
    "labels": _labels,
    "reason": _reason,
    "register": _register,
    "batch": _batch,
    "length": _length,
    "characters": _characters,
}


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


def _exact_duplicates(lines: Sequence[Line]) -> Iterator[Fault]:
    first: dict[str, Line] = {}
    for line in lines:
        other = first.setdefault(normalize(line.record.text), line)
        if other is not line:
            yield _fault(line, "duplicate", f"the same text as {_place(other)}")


def _near_duplicates(lines: Sequence[Line]) -> Iterator[Fault]:
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

    all_shingles = [shingles(line.record.text, SHINGLE_WORDS) for line in lines]
    encoded = [[" ".join(gram).encode() for gram in grams] for grams in all_shingles]
    hashes = MinHash.bulk(encoded, num_perm=_PERMUTATIONS, seed=1)
    # The index is asked for a little less than the limit: the exact measure below has the last word.
    index = MinHashLSH(threshold=NEAR_DUPLICATE - 0.1, num_perm=_PERMUTATIONS)
    for number, (line, sketch) in enumerate(zip(lines, hashes, strict=True)):
        for other in sorted(index.query(sketch)):
            if lines[other].split == line.split:
                continue
            similarity = jaccard(all_shingles[number], all_shingles[other])
            if similarity >= NEAR_DUPLICATE and normalize(line.record.text) != normalize(lines[other].record.text):
                message = f"{similarity:.0%} like {_place(lines[other])} in {lines[other].split}"
                yield _fault(line, "near-duplicate", message)
        index.insert(number, sketch)


def _leaks(lines: Sequence[Line], texts: Sequence[str]) -> Iterator[Fault]:
    openings = {normalize(text)[:LEAK_OPENING] for text in texts}
    grams = set().union(*(_grams(text, LEAK_GRAM) for text in texts))
    for line in lines:
        text = normalize(line.record.text)
        own = _grams(text, LEAK_GRAM)
        share = len(own & grams) / len(own) if own else 0.0
        if (len(text) >= LEAK_OPENING and text[:LEAK_OPENING] in openings) or text in texts:
            yield _fault(line, "leak", "opens like a text of the benchmark")
        elif share >= LEAK_SHARE:
            yield _fault(line, "leak", f"shares {share:.0%} of its {LEAK_GRAM}-word runs with the benchmark")


def read_texts(path: Path) -> list[str]:
    """The ``text`` column of a TSV file.

    :raises InputError: the file cannot be read or has no such column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a TSV file: {error}") from error
    if not rows or "text" not in rows[0]:
        raise InputError(f"{path}: a TSV file with a column called text is needed")
    return [row["text"] or "" for row in rows]


def normalize(text: str) -> str:
    """Lower-case words and digits, one space between them."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def shingles(text: str, size: int) -> set[tuple[str, ...]]:
    """Word n-grams; a text shorter than that is one gram as a whole."""
    return _grams(text, size) or {tuple(normalize(text).split())}


def _grams(text: str, size: int) -> set[tuple[str, ...]]:
    words = normalize(text).split()
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    """Share of what is in either set that is in both."""
    return len(left & right) / len(left | right)


def _fault(line: Line, rule: str, message: str) -> Fault:
    return Fault(line.file, line.number, rule, message)


def _place(line: Line) -> str:
    return f"{line.file.parent.name}/{line.file.name}:{line.number}"


def main(folder: Path, taxonomy: Path, benchmark: Path | None = None) -> int:
    """Print every fault to stdout and a summary to stderr; the number of faults."""
    faults = check_corpus(folder, Taxonomy.load(taxonomy), benchmark=benchmark)
    for fault in faults:
        print(fault)
    files = list(chain.from_iterable(corpus_files(folder).values()))
    lines = sum(len(file.read_bytes().splitlines()) for file in files)
    print(f"{lines} records in {len(files)} files, {len(faults)} faults", file=sys.stderr)
    return len(faults)
