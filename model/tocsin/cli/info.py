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

from tocsin.classifier import EventClassifier
from tocsin.cli.console import out

_PROBE = "Warplanes bombed a village on Tuesday, killing six people, residents said."


def info(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
    release: Annotated[
        str | None, typer.Option(help="Release folder or store:name; the shipped one by default.")
    ] = None,
) -> None:
    """Show version, release, labels and metrics, and check the installation by classifying a sentence."""
    facts = _facts(EventClassifier.load(release))
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in facts.items():
        if key != "labels":
            table.add_row(Text(key), Text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    out.print(table)
    labels = Table("label", "name", "ACLED sub-event type", "ACLED event type")
    for row in facts["labels"]:
        labels.add_row(*(Text(row[key]) for key in ("label", "name", "sub_event_type", "event_type")))
    out.print(labels)


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
        },
        "labels": [label.model_dump(mode="json") for label in classifier.taxonomy.labels],
    }
