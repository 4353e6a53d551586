"""Files in, corpus folder and report out; the second time the same files are asked for, at once.

A corpus made here lies under its key: the hash of the files, the options and the taxonomy. It is complete or not there.
"""

from __future__ import annotations

import json
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tocsin.errors import InputError
from tocsin.language import detect_language
from tocsin.release import sha256
from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import IMPORTED, SPLITS, corpus_files, corpus_sha256, label_matrix
from tocsin_training.importing import events, generic
from tocsin_training.importing.checks import hints, judge
from tocsin_training.importing.dates import Order, may_be_two, parse_date
from tocsin_training.importing.doubts import MOST_TEXTS, can_doubt, find_doubts
from tocsin_training.importing.groups import (
    Groups,
    join_near_duplicates,
    splits_by_date,
    splits_by_hash,
    splits_by_share,
)
from tocsin_training.importing.layouts import NO_REASON, NO_SPLIT
from tocsin_training.importing.names import NameFinder, separator_of, suggest
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.progress import Foresight, Progress
from tocsin_training.importing.reading import (
    DATE,
    FileFacts,
    expand,
    file_facts,
    have_named,
    key_of,
    read_file,
    refusing,
)
from tocsin_training.importing.report import Doubt, FileReport, ImportReport, LabelCount, Together, UndecidedName
from tocsin_training.importing.store import Coding, Store, Text
from tocsin_training.importing.tables import Problem, shown

LEFT_OUT = "left-out.jsonl"
"""File in the corpus folder with the place and reason of all rows that were left out."""
REFUSED = "refused"
"""Folder with such files of what was refused, each under its key."""
_OWN = "own-corpus"
_KEPT_PROBLEMS, _KEPT_DOUBTS, _KEPT_NAMES, _KEPT_DATES, _KEPT_RIVALS = 100, 50, 300, 5, 3
_MOST_WAITING = 10_000
"""Rows that are left out and not in the store yet: in a file of another codebook they are nearly all."""
_LANGUAGES_OF = 20_000
_OF_CODERS = frozenset({generic.LAYOUT.name, events.LAYOUT.name})
"""Layouts in which a row says all of a text: where two differ, two people may."""
_SPLIT_NAMES = (
    ("train", "training"),
    ("validation", "valid", "val", "dev", "development", "eval", "evaluation"),
    ("test", "testing", "holdout", "hold-out", "heldout", "held-out", "held out"),
)
_GIVEN_SPLITS = {name: split for split, names in enumerate(_SPLIT_NAMES) for name in names}
"""What people write into a column of their own -> position in SPLITS."""


@dataclass(frozen=True)
class Imported:
    """What an import gave."""

    folder: Path | None
    """The corpus folder; none where the report refuses one."""
    report: ImportReport
    fresh: bool
    """Whether it was made now and not found."""
    left_out: Path | None = None
    """File with all rows that were left out; none where none were."""


@dataclass
class _Work:
    """What is known of the texts while a corpus is made: a few numbers for each, whatever they hold."""

    store: Store
    facts: list[FileFacts]
    options: ImportOptions
    taxonomy: Taxonomy
    report: ImportReport
    scratch: Path
    progress: Progress
    meanings: dict[tuple[str, ...], tuple[str, ...] | None] = field(default_factory=dict)
    """Names of a text -> its labels; none where it cannot be used."""
    ids: array[int] = field(default_factory=lambda: array("q"))
    strata: array[int] = field(default_factory=lambda: array("q"))
    days: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("Q"))

    @cached_property
    def finder(self) -> NameFinder:
        """Finds the labels of names."""
        return NameFinder(self.taxonomy, self.options.names)

    @cached_property
    def orders(self) -> list[Order | None]:
        """How each file writes day and month, where it can be known."""
        given = self.options.dates
        return [next(iter(each.orders)) if len(each.orders) == 1 else given for each in self.facts]

    @cached_property
    def names_splits(self) -> bool:
        """Whether the column that splits go by holds their names: train and a held-out one, in most of the texts."""
        if self.options.split_by in (None, DATE):
            return False
        texts = Counter[int | None]()
        for parts, count in self.store.part_counts():
            texts[max(_given_splits(parts), default=None)] += count
        train, validation, test = (texts[split] for split in range(len(SPLITS)))
        return train > 0 and validation + test > 0 and train + validation + test > texts[None]

    def place(self, text: Text) -> str:
        """Where a text stands first."""
        return f"{self.facts[text.file].path.name}:{text.line}"

    def labels(self, text: Text) -> tuple[str, ...] | None:
        """A text's labels; none where it cannot be used."""
        return None if self.names_splits and not _given_splits(text.parts) else self.meanings[text.names]

    def disputed(self, text: Text) -> bool:
        """Whether one row of a text that can be used says no event and another has labels."""
        if len(text.codings) < 2:
            return False
        return len({bool(self.finder.labels(coding.names)) for coding in text.codings}) > 1

    def codings(self, text: Text) -> list[tuple[Coding, tuple[str, ...]]]:
        """The first of a text's rows with each set of labels."""
        found = dict[tuple[str, ...], Coding]()
        for coding in text.codings:
            labels = self.finder.labels(coding.names)
            if not isinstance(labels, Problem):
                found.setdefault(tuple(sorted(labels)), coding)
        return [(coding, labels) for labels, coding in found.items()]

    def usable(self) -> Iterator[Text]:
        """The texts that can be used, in their order."""
        return (text for text in self.store.texts() if self.labels(text) is not None)

    def day(self, text: Text) -> str | None:
        """The earliest of its dates."""
        order = self.orders[text.file]
        return min(filter(None, (parse_date(each, order) for each in text.dates)), default=None)


