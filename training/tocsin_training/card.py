"""Stage 8: the model card, a Hugging Face ``README.md`` filled in from the figures, and the figures in the manifest."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from babel import Locale
from huggingface_hub import EvalResult, ModelCardData

from tocsin.lineage import StartLineage
from tocsin.release import LAYOUT, Manifest, Release, parts, read_manifest, write_manifest
from tocsin.taxonomy import Taxonomy
from tocsin_training import robustness
from tocsin_training.calibrate import PRECISION
from tocsin_training.evaluate import CASE, HEADLINES, alarms_grid, case_grid, rivals_grid
from tocsin_training.report import markdown_table, percent, percent_interval
from tocsin_training.review import objectives_grid, promise_sentences
from tocsin_training.run import Run, write_json

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

_HEADLINE_NAMES = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "exact_match": "label sets exactly right",
    "top_answer_accuracy": "first answers right",
    "ece": "calibration error (ECE, 15 bins) of the labels given",
    "ece_event_types": "the same of their event types",
    "ece_no_event": "the same of no event, over all texts",
}

_MADE = (
    ", and on text that the project made for it with language models and never trained on (`datasets/robustness` of "
    "the project). Each text with a word of a set of swaps was read with every other word of the set"
)
_PUBLISHED = (
    " Those by side count sentences and not their copies, those of swapped words texts. Published of language models "
    "on ACLED's notes from Nigeria and Cameroon, so on other text and by another count: up to 18 % of battles called "
    "attacks on civilians, and up to 67 % of answers flipped by phrases that disparage the actor "
    "([Muki and Owolabi 2026](https://arxiv.org/abs/2605.04177))."
)
_MADE_OF_RECORDS = {
    "joined_share": "two joined",
    "slips_share": "with typing errors",
    "headlines_share": "clipped as headlines are",
    "cut_share": "cut off",
    "cities_share": "with other cities",
}
"""What augmentation makes of records, by its setting in ``[augment]`` of a recipe."""
PICTURES = (LAYOUT.risk_coverage, LAYOUT.robustness, LAYOUT.reliability)
"""That a card shows; they lie beside it."""

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

Sorting and counting reports before people read them. Every answer has probabilities, calibrated on the kind of text
that is described below, and says when it should be checked (`needs_review`; what that covers is said below). It is not
for decisions about a person, nor for acting on a single text that nobody has read, and it does not say whether a report
is true: it says what the text reports.

## Training data

{data}

## Figures

On the {split} split of that data ({texts} texts, {without} of them without event; {held_out}):

{figures}
Intervals are over texts drawn anew (bootstrap); those of first answers and of the shares below the table are Wilson's.
That of a calibration error leans upwards.

{alarms} {review}{several}

{worst}
{teacher}{objectives}
{reasons}
![how often labels given, their event types and no event hold at what they state]({reliability})

## Real news

{case}

## Texts not sent to review

A text is sent to review (`needs_review`) when its first answer is less probable than the release's line
(`review_below` in `calibration.json`), or when its language is not one the model reads. The first answer is the most
probable event, or no event where none is given. Events beside it play no part: each has its own probability.

{promise} {real_promise}

![share of answers wrong among those kept, surest first]({risk_coverage})

## Robustness

Measured on the same split, altered as said{made}. Intervals are 95 %.{others}

{robustness}
![answers changed, and mistakes by side]({robustness_picture})

## Limits

- Trained on one collection of texts, and all figures but those under "Real news" are of its like. Others are read less
  well than they say. {real_limits}
{cautions}- {languages} only. Text that is clearly in another language is not read: it gets no label whatever it
  reports, `needs_review` is true, and its probabilities mean nothing. Look at `language` before you count texts without
  event.
- Reads {window} tokens at a time; longer text is read in overlapping windows. Short and telegraphic text is harder.
- Labels follow one reading of {codebook}; coders disagree with each other, too.{disclaimer}
- Rare labels rest on few test texts, so their figures are uncertain: see the table and the number of texts beside each.
- It extracts no actors, places or casualties. Reporting is uneven across the world. Counts of reports are not
  counts of events.

## By label

{per_label}
## How it was made

Seed {seed}; corpus sha256 `{corpus}`; base model sha256 `{base_sha}`. Versions: {versions}. {verified}
Every file's sha256 is in `manifest.json` and is checked at loading.
"""


