"""`tocsin info`: what is installed and whether it works."""

from __future__ import annotations

import importlib.util
import json
import platform
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tocsin.classifier import EventClassifier
from tocsin.cli.console import out
from tocsin.release import Release
from tocsin.stores import resolve_release

_PROBE = "Warplanes bombed a village on Tuesday, killing six people, residents said."
_UNKNOWN = "not recorded: the release is older than lineage in manifests"


def info(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
    release: Annotated[
        str | None, typer.Option(help="Release folder or store:name; the shipped one by default.")
    ] = None,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Where the release comes from: data, code, settings, base model.")
    ] = False,
) -> None:
    """Show version, release, labels and metrics, and check the installation by classifying a sentence."""
    if lineage:
        _show_lineage(Release.open(resolve_release(release)), as_json)
        return
    facts = _facts(EventClassifier.load(release))
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    table = Table(show_header=False, box=None, padding=(0, 2))
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
