"""`tocsin info`: what is installed and whether it works."""

from __future__ import annotations

import importlib.util
import json
import platform
from importlib.metadata import version
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tocsin.classifier import EventClassifier
from tocsin.cli.console import out
from tocsin.errors import UsageError
from tocsin.release import LAYOUT, Release
from tocsin.stores import resolve_release

_PROBE = "Warplanes bombed a village on Tuesday, killing six people, residents said."
_UNKNOWN = "not recorded: the release is older than lineage in manifests"
# Of a label on the test split, as `evaluate` names them, and what people call them.
_FIGURES = {"precision": "precision", "recall": "recall", "f1": "F1", "support": "texts"}


def info(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
    release: Annotated[
        str | None, typer.Option(help="Release folder or store:name; the shipped one by default.")
    ] = None,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Where the release comes from: data, code, settings, base model.")
    ] = False,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="From which probability on each label is given, and how good it was on test."),
    ] = False,
) -> None:
    """Show version, release, labels and metrics, and check the installation by classifying a sentence."""
    if lineage and labels:
        raise UsageError("--lineage and --labels show different things: give one of them")
    if labels:
        _show_labels(Release.open(resolve_release(release)), as_json)
        return
    if lineage:
        _show_lineage(Release.open(resolve_release(release)), as_json)
        return
    facts = _facts(EventClassifier.load(release))
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    table = Table(show_header=False, box=None, padding=(0, 2))
    # Figures by label would fill the screen; `--labels` shows them.
    facts["metrics"] = {name: figure for name, figure in facts["metrics"].items() if name != "labels"}
    for key, value in facts.items():
        if key != "labels":
            table.add_row(Text(key), Text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    out.print(table)
    if unlisted := facts["self-check"]["unlisted files"]:
        out.print(Text(f"no part of the release, so neither checked nor copied with it: {', '.join(unlisted)}"))
    out.print(_labels(facts["labels"]))


def _labels(rows: list[dict[str, Any]]) -> Table:
    columns = {"label": "label", "name": "name", "sub_event_type": "ACLED sub-event type", "event_type": "event type"}
    if all(row["sub_event_type"] is None for row in rows):
        del columns["sub_event_type"]
    table = Table(*columns.values())
    for row in rows:
        table.add_row(*(Text(row[key] or "-") for key in columns))
    return table


def _show_labels(release: Release, as_json: bool) -> None:
    facts = _label_facts(release)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    out.print(_thresholds(facts))
    out.print(
        "A label is given where its probability reaches its threshold. A text goes to review (needs_review) where its "
        f"first answer is below {facts['review_below']:.3f}."
    )
    for objective, target in facts["objective_targets"].items():
        out.print(Text(f"Aim of {objective}: {target:.0%} of the labels given are right."))
    if all(row["test"] is None for row in facts["labels"]):
        card = release.folder / LAYOUT.card
        out.print(Text(f"The manifest records no figures by label, as older ones do not; see 'By label' in {card}."))


def _label_facts(release: Release) -> dict[str, Any]:
    """Each label's thresholds and, where the manifest has them, its figures on the test split."""
    thresholds, calibration = release.thresholds, release.calibration
    figures = release.manifest.metrics.get("labels", {})
    return {
        "release": release.name,
        "review_below": calibration.review_below,
        "objective_targets": calibration.objective_targets,
        "labels": [
            {
                "label": label.label,
                "event_type": label.event_type,
                "thresholds": {objective: row[label.label] for objective, row in thresholds.items()},
                "test": figures.get(label.label),
            }
            for label in release.taxonomy.labels
        ],
    }


def _thresholds(facts: dict[str, Any]) -> Table:
    """A row a label under its event type; narrow, so that it fits on 80 columns with most of its identifiers whole."""
    rows = facts["labels"]
    objectives = list(rows[0]["thresholds"])
    measured = any(row["test"] for row in rows)
    table = Table(title=Text(f"thresholds of {facts['release']}"), title_justify="left", box=SIMPLE_HEAD, padding=0)
    # Folded, not cut short: identifiers are there to be copied.
    table.add_column("label", overflow="fold")
    for head in (*objectives, *((f"test\n{name}" for name in _FIGURES.values()) if measured else ())):
        table.add_column(Text(head), justify="right")
    for event_type, labels in groupby(rows, key=lambda row: row["event_type"]):
        table.add_row(Text(event_type, style="bold"))
        for row in labels:
            cells = [f"{row['thresholds'][objective]:.2f}" for objective in objectives]
            table.add_row(Text(f"  {row['label']}"), *cells, *(_figure_cells(row["test"]) if measured else ()))
    return table


def _figure_cells(figures: dict[str, float] | None) -> list[str]:
    if figures is None:
        return ["-"] * len(_FIGURES)
    return [f"{figures[name]:.0f}" if name == "support" else f"{figures[name]:.2f}" for name in _FIGURES]


def _show_lineage(release: Release, as_json: bool) -> None:
    facts = _lineage(release)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    tree = Tree(Text(release.name))
    _grow(tree, facts)
    out.print(tree)


def _lineage(release: Release) -> dict[str, Any]:
    """What the manifest knows of the release's origin; older manifests know less, and that is said."""
    manifest = release.manifest
    origin = manifest.lineage
    known = {
        "data": manifest.corpus.model_dump(),
        "code": manifest.versions.get("tocsin", _UNKNOWN),
        "settings": _UNKNOWN,
    }
    return {
        "release": release.name,
        "digest": release.digest,
        "created": manifest.created,
        "base model": manifest.base_model.model_dump(),
        "seed": manifest.seed,
        **(known if origin is None else origin.model_dump(mode="json")),
        "versions": manifest.versions,
        "files": manifest.files,
        "forced": None if manifest.forced is None else manifest.forced.model_dump(mode="json"),
    }


def _grow(tree: Tree, facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if isinstance(value, dict):
            _grow(tree.add(Text(key)), value)
        elif isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
            _grow(tree.add(Text(key)), {str(number): part for number, part in enumerate(value, 1)})
        else:
            tree.add(Text(f"{key}: {'not stated' if value is None else value}"))


def _facts(classifier: EventClassifier) -> dict[str, Any]:
    manifest = classifier.release.manifest
    prediction = classifier.classify(_PROBE)
    return {
        "tocsin": version("tocsin"),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "installed extras": [
            extra
            for extra, module in (("serve", "bentoml"), ("train", "torch"), ("ray", "ray"))
            if importlib.util.find_spec(module)
        ],
        "release": classifier.version,
        "release folder": str(classifier.release.folder),
        "created": manifest.created,
        "base model": manifest.base_model.model_dump(),
        "quantization": manifest.quantization,
        "languages": list(manifest.languages),
        "corpus": manifest.corpus.model_dump(),
        "metrics": manifest.metrics,
        "self-check": {
            "text": _PROBE,
            "answer": [f"{event.name} {event.probability:.2f}" for event in prediction.events] or ["no event"],
            "unlisted files": list(classifier.release.unlisted),
        },
        "labels": [label.model_dump(mode="json") for label in classifier.taxonomy.labels],
    }