def render_card(
    manifest: Manifest,
    taxonomy: Taxonomy,
    evaluation: dict[str, Any],
    verification: dict[str, Any] | None,
    *,
    size: int,
) -> str:
    """The card's text.

    :param evaluation: figures of ``evaluate``.
    :param verification: figures of ``verify``; none where there is no run, but only a release.
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
        held_out=_held_out(manifest, evaluation["split"]),
        split=evaluation["split"],
        texts=evaluation["texts"],
        without=evaluation["texts_without_event"],
        figures=markdown_table(("figure", "value", "95 % interval"), _headlines(evaluation)),
        alarms=_alarms(evaluation),
        review=_review(evaluation),
        several=_several(evaluation),
        case=_case(evaluation, taxonomy),
        objectives=objectives_grid(evaluation["objectives"]).section(),
        reasons=alarms_grid(evaluation).section() if evaluation["texts_without_event"] else "",
        teacher=_beside_others(evaluation),
        promise=_promise(evaluation),
        real_promise=_real_promise(evaluation),
        real_limits=_real_limits(evaluation),
        cautions="".join(f"- {sentence}\n" for sentence in robustness.cautions(evaluation["robustness"])),
        reliability=LAYOUT.reliability,
        risk_coverage=LAYOUT.risk_coverage,
        made=_MADE if "swapped" in evaluation["robustness"] else "",
        others=_PUBLISHED if "actors" in evaluation["robustness"] else "",
        robustness="\n".join(grid.section() for grid in robustness.grids(evaluation["robustness"])),
        robustness_picture=LAYOUT.robustness,
        worst=_worst(evaluation),
        window=manifest.window_tokens,
        per_label=markdown_table(
            ("label", kind, "precision", "recall", "F1", "95 % interval", "texts"), _rows(evaluation, taxonomy)
        ),
        seed=manifest.seed,
        corpus=manifest.corpus.sha256,
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        verified=_verified(manifest, verification),
    )


def _verified(manifest: Manifest, verification: dict[str, Any] | None) -> str:
    if verification is None:
        cost = manifest.metrics.get("int8_f1_cost")
        return "" if cost is None else f"Its int8 graph cost {cost:.4f} in weighted F1 when it was verified."
    fp32 = max(verification["fp32_logit_difference"], verification["fp32_padded_logit_difference"])
    ends = [verification.get(f"int8_f1_cost_{end}") for end in ("low", "high")]
    # Older verdicts have no interval.
    interval = "" if None in ends else f" ({ends[0]:.4f} - {ends[1]:.4f})"
    return (
        f"Verified against the PyTorch model on {verification['texts']} texts: fp32 logits within {fp32:.1e}; int8 "
        f"probabilities within {verification['int8_probability_difference']:.4f} on average, at a cost of "
        f"{verification['int8_f1_cost']:.4f}{interval} in weighted F1."
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
        recipe = origin.settings.get("augment", {})
        kinds = ", ".join(said for name, said in _MADE_OF_RECORDS.items() if recipe.get(name))
        sentences.append(f"{augmented:,} more texts were made of them{kinds and f' ({kinds})'} and learned too.")
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
    if origin.started_from is not None:
        sentences.append(_start(origin.started_from))
    return " ".join(sentences)


def _start(start: StartLineage) -> str:
    """That there was a training before the one that all the rest is said of."""
    said = "All this is of the last training, which went on from a trained model"
    if start.records is None:
        return f"{said}; what that had learned from is not recorded."
    return (
        f"{said}: that had read {start.records['train']:,} records when it was last trained (corpus sha256 "
        f"`{start.corpus_sha256}`; licence, as stated then: {start.licence or 'none stated'})."
    )


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

    So with the data of a model that was gone on from. Weights made of somebody's own files are theirs to license.
    """
    origin = manifest.lineage
    if origin is None or _is_theirs(manifest):
        return "other"
    stated = {part.licence for part in (origin.data, origin.started_from) if part is not None}
    return "apache-2.0" if stated <= _OPEN_LICENCES else "other"


def _held_out(manifest: Manifest, split: str) -> str:
    if split != "test":
        return {"train": "it learned from these very texts"}.get(
            split, "its thresholds and its promise were fitted to it"
        )
    if _is_theirs(manifest):
        return "kept from training, as the report of its import says"
    return "writers of this split wrote nothing that was trained on"


