"""What so many labelled rows buy a person who trains on their own: the project's corpus in the place of their table.

Some of the corpus's training texts, drawn by the seed, are written as a coder's CSV file, and this goes the way of
`tocsin train --data FILE`: import, split, the recipe as that makes it, every stage up to a release with its thresholds.
What is measured is the release as it answers, on the corpus's own test split, which is not in the table.

A seed draws other rows and other weights, so the spread over seeds is that between people with so many rows. A fifth
of the rows is held out, as of any table: of 500 about 400 are learned from. Two things flatter: the texts are clean and
labelled with care, and the test is of the same writing. With ``--mix`` a third does: the records that are mixed in are
of that writing, too, and may now and then be those of the table.
"""

from __future__ import annotations

import csv
import random
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from tocsin.errors import InputError, UsageError
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import Settings
from tocsin_training.experiment import run_until, with_seed
from tocsin_training.importing.cli import import_for, recipe_for, refusal
from tocsin_training.importing.options import NO_MIX, ImportOptions

_FOLDER = "own-rows"
_TEXT, _CODE, _NOTHING = "note", "code", "no event"
_LAST = "calibrate"
"""The stage after which a release answers as it will; those after it make the cascade, judge and describe."""


def try_rows(settings: Settings, rows: int, seed: int, console: Console, *, mix: str = NO_MIX) -> dict[str, Any]:
    """Train on a table of so many rows as its owner would, measure the release, and throw everything away.

    A try that was stopped goes on where it was, for the same draw makes the same table and the same import.

    :param settings: the recipe over which `--data` is given, with the corpus that is drawn from and measured on.
    :param mix: as `--mix` takes it.
    :return: ``records`` learned from, figures under ``FIGURES``' keys, ``false_alarms`` (share of eventless texts that
        are given a label), ``sent_to_review`` (share), and the ``minutes`` that all stages took.
    :raises UsageError: the corpus has fewer texts to draw from.
    :raises InputError: the import refuses the table, as it would refuse its owner.
    """
    table = write_table(settings, rows, seed)
    options = ImportOptions(text_column=_TEXT, label_column=(_CODE,), mix=mix, label_errors=False)
    imported, taxonomy = import_for(settings, [table], options, None)
    if imported.folder is None:
        raise InputError(refusal(imported))
    recipe = with_seed(recipe_for(settings, imported.folder, imported.report, options, taxonomy), seed)
    run = run_until(_LAST, recipe, f"rows-{rows}-{seed}", console)
    learned, spent = run.figures()["prepare"]["records"]["train"], sum(run.figures()["minutes"].values())
    found = {"records": learned, "minutes": spent, **release_figures(run.release, settings)}
    shutil.rmtree(run.folder)
    shutil.rmtree(imported.folder)
    table.unlink()
    return found


def write_table(settings: Settings, rows: int, seed: int) -> Path:
    """A CSV file with a text and the names of its labels in each row; a draw of the training split.

    Texts in other languages are left out: they teach the project's corpus what to be silent on.
    """
    from tocsin_training.corpus import FOREIGN, load_split

    texts = load_split(settings.data, "train")
    texts = texts.filter(lambda reason: reason != FOREIGN, input_columns="reason")
    if rows > len(texts):
        raise UsageError(f"{settings.data.corpus}: has {len(texts):,} texts to draw from, so --rows {rows} is too many")
    taxonomy = Taxonomy.load(settings.data.taxonomy)
    path = settings.runs / _FOLDER / f"rows-{rows}-seed-{seed}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([_TEXT, _CODE])
        for row in texts.select(random.Random(seed).sample(range(len(texts)), rows)):
            names = [taxonomy.labels[taxonomy.index(label)].name for label in row["labels"]]
            writer.writerow([row["text"], "; ".join(names) or _NOTHING])
    return path


def release_figures(release: Path, settings: Settings) -> dict[str, Any]:
    """A release's answers on the test split of a recipe's corpus, and on CASE 2021 where the recipe names its file."""
    from tocsin.classifier import EventClassifier
    from tocsin_training.benchmark import forced_f1, read_benchmark
    from tocsin_training.heldout import read_corpus
    from tocsin_training.metrics import f1_figures, false_alarms

    classifier = EventClassifier.load(release, threads=settings.evaluate.threads)
    test = read_corpus(settings.data, classifier.taxonomy)
    scores = classifier.score_batch(test.texts)
    figures = f1_figures(test.truth, scores.given)
    case = None
    if settings.data.benchmark is not None:
        news = read_benchmark(settings.data.benchmark)
        case = forced_f1(classifier.score_batch(news.texts).probabilities, classifier.taxonomy, news.truth)
    return {
        "macro_f1": figures["macro_f1"],
        "weighted_f1": figures["weighted_f1"],
        "case_weighted_f1": case,
        "false_alarms": false_alarms(scores.given, test.reasons)["all"]["share"],
        "sent_to_review": float(scores.needs_review.mean()),
    }
