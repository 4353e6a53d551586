"""The figures in the corpus's card, each made from the corpus: written between marks, so that people write the rest.

A section stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``. A section whose source is not at hand (the
benchmark's file is nobody's to publish) is left as it was written when it was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.taxonomy import Taxonomy
from tocsin_training.agreement import (
    KAPPA_WANTED,
    NO_EVENT,
    Agreement,
    figure,
    labels_grid,
    measure_agreement,
    measure_by_split,
    splits_grid,
)
from tocsin_training.corpus import REASONS, SPLITS, Line, corpus_files, corpus_sha256, count_pairs
from tocsin_training.coverage import accuracy_grid, empty_grid, measure_coverage
from tocsin_training.cues import batches_grid, cues_by_batch, cues_by_split
from tocsin_training.cues import splits_grid as closing_forms_grid
from tocsin_training.duplicates import count_alike, find_alike
from tocsin_training.duplicates import grid as duplicates_grid
from tocsin_training.errors import CorpusError
from tocsin_training.gazetteer import measure as measure_gazetteer
from tocsin_training.joint_coverage import counts_grid, measure_joint
from tocsin_training.offensive import offensive_words
from tocsin_training.people import namings
from tocsin_training.regions import NOWHERE
from tocsin_training.report import markdown_table
from tocsin_training.tics import find_tics, worst_of_each
from tocsin_training.variety import grid as variety_grid
from tocsin_training.variety import measure_variety

if TYPE_CHECKING:
    from tocsin_training.learning_curve import Point

_MOST_SHOWN = 12
"""Rows of a table that goes on."""
_SECTION = "<!-- begin {name} -->\n{text}<!-- end {name} -->"


def sections(
    lines: Sequence[Line], taxonomy: Taxonomy, folder: Path, beside: Path, *, benchmark: Path | None = None
) -> dict[str, str]:
    """The card's sections by name, in Markdown.

    :param folder: the corpus that the lines were read from.
    :param beside: the card's folder, where the learning curve lies once it is measured.
    :raises InputError: the benchmark cannot be read.
    """
    found = {
        "composition": _composition(lines, folder),
        "labels": _labels(lines, taxonomy),
        "reasons": _reasons(lines),
        "splits": _splits(lines),
        "coverage": _coverage(lines, taxonomy),
        "agreement": _agreement(lines, taxonomy),
        "closing forms": _closing_forms(lines),
        "phrases": worst_of_each(find_tics([line.record for line in lines], most=1), _MOST_SHOWN).markdown(),
        "duplicates": duplicates_grid(count_alike(lines, find_alike(lines))).markdown(),
        "decency": _decency(lines),
    }
    if benchmark is not None:
        found["leak"] = _leak(lines, benchmark)
    if curve := _learning_curve(folder, beside):
        found["learning curve"] = curve
    return found


def coverage_sections(lines: Sequence[Line], taxonomy: Taxonomy) -> dict[str, str]:
    """The sections of the page with every coverage table."""
    joints = measure_joint(lines, taxonomy)
    return (
        {f"by {coverage.by}": coverage.grid().markdown() for coverage in measure_coverage(lines, taxonomy)}
        | {"cells of three": counts_grid(joints).markdown()}
        | {f"empty by {joint.by}": joint.grid().markdown() for joint in joints if joint.of == "label"}
        | {"ways of telling": variety_grid(measure_variety(lines)).markdown()}
    )


def write_sections(path: Path, texts: Mapping[str, str], check: bool = False) -> list[str]:
    """Put the texts between their marks; the names of those that were not so before.

    :param check: leave the file as it is.
    :raises CorpusError: the file has no marks for one, or cannot be read.
    """
    try:
        before = after = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error
    stale = []
    for name, text in texts.items():
        written = _SECTION.format(name=name, text=text)
        pattern = re.compile(_SECTION.format(name=re.escape(name), text="(?s:.*?)"))
        if not (there := pattern.search(after)):
            raise CorpusError(
                f"{path}: has no place for {name!r}; put in <!-- begin {name} --> and <!-- end {name} -->"
            )
        if there[0] != written:
            stale.append(name)
            after = after[: there.start()] + written + after[there.end() :]
    if after != before and not check:
        path.write_text(after, encoding="utf-8")
    return stale


def _composition(lines: Sequence[Line], folder: Path) -> str:
    records = [line.record for line in lines]
    countries = {record.country for record in records} - {None, NOWHERE}
    files = [file for of_split in corpus_files(folder).values() for file in of_split]
    return (
        f"{len(records):,} records in {len({record.batch for record in records})} batches, one file each (the largest "
        f"{max(file.stat().st_size for file in files) / 1e6:.2f} MB). "
        f"{sum(not record.labels for record in records):,} have no label, "
        f"{sum(len(record.labels) > 1 for record in records):,} have two or more; "
        f"{count_pairs(records):,} contrast pairs; "
        f"{len({record.article for record in records} - {None}):,} articles told sentence by sentence. "
        f"{sum(record.country is not None for record in records):,} records name their country, "
        f"{len(countries)} countries and territories in all.\n"
    )


def _labels(lines: Sequence[Line], taxonomy: Taxonomy) -> str:
    counts = Counter((label, line.split) for line in lines for label in set(line.record.labels))
    return _by_split([(f"`{name}`", name) for name in taxonomy.names], counts, "label")


def _reasons(lines: Sequence[Line]) -> str:
    counts = Counter((line.record.reason or "", line.split) for line in lines)
    return _by_split([(f"`{name}`", name) for name in sorted(REASONS)], counts, "reason for no label")


def _by_split(rows: Sequence[tuple[str, str]], counts: Mapping[tuple[str, str], int], head: str) -> str:
    cells = [(shown, [counts.get((name, split), 0) for split in SPLITS]) for shown, name in rows]
    return markdown_table((head, *SPLITS, "all"), [(shown, *map(str, row), str(sum(row))) for shown, row in cells])


def _splits(lines: Sequence[Line]) -> str:
    rows = []
    for split in SPLITS:
        own = [line.record for line in lines if line.split == split]
        without = sum(not record.labels for record in own)
        rows.append((split, f"{len(own):,}", str(len({record.batch for record in own})), f"{without / len(own):.1%}"))
    return markdown_table(("split", "records", "batches", "without event"), rows)


def _coverage(lines: Sequence[Line], taxonomy: Taxonomy) -> str:
    empty = empty_grid(measure_coverage(lines, taxonomy)).markdown()
    return f"{empty}\n{accuracy_grid(measure_gazetteer([line.record for line in lines])).markdown()}"


def _agreement(lines: Sequence[Line], taxonomy: Taxonomy) -> str:
    agreement = measure_agreement([line.record for line in lines], taxonomy)
    by_split = measure_by_split(lines, taxonomy)
    by_label = labels_grid(agreement, by_split)
    rows = [(f"`{row[0]}`" if row[0] != NO_EVENT else row[0], *row[1:]) for row in by_label.rows]
    return (
        f"{_agreed(agreement)}\nBy split:\n\n{splits_grid(by_split).markdown()}\n"
        f"Kappa by label and split, least agreed over all first:\n\n{markdown_table(by_label.heads, rows)}"
    )


def _agreed(agreement: Agreement) -> str:
    counts = agreement.counts
    exact = "-" if agreement.exact_match is None else f"{agreement.exact_match:.1%}"
    below = ", ".join(row.name for row in agreement.below)
    return (
        f"Of {counts.records:,} records {counts.labelled_twice:,} have a second reading. {exact} of these got exactly "
        f"the same labels; Cohen's kappa, a whole set of labels taken as one answer, is {figure(agreement.kappa)}, "
        f"Krippendorff's alpha with the MASI distance {figure(agreement.alpha_masi)}, Cohen's kappa for \"no event\" "
        f"{figure(agreement.no_event.kappa)}. Under a kappa of {KAPPA_WANTED} over all: {below or 'no label'}. Of "
        f"{counts.parted:,} disagreements a third look decided {counts.decided_by_a_third:,}, "
        f"{counts.not_decided_yet:,} are open; {counts.ambiguous:,} records are marked `ambiguous`. In "
        f"{counts.revised:,} more a third look changed what both had given, after a rule was sharpened.\n"
    )


def _closing_forms(lines: Sequence[Line]) -> str:
    widest = batches_grid(cues_by_batch(lines, _MOST_SHOWN)).markdown()
    return f"{closing_forms_grid(cues_by_split(lines)).markdown()}\n{widest}"


def _decency(lines: Sequence[Line]) -> str:
    rough = sum(bool(offensive_words(line.record.text)) for line in lines)
    named = [{naming.allowed for naming in namings(line.record.text)} for line in lines]
    return (
        f"{rough:,} records hold a word of the list of offensive words; {sum(True in seen for seen in named):,} name a "
        f"head of state or of government in passing, {sum(False in seen for seen in named):,} name a known person in "
        f"another way.\n"
    )


def _leak(lines: Sequence[Line], benchmark: Path) -> str:
    from tocsin_training.validate import leaks, read_texts

    texts = read_texts(benchmark)
    return (
        f"Held against the {len(texts):,} texts of `{benchmark.name}` (CASE 2021 task 2, no part of this project): "
        f"{len(list(leaks(lines, texts))):,} of {len(lines):,} records repeat one.\n"
    )


def _learning_curve(folder: Path, beside: Path) -> str | None:
    from tocsin_training.learning_curve import FILE, curves, grid, read_points

    found = curves(read_points(beside / FILE))
    if not found:
        return None
    now = corpus_sha256(folder)
    told = []
    for points in found:
        first = points[0]
        note = "Measured on an earlier state of this corpus.\n\n" if first.corpus_sha256 != now else ""
        told.append(f"{_recipe_of(first) if len(found) > 1 else ''}{note}{grid(points).markdown()}")
    picture = Path(FILE).with_suffix(".png")
    of = " of the last table" if len(found) > 1 else ""
    drawn = f"\n![F1 over the number of training records{of}]({picture})\n" if (beside / picture).is_file() else ""
    return "\n".join(told) + drawn


def _recipe_of(point: Point) -> str:
    """What tells one curve from another, for people."""
    recipe = "not recorded" if point.recipe_sha256 is None else f"`{point.recipe_sha256[:8]}`"
    epochs = "" if point.epochs is None else f", {point.epochs:g} epochs"
    augmented = "" if point.augmented is None else f", {'with' if point.augmented else 'without'} augmentation"
    table = "" if point.mix is None else f", from tables of one's own (`--mix {point.mix}`)"
    return f"Recipe {recipe}{epochs}{augmented}{table}:\n\n"
