"""Whether to train on what was imported: what speaks against it, and what a person should know before they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tocsin.language import UNKNOWN
from tocsin.taxonomy import Taxonomy
from tocsin_training.corpus import SPLITS
from tocsin_training.importing.layouts import DISAGREE, NO_LABELS, NO_SPLIT, NO_TEXT, NOT_CODED, UNSOUND
from tocsin_training.importing.names import UNKNOWN_NAME, suggest_merges
from tocsin_training.importing.options import ImportOptions
from tocsin_training.importing.reading import DATE
from tocsin_training.importing.report import ImportReport, Together
from tocsin_training.importing.tables import guess_encoding, shown, shown_list

LEAST_TEXTS = 50
FEW = 10
_MANY_NAMES = 12
_MOST_ROWS = 0.5
"""Share of rows from which on their being left out is why there is too little of something."""
NO_FAULTS = frozenset({NOT_CODED, UNSOUND})
"""Kinds of rows that are left out and counted, however many they are."""
_FOREIGN_SHARE = 0.05
_COMMON_SHARE = 0.2
"""Of texts in several rows; from there on that their labels differ is no slip here and there."""
_FAR = 2
"""Times more texts than asked for, or fewer, from which on it is told."""
_UNDATED_SHARE = 0.05
_SHOWN_SPELLINGS = 3


def hints(odd_bytes: bytes) -> dict[str, str]:
    """What to do about each kind of problem with rows."""
    encoding = guess_encoding(odd_bytes) if odd_bytes else None
    like = f" (it looks like {encoding}: --encoding {encoding} reads what is not UTF-8 so)" if encoding else ""
    return {
        "encoding": f"save the file as UTF-8 in one go; if only some rows are affected, it mixes encodings{like}",
        "cells": "put a cell that holds the delimiter or a line break into quotes, or name the --delimiter",
        "line break": "double the quotes within a quoted cell and close it, or take the line break out of the text",
        "json": "each line must be one JSON object",
        NO_TEXT.kind: "name the right --text-column, or take the rows out",
        UNKNOWN_NAME: 'give the label of each such name ("" for no event) in a --names file; --suggest-names FILE '
        "writes a beginning",
        "annotations": "export the tasks from Label Studio again",
        NO_LABELS: "give every row the field; empty means no event",
        NO_SPLIT: "say in each row whether it is for train, validation (dev, eval) or test (holdout)",
        DISAGREE: "decide these tasks, or export one annotation of each",
        NOT_CODED: "code them, or say what an empty cell means: --empty no-event",
        UNSOUND: "decide such names in a --names file (--suggest-names FILE writes a beginning), give a --taxonomy "
        "that has them (datasets/taxonomies/acled-nine-types.toml has ACLED's of before 2019), or leave these rows out",
    }


def judge(report: ImportReport, options: ImportOptions, taxonomy: Taxonomy, what_to_do: dict[str, str]) -> None:
    """Write refusals and warnings into a report, in place of those it had."""
    report.refusals = list(_refusals(report, options, taxonomy, what_to_do))
    report.warnings = list(_warnings(report, options, what_to_do))


def _refusals(
    report: ImportReport, options: ImportOptions, taxonomy: Taxonomy, what_to_do: dict[str, str]
) -> Iterator[str]:
    faulty = {kind: rows for kind, rows in report.dropped.items() if kind not in NO_FAULTS}
    told = sum(faulty.values()) > options.bad_rows * report.rows
    if told:
        yield _too_many_bad(report, faulty, options, what_to_do)
    faults = list(_faults_of_the_rest(report, options)) if report.texts else ["no row can be used"]
    if faults and sum(report.dropped.values()) > _MOST_ROWS * report.rows:
        # More texts is what these would ask for, and there are more: those that were left out.
        untold = {kind: rows for kind, rows in report.dropped.items() if not told or kind not in faulty}
        if untold:
            yield _left_out(report, untold, what_to_do)
    else:
        yield from faults
    if report.texts and options.split_by == DATE and _too_few_dates(report):
        yield (
            f"{report.undated:,} of {report.texts:,} texts have no date that can be read"
            f"{_such_as(report.unread_dates)}, which --split-by date needs: "
            + "; ".join((*_about_dates(report), "another column is named with --date-column"))
        )


def _too_few_dates(report: ImportReport) -> bool:
    return report.undated > _UNDATED_SHARE * report.texts


def _about_dates(report: ImportReport) -> Iterator[str]:
    """What to do about dates that cannot be read, by what is wrong with them."""
    if report.two_days and report.both_orders:
        yield (
            f"{shown_list(report.both_orders)} holds both orders of day and month, so that 05/08/2024 may be either: "
            "write such dates as 2024-08-05, put the rows of each order into a file of their own, or, if nearly all "
            "are of one order, say --dates day-first or month-first for those that may be two"
        )
    elif report.two_days:
        yield "say --dates day-first or month-first, for no date of the file tells what 05/08/2024 is"
    if report.unread > report.two_days:
        yield (
            "a day is read from 2024-08-25, 20240825, 25 August 2024, August 25, 2024 and 25/08/2024, and none from a "
            "year or a month alone, or from words"
        )


def _faults_of_the_rest(report: ImportReport, options: ImportOptions) -> Iterator[str]:
    """Why the texts that can be used do not suffice."""
    used = [name for name, count in report.labels.items() if count.all]
    if len(used) + bool(report.without_event.all) < 2:
        what = used[0] if used else "no event"
        yield (
            f"every text is labelled {what}: there is nothing to tell apart; add texts of other labels or of no event "
            "(your own: --mix adds to what is learned, and the test is of your texts alone)"
        )
    if report.texts < LEAST_TEXTS:
        yield (
            f"{report.texts} texts are too few to train and to measure; at least {LEAST_TEXTS} are needed, "
            f"and a label is learned from some {FEW} upwards"
        )
    elif report.splits and not all(report.splits.values()):
        empty = ", ".join(name for name, count in report.splits.items() if not count)
        yield f"nothing is left for {empty}: {_why_empty(report, options)}"


def _left_out(report: ImportReport, kinds: dict[str, int], what_to_do: dict[str, str]) -> str:
    """That a file's other rows were left out is why what can be used of it does not suffice."""
    rest = f"the {report.texts:,} texts that remain do not suffice" if report.texts else "no row can be used"
    lines = [f"{sum(report.dropped.values()):,} of {report.rows:,} rows were left out, and {rest}:"]
    lines += [f"  {kind}, {rows:,} rows: {what_to_do[kind]}" for kind, rows in kinds.items()]
    if UNSOUND in kinds:
        lines += [
            f"    '{shown(each.name)}' ({each.texts:,} texts): {each.why}"
            for each in report.undecided_names[:_MANY_NAMES]
        ]
    lines += [f"    {line}" for line in report.problems[:5] if kinds.keys() - {UNSOUND}]
    return "\n".join(lines)


