"""Stage 8: the model card, a Hugging Face ``README.md`` filled in from the figures, and the figures in the manifest."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from typing import Any

from babel import Locale
from huggingface_hub import EvalResult, ModelCardData

from tocsin.release import LAYOUT, Manifest, parts, read_manifest, write_manifest
from tocsin.taxonomy import Taxonomy
from tocsin_training import robustness
from tocsin_training.calibrate import PRECISION
from tocsin_training.report import markdown_table
from tocsin_training.review import objectives_grid, promise_sentences
from tocsin_training.run import Run

_log = logging.getLogger(__name__)

# What the card says where the labels have ACLED's names, and where they are another codebook's.
_ACLED = {
    "what": "conflict events",
    "vocabulary": " that follow ACLED's sub-event types",
    "codebook": "ACLED's codebook",
    "disclaimer": " This is no product of ACLED's.",
    "example": "Warplanes struck the market before dawn.",
}
_OTHER = {
    "what": "events",
    "vocabulary": " of the taxonomy that travels with it (`taxonomy.toml`)",
    "codebook": "that taxonomy",
    "disclaimer": "",
    "example": "A text of your own.",
}

_OPEN_LICENCES = frozenset({"Apache-2.0", "CC-BY-4.0", "CC0-1.0", "MIT"})
"""SPDX identifiers of data licences under which what is made of the data may be licensed otherwise."""

HEADLINES = ("weighted_f1", "macro_f1", "micro_f1", "exact_match", "top_answer_accuracy", "ece")

# No source at hand that gives method and text, so no more is said than that.
_PUBLISHED = (
    " Published for large language models as annotators: up to 18 % of battles called attacks on civilians, and up to "
    "67 % of answers that flip with the actor's name."
)

_TEMPLATE = """\
---
{header}
---

# {name} {version}

Reads news text in {languages} and says which {what} it reports: {labels} labels{vocabulary}.
Several events in one text are normal; so is none. Fine-tuned from `{base}`, quantized to 8 bits
({quantization}), {size:.0f} MB in all.

```python
from tocsin import EventClassifier

classifier = EventClassifier.load("path/to/this/folder")
print(classifier.classify("{example}"))
```

## What it is for

Sorting and counting reports before people read them. Every answer has calibrated probabilities and says when it
should be checked (`needs_review`; what that covers is said below). It is not for decisions about a person, nor for
acting on a single text that nobody has read, and it does not say whether a report is true: it says what the text
reports.

## Training data

{data}

## Figures

On the {split} split of that data ({texts} texts, {without} of them without event; {held_out}):

{figures}

{alarms} {review}

{case}{worst}
{objectives}
## Texts not sent to review

A text is sent to review (`needs_review`) when its first answer is less probable than the release's line
(`review_below` in `calibration.json`), or when its language is not one the model reads. The first answer is the most
probable event, or no event where none is given. Events beside it play no part: each has its own probability.

{promise}

![share of answers wrong among those kept, surest first]({risk_coverage})

## Robustness

Measured on the same split, altered as said, and on text written by hand for it and never trained on
(`datasets/robustness` of the project). Intervals are 95 %; those by side count sentences, not their copies.{others}

{robustness}
![answers changed, and mistakes by side]({robustness_picture})

## Limits

- Trained and measured on one collection of texts. Others are read less well than the figures above say.
- {languages} only. Text that is clearly in another language is not read: it gets no label whatever it reports,
  `needs_review` is true, and its probabilities mean nothing. Look at `language` before you count texts without event.
- Reads {window} tokens at a time; longer text is read in overlapping windows. Short and telegraphic text is harder.
- Labels follow one reading of {codebook}; coders disagree with each other, too.{disclaimer}
- Rare labels rest on few test texts, so their figures are uncertain: see the table and the number of texts beside each.
- It extracts no actors, places or casualties. Reporting is uneven across the world. Counts of reports are not
  counts of events.

## By label

{per_label}
## How it was made