def _header(manifest: Manifest, taxonomy: Taxonomy, evaluation: dict[str, Any]) -> str:
    own = f"{_data_name(manifest)}, {evaluation['split']} split"
    measured = [("corpus", own, name.replace("_", " "), evaluation[name]) for name in ("weighted_f1", "macro_f1")]
    if case := evaluation.get("case2021"):
        measured += [
            ("case-2021-task-2", CASE, f"{name} F1, 25 types, the best one forced", case[f"forced_{name}_f1"])
            for name in ("weighted", "macro")
        ]
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=dataset,
            dataset_name=name,
            metric_type="f1",
            metric_name=metric,
            metric_value=round(value, 4),
        )
        for dataset, name, metric, value in measured
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
    # Figures that an earlier version measured lack some.
    for name in filter(evaluation.__contains__, HEADLINES):
        low, high = evaluation["intervals"][name]
        yield _HEADLINE_NAMES.get(name, name.replace("_", " ")), f"{evaluation[name]:.3f}", f"{low:.3f} - {high:.3f}"


def _alarms(evaluation: dict[str, Any]) -> str:
    if not evaluation["texts_without_event"]:
        return "No text of the split is without event, so what it does with such texts is not measured."
    alarms = evaluation["false_alarms"]["all"]
    interval = percent_interval(alarms["low"], alarms["high"])
    return f"Of texts without event, {percent(alarms['share'])} ({interval}) were given a label."


def _review(evaluation: dict[str, Any]) -> str:
    review, intervals = evaluation["review"], evaluation["intervals"]
    if review["accuracy_of_the_others"] is None:
        return "All texts are sent to review."
    sent, right = (percent_interval(*intervals[name]) for name in ("review_share", "accuracy_of_the_others"))
    return (
        f"{percent(review['share'])} of all texts ({sent}) are sent to review; among the others the first answer is "
        f"right in {percent(review['accuracy_of_the_others'])} ({right})."
    )


def _several(evaluation: dict[str, Any]) -> str:
    several = evaluation.get("several_events")
    if several is None:
        return ""
    main, exact = several["main_first"], several["exact"]
    return (
        f" Of {several['texts']} texts with several events, the first answer is the one that the record names first in "
        f"{percent(main['value'])} ({percent_interval(main['low'], main['high'])}), and all labels are right in "
        f"{percent(exact['value'])} ({percent_interval(exact['low'], exact['high'])})."
    )


def _beside_others(evaluation: dict[str, Any]) -> str:
    """What it is worth beside simple baselines and the teacher, as far as they were measured in the same run."""
    said = ""
    if teacher := evaluation.get("teacher"):
        said = (
            "Distillation, calibration and int8 together cost "
            f"{teacher['weighted_f1_cost']:.3f} weighted F1 ({teacher['weighted_f1_cost_low']:.3f} - "
            f"{teacher['weighted_f1_cost_high']:.3f}) against the teacher's {teacher['weighted_f1']:.3f} on these "
            "texts.\n\n"
        )
    return f"{said}{rivals_grid(evaluation).section()}\n" if "rivals" in evaluation else said


def _case(evaluation: dict[str, Any], taxonomy: Taxonomy) -> str:
    case = evaluation.get("case2021")
    if case is None:
        known = "`tocsin evaluate --benchmark FILE` measures it on CASE 2021 task 2, for those who have its file."
        return f"Not measured on real news for this card. {known if taxonomy.has_acled_names else ''}".rstrip()
    return (
        f"On {case['texts']} real news snippets (CASE 2021 task 2, the file that was given; never trained on), "
        f"{case['event_texts']} of them of one of ACLED's types, the others of five kinds of news that are none:\n\n"
        f"{case_grid(case).markdown()}\n"
        "The file names one type a text, and a careful reader who has only the guidelines agrees with it for about "
        "nine texts in ten, so the calibration error is likely too high."
    )


def _real_promise(evaluation: dict[str, Any]) -> str:
    """Whether the promise holds beyond the project's own text; that it was not looked at is said, too."""
    case = evaluation.get("case2021")
    if case is None or case["review_promise"] is None:
        return "It is measured on text of the corpus's like: on real news it is likely to be missed."
    return promise_sentences(case["review_promise"], CASE)[1]


def _real_limits(evaluation: dict[str, Any]) -> str:
    case = evaluation.get("case2021")
    if case is None:
        return (
            "How well real news is read, how much of it goes to review and what its probabilities mean is not measured."
        )
    said = [f"{percent(case['reviewed_share'])} of texts go to review"]
    if (right := case["accuracy_of_the_others"]) is not None:
        said.append(f"{percent(1 - right)} of first answers among the others are wrong")
    # Figures that an earlier version measured lack it.
    if (right := case.get("read_accuracy")) is not None:
        said.append(f"first answers that say {case['mean_confidence']:.2f} on average are right in {right:.2f}")
    *first, last = said
    found = f"{', '.join(first)}, and {last}" if first else last
    return (
        "What is promised of review, and calibration, are measured on the project's own text. "
        f"On real news (CASE) {found}."
    )