def _folded(part: str) -> str:
    return part.strip().casefold()


def _given_splits(parts: tuple[str, ...]) -> set[int]:
    """The splits that a text's rows name, as positions in SPLITS."""
    return {_GIVEN_SPLITS[name] for name in map(_folded, parts) if name in _GIVEN_SPLITS}


def import_corpus(
    paths: Sequence[Path],
    root: Path,
    taxonomy_file: Path,
    options: ImportOptions | None = None,
    *,
    own_corpus: Path | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Make a corpus folder of files, or find the one made of them before.

    :param root: folder of all imported corpora.
    :param own_corpus: that `options.mix` takes records of.
    :param progress: told how far it is; none says nothing.
    :raises TocsinError: a file cannot be read at all, or the disk is too small. What is wrong with rows and labels is
        in the report.
    """
    options, progress = options or ImportOptions(), progress or Progress()
    begun = time.perf_counter()
    facts = [file_facts(path) for path in expand(paths)]
    taxonomy = Taxonomy.load(taxonomy_file)
    mixed = own_corpus if options.mix_share else None
    folder = root / _key(facts, options, taxonomy_file, mixed)
    if (found := ImportReport.of(folder)) is not None:
        return Imported(folder, found, fresh=False, left_out=folder / LEFT_OUT if found.dropped else None)
    with refusing(root), _scratch(root) as scratch, progress.shown():
        store = Store(Path(scratch) / "rows.sqlite")
        try:
            report = ImportReport(files=[], rows=0)
            work = _Work(store, facts, options, taxonomy, report, Path(scratch), progress)
            _survey(work)
            report.options = _changed(options)
            if not report.refusals:
                split = _split(work)
                _write(work, split, Path(scratch) / "corpus", mixed)
                _look_closer(work)
            judge(report, options, taxonomy, _hints(work))
            report.seconds = round(time.perf_counter() - begun, 3)
            if report.refusals:
                return Imported(None, report, fresh=True, left_out=_list_refused(work, root / REFUSED, folder.name))
            report.save(Path(scratch) / "corpus")
            _list_left_out(work, Path(scratch) / "corpus" / LEFT_OUT)
        finally:
            store.close()
        # People's texts are nobody else's business.
        (Path(scratch) / "corpus").chmod(0o700)
        (Path(scratch) / "corpus").rename(folder)
    return Imported(folder, report, fresh=True, left_out=folder / LEFT_OUT if report.dropped else None)


@contextmanager
def _scratch(root: Path) -> Iterator[str]:
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".importing-", dir=root) as scratch:
        yield scratch


def _key(facts: list[FileFacts], options: ImportOptions, taxonomy_file: Path, mixed: Path | None) -> str:
    return key_of(
        facts,
        options,
        taxonomy=sha256(taxonomy_file),
        mixed=None if mixed is None else corpus_sha256(mixed),
        doubts=options.label_errors and can_doubt(),
    )


def _changed(options: ImportOptions) -> dict[str, Any]:
    """Those that are not at their defaults, as plain data; of a file only its name and its hash, for they travel."""
    changed = options.model_dump(mode="json", exclude_defaults=True)
    if options.names is not None:
        changed["names"] = {"file": options.names.name, "sha256": sha256(options.names)}
    return changed


def _survey(work: _Work) -> None:
    """Read everything and find out what each row is."""
    report = work.report
    _read(work)
    report.files = [
        FileReport(
            name=each.path.name,
            layout=each.layout,
            format=each.format,
            rows=each.rows,
            bytes=each.size,
            sha256=each.sha256,
            lacks=each.lacks,
            ignored=each.ignored,
        )
        for each in work.facts
    ]
    report.rows = sum(each.rows for each in work.facts)
    report.html, report.openings = (sum(getattr(each, name) for each in work.facts) for name in ("html", "openings"))
    _number(work, _understand(work))
    report.dropped = work.store.problem_counts()
    report.problems = [
        f"{work.facts[file].path.name}:{line}: {reason}" + (f" ({rows:,} rows have this text)" if rows > 1 else "")
        for file, line, _, reason, rows in work.store.problems(_KEPT_PROBLEMS)
    ]
    judge(report, work.options, work.taxonomy, _hints(work))


def _read(work: _Work) -> None:
    """All rows of all files into the store."""
    begun, sizes = time.perf_counter(), [each.size for each in work.facts]
    foresight = Foresight(work.progress, work.scratch.parent, work.options)
    lenient = have_named([each.path for each in work.facts], work.options)
    for number, facts in enumerate(work.facts):
        work.progress.begin(f"reading {facts.path.name}")

        def told(share: float | None, number: int = number) -> None:
            rows = sum(each.rows for each in work.facts)
            work.progress.at(work.facts[number].rows, share)
            read = None if share is None else (sum(sizes[:number]) + share * sizes[number]) / sum(sizes)
            foresight.look(rows, read, work.store.bytes)

        read_file(number, facts, work.options, work.store, told, lenient=lenient)
    work.report.read_seconds = round(time.perf_counter() - begun, 3)


def _hints(work: _Work) -> dict[str, str]:
    return hints(b"".join(each.odd_bytes for each in work.facts))


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why names have no labels."""

    name: str
    """The one that spoils the others."""
    problem: Problem


def _understand(work: _Work) -> dict[tuple[str, ...], _Fault]:
    """Find the labels of every set of names.

    :return: names -> why not, where there are none.
    """
    finder, faults = work.finder, dict[tuple[str, ...], _Fault]()
    unknown, undecided = Counter[str](), Counter[str]()
    for packed, count in work.store.name_counts().items():
        names = tuple(json.loads(packed))
        found = finder.labels(names)
        if not isinstance(found, Problem):
            work.meanings[names] = found
            continue
        meanings = {name: finder.find(name) for name in names}
        unknown.update({name: count for name, each in meanings.items() if each.problem and not each.undecided})
        undecided.update({name: count for name, each in meanings.items() if each.undecided})
        work.meanings[names] = None
        faults[names] = _Fault(finder.name_at_fault(names, found), found)
    work.report.unknown_names = dict(unknown.most_common(_KEPT_NAMES))
    work.report.undecided_names = [
        UndecidedName(name=name, texts=texts, why=finder.why_undecided(name) or "")
        for name, texts in undecided.most_common()
    ]
    work.report.separator = separator_of(work.report.unknown_names, finder)
    work.report.suggestions = suggest(work.report.unknown_names, work.taxonomy)
    return faults


def _number(work: _Work, faults: dict[tuple[str, ...], _Fault]) -> None:
    """Count the texts, and note of each what its split depends on."""
    report, labels = work.report, Counter[str]()
    dropped: list[tuple[int, int, str, str, int]] = []
    # How rare a text's labels are is known when all are counted; until then each has the number of its set of labels.
    sets, numbers = dict[tuple[str, ...], int](), array("q")
    report.both_orders = [each.path.name for each in work.facts if len(each.orders) > 1]
    for text in work.progress.over("understanding labels", work.store.texts(), work.store.size()):
        found = work.labels(text)
        if found is None:
            dropped.append(_dropped(work, text, faults.get(text.names)))
            if len(dropped) >= _MOST_WAITING:
                work.store.add_problems(dropped)
                dropped.clear()
            continue
        labels.update(found)
        report.without_event.all += not found
        numbers.append(sets.setdefault(found, len(sets)))
        day = work.day(text)
        report.first, report.last = _widened(report.first, report.last, day)
        if day is None:
            _note_undated(report, text)
        if text.copies > 1 and work.facts[text.file].layout in _OF_CODERS:
            _note_coders(work, text)
        report.repeated += text.copies - 1 - text.merged
        report.merged += text.merged
        report.disputed += work.disputed(text)
        report.two_splits += work.names_splits and len(_given_splits(text.parts)) > 1
        work.ids.append(text.id)
        work.days.append(0 if day is None else date.fromisoformat(day).toordinal())
        work.keys.append(int.from_bytes(text.key[:8], "big"))
    work.store.add_problems(dropped)
    report.texts = len(work.ids)
    report.labels = {name: LabelCount(all=labels[name]) for name in work.taxonomy.names}
    position = {name: number for number, name in enumerate(sorted(labels, key=lambda name: (labels[name], name)))}
    rarest = [min((position[name] for name in names), default=-1) for names in sets]
    work.strata = array("q", (rarest[number] for number in numbers))


def _note_undated(report: ImportReport, text: Text) -> None:
    report.undated += 1
    report.unread += bool(text.dates)
    report.two_days += any(map(may_be_two, text.dates))
    if len(report.unread_dates) < _KEPT_DATES:
        report.unread_dates += [date for date in text.dates[:1] if date not in report.unread_dates]


def _note_coders(work: _Work, text: Text) -> None:
    """Whether the rows of a text, each of which some coder meant to be all of it, agree."""
    report, codings = work.report, work.codings(text)
    if len(codings) < 2:
        report.coded_once += 1
        return
    report.coded_twice += 1
    if len(report.coded_twice_at) < _KEPT_RIVALS:
        said = (
            f"{work.facts[coding.file].path.name}:{coding.line} {', '.join(labels) or 'no event'}"
            for coding, labels in codings[:2]
        )
        report.coded_twice_at.append(" but ".join(said))


def _dropped(work: _Work, text: Text, fault: _Fault | None) -> tuple[int, int, str, str, int]:
    """File, line, kind, reason and rows of a text that cannot be used; the line is that of the row at fault."""
    if fault is None:
        there = ", ".join(f"'{shown(part)}'" for part in text.parts or ("",))
        reason = f"the column {work.options.split_by} names no split but {there}"
        return text.file, text.line, NO_SPLIT, reason, text.copies
    row = text.coding_with(fault.name)
    return row.file, row.line, fault.problem.kind, fault.problem.reason, text.copies


def _widened(first: str | None, last: str | None, day: str | None) -> tuple[str | None, str | None]:
    if day is None:
        return first, last
    return min(first or day, day), max(last or day, day)


def _split(work: _Work) -> NDArray[np.int8]:
    """The split of each usable text, as a position in SPLITS."""
    options, report = work.options, work.report
    groups = Groups(len(work.ids))
    if work.names_splits:
        report.split_by = f"column {options.split_by}"
        # What one row is tested on, none is trained on: of several, the split furthest from training.
        return np.array([max(_given_splits(text.parts)) for text in work.usable()], dtype=np.int8)
    first_of: dict[str, int] = {}
    for position, text in enumerate(work.usable() if options.split_by not in (None, DATE) else ()):
        for part in text.parts or ("",):
            groups.join(first_of.setdefault(_folded(part), position), position)
    if options.near_duplicates:
        texts = work.progress.over("looking for near-duplicates", work.usable(), len(work.ids))
        report.near_duplicates = join_near_duplicates(
            groups,
            (text.text for text in texts),
            lambda position: work.store.text_of(work.ids[position]),
            work.scratch,
        )
    leaders, days, strata = groups.leaders(), np.array(work.days, np.int64), np.array(work.strata, np.int64)
    if options.split_by is not None:
        report.together = _most_together(work, leaders, days)
    if options.split_by == DATE:
        report.split_by = "date, the newest to test"
        return splits_by_date(leaders, days, options.held_out)
    keys = np.array(work.keys, dtype=np.uint64)
    if options.split_by is not None:
        report.split_by = f"column {options.split_by}, each value in one split"
        return splits_by_share(leaders, strata, keys, options.held_out)
    return splits_by_hash(leaders, strata, days, keys, options.held_out)


def _most_together(work: _Work, leaders: NDArray[np.int64], days: NDArray[np.int64]) -> Together | None:
    """What `--split-by` keeps in one split and has the most texts; none where no text has a date."""
    by_date = work.options.split_by == DATE
    values, counts = np.unique(days[days > 0] if by_date else leaders, return_counts=True)
    if not len(values):
        return None
    most = values[counts.argmax()]
    if by_date:
        value = date.fromordinal(int(most)).isoformat()
    else:
        # Values that share a text are kept together, too: the commonest names them.
        of_it = (text.parts for leader, text in zip(leaders, work.usable(), strict=True) if leader == most)
        value = Counter(part for parts in of_it for part in parts or ("",)).most_common(1)[0][0]
    return Together(value=value, texts=int(counts.max()), groups=len(values))


def _write(work: _Work, split: NDArray[np.int8], folder: Path, mixed: Path | None) -> None:
    """The corpus folder, a text at a time."""
    report = work.report
    files: dict[str, IO[str]] = {}
    try:
        for name in SPLITS:
            (folder / name).mkdir(parents=True)
            files[name] = (folder / name / f"{IMPORTED}.jsonl").open("w", encoding="utf-8")
        texts = work.progress.over("writing", work.usable(), len(split))
        for position, text in zip(split, texts, strict=True):
            name = SPLITS[position]
            labels = work.labels(text) or ()
            files[name].write(json.dumps(_record(work, text, labels), ensure_ascii=False) + "\n")
            for count in [report.labels[label] for label in labels] or [report.without_event]:
                setattr(count, name, getattr(count, name) + 1)
    finally:
        for file in files.values():
            file.close()
    report.splits = {name: int((split == number).sum()) for number, name in enumerate(SPLITS)}
    if mixed is not None:
        _mix(work, folder, mixed)
    if all(report.splits.values()):
        report.sha256 = corpus_sha256(folder)


def _record(work: _Work, text: Text, labels: tuple[str, ...]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": f"{IMPORTED}-{text.key.hex()}",
        "text": text.text,
        "labels": labels,
        "register": IMPORTED,
        "batch": IMPORTED,
        "annotations": {"writer": labels},
        "origin": work.place(text),
    }
    if not labels:
        record["reason"] = text.reason or NO_REASON
    return record | ({"date": day} if (day := work.day(text)) else {})


def _mix(work: _Work, folder: Path, own: Path) -> None:
    """Records of the project's corpus beside the user's, to learn and to calibrate from; never to test on."""
    report = work.report
    for name in SPLITS[:2]:
        wanted = work.options.mixed_with(report.splits[name])
        paths = corpus_files(own)[name]
        there = sum(len(path.read_bytes().splitlines()) for path in paths)
        taken = {row * there // wanted for row in range(wanted)} if wanted < there else set(range(there))
        lines = (line for path in paths for line in path.read_text(encoding="utf-8").splitlines())
        with (folder / name / f"{_OWN}.jsonl").open("w", encoding="utf-8") as file:
            for number, line in enumerate(lines):
                if number in taken:
                    _refuse_other_labels(own, json.loads(line)["labels"], work.taxonomy)
                    file.write(line + "\n")
        report.mixed[name] = len(taken)


def _refuse_other_labels(own: Path, labels: list[str], taxonomy: Taxonomy) -> None:
    if other := [label for label in labels if label not in taxonomy.names]:
        raise InputError(
            f"{own}: has the label {other[0]!r}, which this taxonomy lacks, so it cannot be mixed in; use --mix none"
        )


def _look_closer(work: _Work) -> None:
    """Languages and doubtful labels, of a sample where there are many texts."""
    report = work.report
    work.progress.begin("looking at languages and labels")
    sample = list(_sampled(work, _LANGUAGES_OF))
    languages = Counter(detect_language(text.text, ("en",)) for text in sample)
    report.languages_of = len(sample)
    report.languages = {name: round(count / len(sample), 4) for name, count in languages.most_common()}
    if work.options.label_errors and can_doubt():
        sample = list(_sampled(work, MOST_TEXTS))
        truth = label_matrix([list(work.labels(text) or ()) for text in sample], work.taxonomy)
        report.doubts_of = len(sample)
        names = np.array(work.taxonomy.names)
        report.doubts = [
            Doubt(
                place=work.place(sample[row]),
                text=sample[row].text[:200],
                given=tuple(names[truth[row]].tolist()),
                likely=tuple(names[likely].tolist()),
            )
            for row, likely in find_doubts([text.text for text in sample], truth)[:_KEPT_DOUBTS]
        ]


def _list_refused(work: _Work, folder: Path, key: str) -> Path | None:
    """The list of what was left out of data that are refused: they are to be mended by it."""
    if not work.report.dropped:
        return None
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{key}-{LEFT_OUT}"
    _list_left_out(work, path)
    return path


def _list_left_out(work: _Work, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, line, kind, reason, rows in work.store.problems():
            name = work.facts[number].path.name
            entry = {"file": name, "line": line, "kind": kind, "reason": reason, "rows": rows}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _sampled(work: _Work, most: int) -> Iterator[Text]:
    step = -(-len(work.ids) // most)
    return (text for number, text in enumerate(work.usable()) if number % step == 0)