Seed {seed}; corpus sha256 `{corpus}`; base model sha256 `{base_sha}`. Versions: {versions}. Verified against the
PyTorch model on {verified} texts: fp32 logits within {fp32:.1e}; int8 probabilities within {int8:.4f} on average, at
a cost of {cost:.4f} in weighted F1. Every file's sha256 is in `manifest.json` and is checked at loading.
"""


def render_card(
    manifest: Manifest, taxonomy: Taxonomy, evaluation: dict[str, Any], verification: dict[str, Any], *, size: int
) -> str:
    """The card's text.

    :param evaluation: figures of ``evaluate``.
    :param verification: figures of ``verify``.
    :param size: bytes of the release folder.
    """
    words = _ACLED if taxonomy.has_acled_names else _OTHER
    kind = "ACLED sub-event type" if taxonomy.has_acled_names else "event type"
    return _TEMPLATE.format(
        **words,
        header=_header(manifest, taxonomy, evaluation),
        name=manifest.name,
        version=manifest.version,
        languages=_languages(manifest),
        labels=len(taxonomy.labels),
        base=manifest.base_model.name,
        base_sha=manifest.base_model.sha256 or "as delivered by the hub",
        quantization=manifest.quantization,
        size=size / 1e6,
        data=_data(manifest),
        held_out=_held_out(manifest),
        split=evaluation["split"],
        texts=evaluation["texts"],
        without=evaluation["texts_without_event"],
        figures=markdown_table(("figure", "value", "95 % interval"), _headlines(evaluation)),
        alarms=_alarms(evaluation),
        review=_review(evaluation["review"]),
        case=_case(evaluation.get("case2021")),
        objectives=objectives_grid(evaluation["objectives"]).section(),
        promise=_promise(evaluation),
        risk_coverage=LAYOUT.risk_coverage,
        others=_PUBLISHED if "actors" in evaluation["robustness"] else "",
        robustness="\n".join(grid.section() for grid in robustness.grids(evaluation["robustness"])),
        robustness_picture=LAYOUT.robustness,
        worst=_worst(evaluation),
        window=manifest.window_tokens,
        per_label=markdown_table(("label", kind, "precision", "recall", "F1", "texts"), _rows(evaluation, taxonomy)),
        seed=manifest.seed,
        corpus=manifest.corpus.sha256,
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        verified=verification["texts"],
        fp32=max(verification["fp32_logit_difference"], verification["fp32_padded_logit_difference"]),
        int8=verification["int8_probability_difference"],
        cost=verification["int8_f1_cost"],
    )


def _languages(manifest: Manifest) -> str:
    """The languages' English names; a code that has none stands for itself."""
    names = Locale("en").languages
    *others, last = (str(names.get(code, code)) for code in manifest.languages)
    return f"{', '.join(others)} and {last}" if others else last


def _data(manifest: Manifest) -> str:
    """What was learned from, as the lineage tells it; a card never claims more than that."""
    corpus, origin = manifest.corpus, manifest.lineage
    if origin is None:
        return f"{corpus.records:,} records; where they come from is not recorded."
    data = origin.data
    records = data.records["train"]
    sentences = [f"{records:,} records of {_data_name(manifest)}."]
    # Manifests that do not count augmented texts apart have them among the records; the sum is the same.
    if augmented := corpus.records + corpus.augmented - records:
        sentences.append(f"{augmented:,} more texts were made of them (joined, or with typing errors) and learned too.")
    if data.description:
        sentences.append(data.description)
    if data.files:
        files = "; ".join(
            f"`{file.name}` ({file.layout}, {file.rows:,} rows, sha256 `{file.sha256}`)" for file in data.files
        )
        sentences.append(f"Imported from {files}.")
    if data.mixed:
        sentences.append(f"{data.mixed:,} of the records are of the recipe's own corpus, mixed in for training alone.")
    if data.first is not None:
        undated = f"; {data.undated:,} have no date that could be read" if data.undated else ""
        sentences.append(f"They span {data.first} to {data.last}{undated}.")
    sentences.append(f"{data.without_event:,} have no event.")
    sentences.append(f"Licence, as stated by whoever trained it: {data.licence or 'none stated'}.")
    return " ".join(sentences)


def _data_name(manifest: Manifest) -> str:
    if manifest.lineage is None:
        return "a corpus that is not recorded"
    data = manifest.lineage.data
    return f"data of the trainer's own ({data.name})" if data.files else f"the corpus in the folder `{data.name}`"


def _is_theirs(manifest: Manifest) -> bool:
    """Whether it was trained on somebody's own files."""
    return manifest.lineage is not None and bool(manifest.lineage.data.files)


def _licence(manifest: Manifest) -> str:
    """What the weights may be licensed under: ours only where the data's stated licence lets anybody choose.

    Weights made of somebody's own files are theirs to license.
    """
    stated = None if manifest.lineage is None else manifest.lineage.data.licence
    return "apache-2.0" if stated in _OPEN_LICENCES and not _is_theirs(manifest) else "other"


def _held_out(manifest: Manifest) -> str:
    if _is_theirs(manifest):
        return "kept from training, as the report of its import says"
    return "writers of this split wrote nothing that was trained on"


def _header(manifest: Manifest, taxonomy: Taxonomy, evaluation: dict[str, Any]) -> str:
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type="corpus",
            dataset_name=f"{_data_name(manifest)}, {evaluation['split']} split",
            metric_type="f1",
            metric_name=name.replace("_", " "),
            metric_value=round(evaluation[name], 4),
        )
        for name in ("weighted_f1", "macro_f1")
    ]
    data = ModelCardData(
        license=_licence(manifest),
        language=list(manifest.languages),
        pipeline_tag="text-classification",
        library_name="onnx",
        base_model=manifest.base_model.name,
        metrics=["f1", "accuracy"],
        tags=["event-coding", "multi-label", *(("conflict", "acled") if taxonomy.has_acled_names else ())],
        model_name=manifest.name,
        eval_results=results,
    )
    return str(data.to_yaml())


