"""The whole chain: prepare, estimate, finetune, export, calibrate, screen, verify, evaluate, card.

Before fine-tuning a recipe may have a contrastive warm-up and a search.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from rich.console import Console

from tocsin.errors import UsageError
from tocsin.release import read_manifest
from tocsin.taxonomy import Taxonomy
from tocsin_training.base import BaseModel, head_of, resolve_base
from tocsin_training.config import Settings
from tocsin_training.lineage import shareable
from tocsin_training.prepared import Kept
from tocsin_training.run import Run, logging_to
from tocsin_training.trackers import check_trackers, reports_in

_log = logging.getLogger(__name__)
_FORECAST = "estimate"
"""The stage that people ask for by itself, to hear what a training would take."""
_LAST = "card"
"""The stage after which the release is complete."""


def train(settings: Settings, name: str, console: Console, *, until: str | None = None) -> Run:
    """Run every stage into a new run folder.

    :param until: the last stage to run; none runs them all, and only then is there a release.

    :return: the run; its ``release`` is complete and verified.
    :raises TocsinError: a stage refuses; the run folder keeps what was made up to then, and the log.
    """
    check_trackers(settings.finetune.report_to)
    return go_on(Run.create(settings, name), console, until=until)


def estimate(settings: Settings, console: Console) -> None:
    """Say how long a recipe takes and in what memory, by some of its steps.

    Of them nothing is kept but the prepared texts, which the training then finds.

    :raises TocsinError: a stage refuses.
    """
    check_trackers(settings.finetune.report_to)
    run, kept = Run.create(settings, "estimate"), Kept(settings.runs)
    try:
        go_on(run, console, until=_FORECAST)
    finally:
        # It would be the latest run, to which there is no release.
        shutil.rmtree(run.folder, ignore_errors=True)
    size = f"{kept.size() / 1e6:.0f} MB"
    said = f"no run is kept; {kept.folder} keeps the prepared texts for the training ({size} in all)"
    console.print(said, markup=False, soft_wrap=True)


def go_on(
    run: Run,
    console: Console,
    *,
    until: str | None = None,
    without: Collection[str] = (),
    again_from: str | None = None,
) -> Run:
    """Run the stages of a run that are still to be done; fine-tuning goes on from its last checkpoint.

    :param without: stages to pass over.
    :param again_from: a stage to run again, with all after it, as when the export has learned something new.
    :raises UsageError: there is no such stage, the run has not come that far, or its corpus is another one by now.
    """
    # Before any stage imports torch: tokenizers must not fork threads of their own beside the trainer's.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with logging_to(run, console), reports_in(run.folder):
        minutes = run.figures().get("minutes", {})
        if until is None:
            _check_judges(run)
        if "prepare" in minutes and again_from != "prepare":
            _refuse_other_data(run)
        base = _base(run.settings(), run)
        if again_from is not None:
            minutes = _before(again_from, minutes, list(_stages(run, base, console)))
            run.record("minutes", minutes)
        _log.info("run %s, from %s%s", run.folder, base.name, f"; done: {', '.join(minutes)}" if minutes else "")
        for stage, action in _stages(run, base, console).items():
            if stage not in without and _is_due(stage, run, minutes, until):
                _log.info("--- %s", stage)
                begun = time.perf_counter()
                action()
                minutes[stage] = round((time.perf_counter() - begun) / 60, 3)
                run.record("minutes", minutes)
                # Not before: whoever is stopped in between would train anew. The forecast is no reason to.
                if stage != _FORECAST:
                    run.discard_checkpoints()
            if stage == until:
                break
        if until != _FORECAST:
            _log.info("done in %.1f minutes%s%s", sum(minutes.values()), _speed(run, minutes), _come_to(run, minutes))
    return run


def _is_due(stage: str, run: Run, minutes: Collection[str], until: str | None) -> bool:
    """Whether a stage is to be run. The forecast is, for whoever asks for it, and otherwise not of what has begun."""
    if stage == _FORECAST:
        return until == _FORECAST or not ({_FORECAST, "finetune"} & set(minutes) or run.checkpoints.exists())
    return stage not in minutes


def _speed(run: Run, minutes: dict[str, float]) -> str:
    """How much of the time fine-tuning took, and how fast it went, in words; nothing where it was not run."""
    found = run.figures().get("finetune", {})
    if "finetune" not in minutes or found.get("texts_per_second") is None:
        return ""
    rate, cores = found["texts_per_second"], found.get("processes", 1) * found["threads"]
    said = f"{rate:.0f} texts a second with {cores} thread{'s' if cores > 1 else ''}"
    return f", {minutes['finetune']:.1f} of them fine-tuning at {said}"


def _come_to(run: Run, minutes: dict[str, float]) -> str:
    """Where the release is, or, of a run that was not to be finished, how far it has come."""
    if _LAST in minutes:
        return f": {run.release}"
    return f", up to {list(minutes)[-1]}; {run.folder} has no release yet"


def recalibrate(run: Run, wanted: Settings, console: Console, *, version: str | None = None) -> Run:
    """Calibrate a finished run anew, without training, and do again all that follows from it.

    Its release then has the thresholds, objectives and review line of these settings, and its card says what they are
    worth. The scores that they are fitted to are those of the run's own validation split.

    :param wanted: how to calibrate and to evaluate; of the rest of this recipe nothing is taken.
    :param version: what the release is called from now on; the same version of other thresholds would mislead.
    :raises UsageError: the run has no exported release, or its corpus is no longer the one it learned from.
    """
    recipe, minutes = run.settings(), run.figures().get("minutes", {})
    if "export" not in minutes:
        raise UsageError(f"{run.folder}: has no exported release yet; `tocsin train --resume {run.folder}` goes on")
    # Before its recipe and its manifests are changed.
    _refuse_other_data(run)
    only_measured = {"robustness": wanted.data.robustness, "benchmark": wanted.data.benchmark}
    changed = recipe.model_copy(
        update={
            "calibrate": wanted.calibrate,
            "evaluate": wanted.evaluate,
            "data": recipe.data.model_copy(update=only_measured),
            "version": version or recipe.version,
        }
    )
    stages = list(minutes)
    done = stages[: stages.index("calibrate")] if "calibrate" in stages else stages
    # First of all: from now on, and until it has come to its end again, the run is an unfinished one.
    run.record("minutes", {stage: minutes[stage] for stage in done})
    run.change_settings(changed)
    _restate(run, changed)
    return go_on(run, console)


def _check_judges(run: Run) -> None:
    from tocsin_training.evaluate import check_judges

    check_judges(run.settings().data)


def _refuse_other_data(run: Run) -> None:
    from tocsin_training.corpus import corpus_sha256

    corpus, prepared = run.settings().data.corpus, run.figures()["prepare"]
    if corpus_sha256(corpus) != prepared["corpus_sha256"]:
        raise UsageError(
            f"{corpus}: is not the corpus that {run.folder.name} learned from; what is held out now may have been "
            "trained on. Bring back the corpus of that time, or train anew."
        )
    taxonomy = run.settings().data.taxonomy
    labels = list(Taxonomy.load(taxonomy).names)
    # Runs prepared before it was recorded do not have it.
    if labels != prepared.get("labels", labels):
        raise UsageError(
            f"{taxonomy}: has not the labels, or not in the order, that {run.folder.name} learned; its answers would "
            "go by wrong names. Bring back the taxonomy of that time, or train anew."
        )


def _restate(run: Run, settings: Settings) -> None:
    """Let the manifests tell the version and the settings that the release is about to have."""
    origin = read_manifest(run.release).lineage
    if origin is not None:
        origin = origin.model_copy(update={"settings": shareable(settings)})
    run.amend(version=settings.version, lineage=origin)


def _before(stage: str, minutes: dict[str, float], stages: list[str]) -> dict[str, float]:
    """The stages that were done before one that is to be run again."""
    if stage not in stages:
        raise UsageError(f"no stage {stage!r}; stages are: {', '.join(stages)}")
    before = stages[: stages.index(stage)]
    # Without the forecast an experiment comes to its end, and so does a training that it came too late for.
    if missing := [name for name in before if name not in minutes and name != _FORECAST]:
        raise UsageError(f"the run has not come to {stage!r}: {', '.join(missing)} still to be done")
    return {name: minutes[name] for name in before if name in minutes}


def _base(settings: Settings, run: Run) -> BaseModel:
    """The base model of the recipe, trimmed where the recipe asks for it."""
    model = settings.model
    if model.start is not None:
        _check_start(model.start, settings)
    base = resolve_base(model.base, scratch=run.base)
    if model.layers is None and model.feed_forward is None and model.vocabulary == "full":
        return base
    from tocsin_training.corpus import limit, load_corpus
    from tocsin_training.trim import trim_base

    read = model.vocabulary == "corpus"
    texts = limit(load_corpus(settings.data.corpus), settings.data)["train"]["text"] if read else None
    return trim_base(base, run.trimmed, layers=model.layers, feed_forward=model.feed_forward, texts=texts)


def _check_start(start: Path, settings: Settings) -> None:
    """Refuse a model that cannot go on, now and not when all texts are prepared."""
    head_of(start)
    labels = list(Taxonomy.load(settings.data.taxonomy).names)
    # A folder that has left its run does not say; how many labels it has is seen when it is read.
    if labels != Run(start.parent).figures().get("prepare", {}).get("labels", labels):
        raise UsageError(f"{start}: has not the labels of {settings.data.taxonomy}, or not in its order; start anew")


def _stages(run: Run, base: BaseModel, console: Console) -> dict[str, Callable[[], None]]:
    # Here and not above: importing torch and transformers takes seconds that a mistyped recipe should not cost.
    from tocsin_training import (
        calibrate,
        card,
        contrastive,
        estimate,
        evaluate,
        export,
        finetune,
        prepare,
        screen,
        search,
        verify,
    )

    settings = run.settings()
    warming: dict[str, Callable[[], None]] = {"contrastive": lambda: contrastive.main(run, base)}
    searching: dict[str, Callable[[], None]] = {"search": lambda: search.main(run, contrastive.warmed_up(run, base))}
    return {
        "prepare": lambda: prepare.main(run, base.path),
        "estimate": lambda: estimate.main(run, base),
        **(warming if settings.finetune.contrastive_epochs else {}),
        **(searching if settings.search.trials else {}),
        "finetune": lambda: finetune.main(run, contrastive.warmed_up(run, base)),
        "export": lambda: export.main(run, base),
        "calibrate": lambda: calibrate.main(run),
        "screen": lambda: screen.main(run),
        "verify": lambda: verify.main(run),
        "evaluate": lambda: evaluate.main(run, console),
        "card": lambda: card.main(run),
    }