def _such_as(examples: Sequence[str]) -> str:
    return f" (such as {', '.join(repr(shown(each)) for each in examples)})" if examples else ""


def _why_empty(report: ImportReport, options: ImportOptions) -> str:
    if report.split_by == f"column {options.split_by}":
        return "no row that can be used has its name there; train, validation (dev, eval) and test (holdout) are needed"
    if (most := report.together) is None:
        return "what --split-by keeps together is too big; split by something else"
    return (
        f"{_kept_together(report, most, options)}. {_SPLIT_OTHERWISE}, or give texts of more "
        f"{'days' if options.split_by == DATE else 'values'}"
    )


_SPLIT_OTHERWISE = "Split by something else (--split-by COLUMN) or by nothing (without it)"


def _kept_together(report: ImportReport, most: Together, options: ImportOptions) -> str:
    """Why shares are not what was asked for."""
    have = f"{most.texts:,} of the {report.texts:,} texts have"
    if options.split_by == DATE:
        return f"{have} the date {most.value}, one of {most.groups:,} in all, and a day is in one split as a whole"
    return (
        f"{have} '{shown(most.value)}' in {options.split_by}, or values that share texts with it, one of "
        f"{most.groups:,} groups of values in all, and such a group is in one split as a whole"
    )


def _too_many_bad(
    report: ImportReport, faulty: dict[str, int], options: ImportOptions, what_to_do: dict[str, str]
) -> str:
    share = sum(faulty.values()) / report.rows
    lines = [f"{share:.0%} of the rows cannot be used (--bad-rows allows {options.bad_rows:.0%}):"]
    lines += [f"  {kind}, {rows:,} rows: {what_to_do[kind]}" for kind, rows in faulty.items()]
    lines += [f"    {line}" for line in report.problems[:5]]
    if report.unknown_names:
        lines += _unknown_names(report)
    if report.separator is not None:
        mark = repr(report.separator)
        lines.append(f"  they look like several names with {mark} between them: --separator {mark} takes them apart")
    return "\n".join(lines)