def _headlines(evaluation: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    for name in HEADLINES:
        low_high = evaluation["intervals"].get(name)
        interval = f"{low_high[0]:.3f} - {low_high[1]:.3f}" if low_high else ""
        yield name.replace("_", " "), f"{evaluation[name]:.3f}", interval


def _alarms(evaluation: dict[str, Any]) -> str:
    if not evaluation["texts_without_event"]:
        return "No text of the split is without event, so what it does with such texts is not measured."
    return f"Of texts without event, {evaluation['false_alarms']['all']['share']:.1%} were given a label."


def _case(case: dict[str, Any] | None) -> str:
    if case is None:
        return ""
    return (
        f"On real news snippets (CASE 2021 task 2, {case['texts']} texts of the file evaluated, never trained on): "
        f"weighted F1 {case['forced_weighted_f1']:.3f} on the ACLED types with a forced choice, "
        f"{case['abstaining_weighted_f1']:.3f} where it may abstain; of texts that report no such event "
        f"{case['no_event_recall']:.1%} get no label.\n\n"
    )


def _worst(evaluation: dict[str, Any]) -> str:
    # Where no text has a label, its F1 is no measurement.
    measured = [item for item in evaluation["labels"].items() if item[1]["support"]]
    ranked = sorted(measured, key=lambda item: item[1]["f1"])[:3]
    if not ranked:
        return ""
    named = ", ".join(f"`{name}` ({row['f1']:.2f})" for name, row in ranked)
    return f"Weakest labels by F1: {named}.\n"


def _review(review: dict[str, float | None]) -> str:
    right = review["accuracy_of_the_others"]
    if right is None:
        return "All texts are sent to review."
    return (
        f"{review['share']:.1%} of all texts are sent to review; among the others the first answer is right in "
        f"{right:.1%}."
    )


def _promise(evaluation: dict[str, Any]) -> str:
    figures = evaluation["review_promise"]
    if figures is None:
        return "This release promises nothing about them."
    return " ".join(promise_sentences(figures, f"the {evaluation['split']} split"))


def _rows(evaluation: dict[str, Any], taxonomy: Taxonomy) -> Iterable[tuple[str, ...]]:
    for label in taxonomy.labels:
        row = evaluation["labels"][label.label]
        numbers = (f"{row[key]:.2f}" for key in ("precision", "recall", "f1"))
        kind = (label.sub_event_type if taxonomy.has_acled_names else None) or label.event_type
        yield f"`{label.label}`", kind.replace("|", "\\|"), *numbers, f"{row['support']:.0f}"


def summary(evaluation: dict[str, Any], verification: dict[str, Any]) -> dict[str, Any]:
    """The figures that travel in a manifest."""
    figures: dict[str, Any] = {name: round(evaluation[name], 4) for name in HEADLINES}
    figures["texts"] = evaluation["texts"]
    figures["false_alarms"] = round(evaluation["false_alarms"]["all"]["share"], 4)
    figures["review"] = {
        name: None if value is None else round(value, 4) for name, value in evaluation["review"].items()
    }
    if promise := evaluation["review_promise"]:
        figures["review_promise_held"] = promise["held"]
    if precise := evaluation["objectives"].get(PRECISION):
        figures[PRECISION] = {name: round(precise[name], 4) for name in ("precision", "recall", "false_alarms")}
    figures["labels"] = {name: _label_summary(row) for name, row in evaluation["labels"].items()}
    figures["robustness"] = robustness.summary(evaluation["robustness"])
    figures["int8_f1_cost"] = round(verification["int8_f1_cost"], 4)
    if case := evaluation.get("case2021"):
        figures["case2021"] = {name: round(value, 4) for name, value in case.items()}
    return figures


def _label_summary(row: dict[str, float]) -> dict[str, float | int]:
    """What `tocsin info --labels` shows of a label; its support is a number of texts."""
    return {name: round(row[name], 4) for name in ("precision", "recall", "f1")} | {"support": round(row["support"])}


def main(run: Run) -> None:
    """Write the card and complete the manifest of a run's release."""
    figures = run.figures()
    manifest = read_manifest(run.release)
    taxonomy = Taxonomy.load(run.release / LAYOUT.taxonomy)
    for picture in (LAYOUT.risk_coverage, LAYOUT.robustness):
        shutil.copyfile(run.plots / picture, run.release / picture)
    size = sum((run.release / name).stat().st_size for name in (*parts(run.release), LAYOUT.manifest))
    text = render_card(manifest, taxonomy, figures["evaluate"], figures["verify"], size=size)
    (run.release / LAYOUT.card).write_text(text, encoding="utf-8")
    metrics = summary(figures["evaluate"], figures["verify"])
    write_manifest(run.release, manifest.model_copy(update={"metrics": metrics}))
    _log.info("model card written; the release is %.1f MB", size / 1e6)