def _worst(evaluation: dict[str, Any]) -> str:
    # Where no text has a label, its F1 is no measurement.
    measured = [item for item in evaluation["labels"].items() if item[1]["support"]]
    ranked = sorted(measured, key=lambda item: item[1]["f1"])[:3]
    if not ranked:
        return ""
    named = ", ".join(f"`{name}` ({row['f1']:.2f})" for name, row in ranked)
    return f"Weakest labels by F1: {named}.\n"


def _promise(evaluation: dict[str, Any]) -> str:
    """The promise and what became of it on the split."""
    figures = evaluation["review_promise"]
    if figures is None:
        return "This release promises nothing about them."
    return " ".join(promise_sentences(figures, f"the {evaluation['split']} split"))


def _rows(evaluation: dict[str, Any], taxonomy: Taxonomy) -> Iterable[tuple[str, ...]]:
    for label in taxonomy.labels:
        row = evaluation["labels"][label.label]
        numbers = (f"{row[key]:.2f}" for key in ("precision", "recall", "f1"))
        interval = f"{row['low']:.2f} - {row['high']:.2f}"
        kind = (label.sub_event_type if taxonomy.has_acled_names else None) or label.event_type
        yield f"`{label.label}`", kind.replace("|", "\\|"), *numbers, interval, f"{row['support']:.0f}"


def summary(evaluation: dict[str, Any], verification: dict[str, Any]) -> dict[str, Any]:
    """The figures that travel in a manifest."""
    figures: dict[str, Any] = {name: round(evaluation[name], 4) for name in HEADLINES if name in evaluation}
    figures["texts"] = evaluation["texts"]
    figures["false_alarms"] = round(evaluation["false_alarms"]["all"]["share"], 4)
    figures["review"] = {
        name: None if value is None else round(value, 4) for name, value in evaluation["review"].items()
    }
    if promise := evaluation["review_promise"]:
        figures["review_promise_held"] = promise["held"]
        figures["review_share_promise_held"] = promise["review_share_held"]
    if precise := evaluation["objectives"].get(PRECISION):
        figures[PRECISION] = {name: round(precise[name], 4) for name in ("precision", "recall", "false_alarms")}
    figures["labels"] = {name: _label_summary(row) for name, row in evaluation["labels"].items()}
    figures["robustness"] = robustness.summary(evaluation["robustness"])
    figures["int8_f1_cost"] = round(verification["int8_f1_cost"], 4)
    if teacher := evaluation.get("teacher"):
        figures["cost_against_teacher"] = round(teacher["weighted_f1_cost"], 4)
    if case := evaluation.get("case2021"):
        numbers = {name: value for name, value in case.items() if isinstance(value, int | float)}
        figures["case2021"] = {name: round(value, 4) for name, value in numbers.items()}
    return figures


def _label_summary(row: dict[str, float]) -> dict[str, float | int]:
    """What `tocsin info --labels` shows of a label; its support is a number of texts."""
    return {name: round(row[name], 4) for name in ("precision", "recall", "f1")} | {"support": round(row["support"])}


def write_evaluation(folder: Path, release: Path, figures: dict[str, Any]) -> None:
    """What ``evaluate`` found, beside its pictures: the figures as JSON, and the card that they make.

    :param folder: where its pictures were drawn; never the release's own, whose files its manifest vouches for.
    """
    opened = Release.open(release)
    write_json(folder / "metrics.json", figures)
    text = render_card(opened.manifest, opened.taxonomy, figures, None, size=opened.size)
    (folder / LAYOUT.card).write_text(text, encoding="utf-8")


def main(run: Run) -> None:
    """Write the card and complete the manifest of a run's release."""
    figures = run.figures()
    manifest = read_manifest(run.release)
    taxonomy = Taxonomy.load(run.release / LAYOUT.taxonomy)
    for picture in PICTURES:
        shutil.copyfile(run.plots / picture, run.release / picture)
    size = sum((run.release / name).stat().st_size for name in (*parts(run.release), LAYOUT.manifest))
    text = render_card(manifest, taxonomy, figures["evaluate"], figures["verify"], size=size)
    (run.release / LAYOUT.card).write_text(text, encoding="utf-8")
    metrics = summary(figures["evaluate"], figures["verify"])
    write_manifest(run.release, manifest.model_copy(update={"metrics": metrics}))
    _log.info("model card written; the release is %.1f MB", size / 1e6)