def _unknown_names(report: ImportReport) -> Iterator[str]:
    """The names that are no label's, a line for those that may be spellings of one."""
    names, meant = report.unknown_names, report.suggestions
    merges = suggest_merges(names)
    alike = dict[str, list[str]]()
    for name in names:
        alike.setdefault(meant.get(name) or merges.get(name, name), []).append(name)
    texts = {one: sum(names[name] for name in spellings) for one, spellings in alike.items()}
    yield "  names that are no label's:"
    ranked = sorted(alike, key=lambda one: -texts[one])
    for one in ranked[:_MANY_NAMES]:
        spellings = alike[one]
        listed = ", ".join(f"'{shown(name)}'" for name in spellings[:_SHOWN_SPELLINGS])
        more = f" and {len(spellings) - _SHOWN_SPELLINGS} more" if len(spellings) > _SHOWN_SPELLINGS else ""
        perhaps = f", perhaps {one}" if spellings[0] in meant else ""
        yield f"    {listed}{more} ({texts[one]:,} texts{perhaps})"
    if len(ranked) > _MANY_NAMES:
        yield f"    and {len(ranked) - _MANY_NAMES} more"
    if 2 * sum(names[name] for name in meant) < sum(names.values()):
        yield (
            "  if they are labels of another list, and no spellings of these: --taxonomy derive takes them as they "
            "are, --taxonomy FILE names the list"
        )


def _warnings(report: ImportReport, options: ImportOptions, what_to_do: dict[str, str]) -> Iterator[str]:
    for kind, rows in report.dropped.items():
        yield f"{rows:,} rows left out, {kind}: {what_to_do[kind]}"
    for file in report.files:
        if file.lacks:
            yield f"{file.name} has no column {shown_list(file.lacks)}, so its own were read, those of {file.layout}"
        for name in file.ignored:
            option = f"--{name.replace('_', '-')}"
            yield f"{option} plays no part in {file.name}, for its layout, {file.layout}, has labels of another form"
    if report.texts:
        yield from _of_codings(report)
        yield from _of_dates(report, options)
        yield from _of_splits(report, options)
        yield from _of_labels(report)
        yield from _of_mix(report, options)
        yield from _of_languages(report)
    if report.texts and any(file.layout == "ACLED" for file in report.files):
        yield "ACLED's terms apply to its data and to what is made of it: docs/retraining.md"


def _of_mix(report: ImportReport, options: ImportOptions) -> Iterator[str]:
    """That the project's corpus is too small for the share that was asked for."""
    for name, mixed in report.mixed.items():
        if mixed < options.mixed_with(report.splits[name]):
            share = mixed / (mixed + report.splits[name])
            yield (
                f"--mix {options.mix} came to {share:.2g} of what is for {name}: the recipe's corpus has {mixed:,} "
                f"records there, and all of them are beside your {report.splits[name]:,} texts"
            )


