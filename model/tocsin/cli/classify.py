"""`tocsin classify`: texts from the command line or from stdin, a line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tocsin.classifier import EventClassifier
from tocsin.cli.console import err, out
from tocsin.errors import InputError, UsageError
from tocsin.language import UNKNOWN
from tocsin.prediction import Prediction
from tocsin.taxonomy import Taxonomy

_LINES_AT_ONCE = 256
_SCORES = {"scores", "event_type_scores"}


def classify(
    texts: Annotated[
        list[str],
        typer.Argument(help="Texts to classify; - reads stdin, one text a line.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
    document: Annotated[
        bool,
        typer.Option("--document", help="Take each text (stdin as a whole) as an article: cut into sentences."),
    ] = False,
    scores: Annotated[bool, typer.Option("--scores", help="With --json: the probability of every label.")] = False,
    release: Annotated[
        str | None, typer.Option(help="Release folder or store:name; the shipped one by default.")
    ] = None,
) -> None:
    """Say which conflict events TEXTS report.

    Example: `tocsin classify "Warplanes struck the market in Idlib."`
    """
    if scores and not as_json:
        raise UsageError("--scores is for machines: add --json")
    classifier = EventClassifier.load(release)
    if document:
        _classify_documents(classifier, texts, as_json, scores)
        return
    table = None if as_json else _table(classifier.taxonomy)
    for batch in _batches(texts):
        answers = classifier.score_batch([text for _, text in batch]).predictions(scores=scores)
        for (_, text), prediction in zip(batch, answers, strict=True):
            if table is None:
                _print_json({"text": text, **prediction.model_dump(mode="json", exclude=None if scores else _SCORES)})
            else:
                _add_row(table, text, prediction, classifier)
    if table is not None:
        out.print(table)


def _batches(texts: list[str]) -> Iterator[list[tuple[int, str]]]:
    """Texts with their number, in batches; an empty line on stdin is skipped and said on stderr, never in silence."""
    batch: list[tuple[int, str]] = []
    for number, text in enumerate(_read(texts), 1):
        if not text.strip():
            if "-" not in texts:
                raise InputError(f"text {number} is empty; give it text or leave it out")
            err.print(f"[yellow]line {number} is empty: skipped[/]")
            continue
        batch.append((number, text))
        if len(batch) == _LINES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(texts: list[str]) -> Iterator[str]:
    for text in texts:
        if text == "-":
            for line in sys.stdin.buffer:
                yield line.decode("utf-8", errors="replace").rstrip("\r\n")
        else:
            yield text


def _classify_documents(classifier: EventClassifier, texts: list[str], as_json: bool, scores: bool) -> None:
    for text in texts:
        body = sys.stdin.buffer.read().decode("utf-8", errors="replace") if text == "-" else text
        answer = classifier.classify_document(body)
        if as_json:
            dropped = None if scores else {"sentences": {"__all__": _SCORES}}
            _print_json(answer.model_dump(mode="json", exclude=dropped))
            continue
        table = _table(classifier.taxonomy)
        for sentence in answer.sentences:
            _add_row(table, sentence.text, sentence, classifier)
        out.print(table)


def _print_json(value: dict[str, object]) -> None:
    # Plain print: a console would wrap lines at the width of the terminal.
    print(json.dumps(value, ensure_ascii=False))


def _table(taxonomy: Taxonomy) -> Table:
    kind = "ACLED sub-event type" if taxonomy.has_acled_names else "event type"
    table = Table("text", "event", "probability", kind, "", show_lines=True)
    table.columns[0].ratio = 1
    return table


def _add_row(table: Table, text: str, prediction: Prediction, classifier: EventClassifier) -> None:
    notes = [
        note
        for note, holds in (("please check", prediction.needs_review), ("long text", prediction.truncated))
        if holds
    ]
    names, chances, kinds = _cells(prediction, classifier)
    # Names are anybody's: as Text, brackets in them are no markup.
    table.add_row(Text(text), Text(names), chances, Text(kinds), "\n".join(notes))


def _cells(prediction: Prediction, classifier: EventClassifier) -> tuple[str, str, str]:
    """What is reported, how probable it is and of which kind it is, a line an event."""
    if prediction.review_reason == "language_not_read":
        # Not "no event": nobody looked, and the probability means nothing.
        return f"not read: language {_named(prediction.language)}", "-", "-"
    if not prediction.events:
        return "no event", f"{prediction.no_event_probability:.2f}", "-"
    names = "\n".join(event.name for event in prediction.events)
    chances = "\n".join(f"{event.probability:.2f}" for event in prediction.events)
    in_acled = classifier.taxonomy.has_acled_names
    kinds = "\n".join((in_acled and event.sub_event_type) or event.event_type for event in prediction.events)
    return names, chances, kinds


def _named(language: str) -> str:
    return "unknown" if language == UNKNOWN else language