def _of_codings(report: ImportReport) -> Iterator[str]:
    if not report.without_event.all and not report.mixed:
        yield (
            "no text is without event, so a model learns to find one in everything; "
            "code such texts too, or add the project's with --mix 0.3"
        )
    if report.disputed:
        yield (
            f"{report.disputed:,} texts are called no event in one row and given labels in another; the labels stand: "
            "decide such texts, and take the other rows out"
        )
    in_several = report.coded_twice + report.coded_once
    if report.coded_twice > _COMMON_SHARE * in_several:
        yield (
            f"{report.coded_twice:,} of {in_several:,} texts that stand in several rows have other labels in one than "
            f"in another, and are given all of them: {'; '.join(report.coded_twice_at)}. That is right where each row "
            "tells one event of several; where coders disagree, decide such texts first"
        )


def _of_dates(report: ImportReport, options: ImportOptions) -> Iterator[str]:
    if report.unread and not (options.split_by == DATE and _too_few_dates(report)):
        yield (
            f"{report.unread:,} of {report.texts:,} texts have a date that cannot be read"
            f"{_such_as(report.unread_dates)}: {'; '.join(_about_dates(report))}"
        )


def _of_splits(report: ImportReport, options: ImportOptions) -> Iterator[str]:
    if report.two_splits:
        yield (
            f"{report.two_splits:,} texts are in rows of different splits; they are tested on where one row says test, "
            "else validated on, and trained on in no case: keep all rows of a text in one split"
        )
    held = [report.splits.get(name, 0) for name in SPLITS[1:]]
    asked = options.held_out * report.texts / len(held)
    near = all(asked / _FAR <= texts <= asked * _FAR for texts in held)
    if report.together is not None and all(held) and not near:
        yield (
            f"--held-out {options.held_out:g} asks for some {asked:.0f} texts each to validate and to test on; there "
            f"are {held[0]:,} and {held[1]:,}, and {report.splits['train']:,} to train on: "
            f"{_kept_together(report, report.together, options)}. {_SPLIT_OTHERWISE} if that is not what you want"
        )


def _of_labels(report: ImportReport) -> Iterator[str]:
    missing = [name for name, count in report.labels.items() if not count.all]
    if missing and not report.mixed:
        yield f"no text has these labels, so a model will not give them: {', '.join(missing)}"
    few = [name for name, count in report.labels.items() if 0 < count.all < FEW]
    if few:
        yield f"fewer than {FEW} texts have these labels, too few to rely on: {', '.join(few)}"
    # What is mixed in may have them.
    if not report.mixed and report.splits and all(report.splits.values()):
        yield from _unlearned(report)


def _unlearned(report: ImportReport) -> Iterator[str]:
    """Labels that there are texts of, and none where one is needed."""
    used = {name: count for name, count in report.labels.items() if count.all}
    if held := [name for name, count in used.items() if not count.train]:
        yield (
            "no text to train on has these labels, for their texts are held out, so a model will not give them: "
            f"{', '.join(held)}; give more texts of them, or split otherwise"
        )
    if unseen := [name for name, count in used.items() if count.train and not count.validation]:
        yield (
            "no text to validate on has these labels, so nothing tells from which probability on they hold: "
            f"{', '.join(unseen)}"
        )


def _of_languages(report: ImportReport) -> Iterator[str]:
    foreign = {name: share for name, share in report.languages.items() if name not in ("en", UNKNOWN)}
    if sum(foreign.values()) > _FOREIGN_SHARE:
        said = ", ".join(f"{name} {share:.0%}" for name, share in list(foreign.items())[:5])
        yield (
            f"texts in other languages than English: {said}; the base models read English, and answers to other "
            "languages are withheld unless the recipe's export.languages names them"
        )
