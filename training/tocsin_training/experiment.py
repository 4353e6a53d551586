"""Many trainings of changed recipes, measured alike and kept: what learning curve, ablation and students share.

What is measured here is fine-tuning alone, on the PyTorch model: labels are given above a logit of zero, without
calibration or quantization; ``students`` goes on to the graphs that ship.
Runs that the file already has are not repeated, so that an experiment can be made over several nights; a run of another
recipe or another state of the corpus does not count as had.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.table import Table

from tocsin.errors import TocsinError
from tocsin.release import sha256
from tocsin.taxonomy import Taxonomy
from tocsin.toml import read_toml
from tocsin_training.base import head_of
from tocsin_training.benchmark import with_benchmark
from tocsin_training.config import AugmentSettings, FinetuneSettings, Settings, load_settings
from tocsin_training.errors import ConfigError
from tocsin_training.lineage import shareable
from tocsin_training.run import Run, report_file, write_json
from tocsin_training.trackers import check_trackers

_Measured = TypeVar("_Measured")

AS_IT_IS = "the recipe"

# A release's number is raised without a weight of it changing, and measured trainings cost hours.
_NAMES_AND_JUDGES = {"name", "version", "screen", "verify", "evaluate", "compare"}
_WORDS = {"licence", "description", "robustness"}
_LEARNED = "learned"
"""What a run's figures have of ``_learned``."""
_OF_THE_TEACHER = ("teacher_logits", "distillation_share", "distillation_temperature", "records_without_teacher")
_DEFAULTS = FinetuneSettings().model_dump()

FIGURES = {"macro_f1": "macro F1", "weighted_f1": "weighted F1", "case_weighted_f1": "CASE, forced"}


@dataclass(frozen=True)
class Outcome:
    """What one training came to."""

    variant: str
    seed: int
    records: int
    """Training records it learned from, those made by augmentation not counted."""
    recipe_sha256: str
    corpus_sha256: str
    macro_f1: float
    """On the test split."""
    weighted_f1: float
    case_weighted_f1: float | None
    """CASE 2021 with the best label forced, where its file is."""


def run_for_people(command: Callable[[], None]) -> None:
    """Run a module's command; what people can mend is told in a line, without a traceback."""
    try:
        command()
    except TocsinError as error:
        sys.exit(f"error: {error}")


def read_variants(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> section -> settings to put over a recipe's.

    :raises ConfigError: the file is missing, not TOML, or holds something else than tables of tables.
    """
    found = read_toml(path, "the list of variants", error=ConfigError)
    for name, sections in found.items():
        if not isinstance(sections, dict) or not all(isinstance(values, dict) for values in sections.values()):
            raise ConfigError(f'{path}: {name!r} must hold sections of a recipe, as in ["{name}".finetune]')
        if name == AS_IT_IS:
            raise ConfigError(f"{path}: {name!r} is what the others are held against; give it another name")
    return found


def load_variants(
    recipe: Path,
    variants: Mapping[str, Mapping[str, Any]],
    *,
    only: Sequence[str] | None = None,
    over_all: Mapping[str, Mapping[str, Any]] | None = None,
    benchmark: Path | None = None,
) -> dict[str, Settings]:
    """The recipe as it is, and each variant of it.

    :param only: names of the variants to take; none takes all.
    :param over_all: section -> settings to put over every variant and over the recipe itself.
    :raises ConfigError: there is no such variant, or one sets what no recipe has; the message names both.
    """
    if unknown := sorted(set(only or ()) - variants.keys()):
        raise ConfigError(f"no variant {', '.join(map(repr, unknown))}; there are: {', '.join(variants)}")
    wanted = {AS_IT_IS: {}, **{name: variants[name] for name in only or variants}}
    loaded = {}
    for name, own in wanted.items():
        sections = {**own, **{key: {**own.get(key, {}), **values} for key, values in (over_all or {}).items()}}
        try:
            loaded[name] = with_benchmark(load_settings(recipe, overrides=sections), benchmark)
        except ConfigError as error:
            raise ConfigError(f"variant {name!r}: {error}") from error
    return loaded


def distinct(variants: Mapping[str, Settings], console: Console) -> dict[str, Settings]:
    """Those that are another training than the recipe and than any before them; of the rest a line is printed each."""
    made: dict[str, str] = {}
    for name, settings in variants.items():
        same = made.setdefault(variant_sha256(settings), name)
        if same != name:
            console.print(f"skipped: {name!r} changes nothing here, it would train {same!r} again", markup=False)
    return {name: variants[name] for name in made.values()}


def plan(variants: Mapping[str, Settings], seeds: Sequence[int]) -> list[tuple[str, Settings]]:
    """Every variant with every seed, seed by seed, so that what is there when it is stopped can be compared."""
    return [(name, with_seed(settings, seed)) for seed in seeds for name, settings in variants.items()]


def with_seed(settings: Settings, seed: int) -> Settings:
    """The recipe with another seed for weights, order and dropout."""
    return settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"seed": seed})})


def measure(settings: Settings, variant: str, console: Console) -> Outcome:
    """Fine-tune as a recipe says, measure on the test split and the benchmark, and throw the run away."""
    from tocsin_training.corpus import corpus_sha256, load_split

    figures, _ = try_out(settings, "experiment", console)
    return Outcome(
        variant=variant,
        seed=settings.finetune.seed,
        records=len(load_split(settings.data, "train")),
        recipe_sha256=recipe_sha256(settings),
        corpus_sha256=corpus_sha256(settings.data.corpus),
        **figures,
    )


def try_out(settings: Settings, name: str, console: Console) -> tuple[dict[str, Any], float]:
    """Fine-tune, measure and throw the run away.

    :return: figures under ``FIGURES``' keys, and the minutes that fine-tuning took.
    """
    run = run_until("finetune", settings, name, console)
    figures, minutes = figures_of(run, settings), run.figures()["minutes"]["finetune"]
    shutil.rmtree(run.folder)
    return figures, minutes


def run_until(
    stage: str, settings: Settings, name: str, console: Console, *, without: Collection[str] = ("estimate",)
) -> Run:
    """A run of these settings up to a stage, and with it; one that was stopped goes on, if it learns from the same.

    :param without: stages to pass over.
    """
    from tocsin_training.pipeline import go_on

    learned = _learned(settings)
    begun = [Run(path.parent) for path in sorted(settings.runs.glob(f"*-{name}/config.toml"))]
    same = [run for run in begun if run.figures().get(_LEARNED) == learned]
    if same:
        run = same[-1]
        # What a search has found stands in the run alone.
        found = {"finetune": run.settings().finetune} if settings.search.trials else {}
        run.change_settings(settings.model_copy(update=found))
    else:
        check_trackers(settings.finetune.report_to)
        run = Run.create(settings, name)
        run.record(_LEARNED, learned)
    return go_on(run, console, until=stage, without=without)


def _learned(settings: Settings) -> dict[str, str]:
    """Hashes of all that is learned; the benchmark is no part of it."""
    from tocsin_training.corpus import corpus_sha256

    data = settings.data
    unmeasured = settings.model_copy(update={"data": data.model_copy(update={"benchmark": None})})
    return {
        "recipe_sha256": recipe_sha256(unmeasured),
        "corpus_sha256": corpus_sha256(data.corpus),
        "taxonomy_sha256": sha256(data.taxonomy),
    }


def figures_of(run: Run, settings: Settings) -> dict[str, Any]:
    """F1 of the fine-tuned model on the test split, and on the benchmark where its file is, under ``FIGURES``' keys."""
    import torch

    from tocsin_training.benchmark import forced_f1, read_benchmark
    from tocsin_training.corpus import label_matrix, load_split
    from tocsin_training.metrics import f1_figures
    from tocsin_training.model import EventModel, load_tokenizer, predict_logits

    model, tokenizer = EventModel.load(run.model), load_tokenizer(str(run.model))
    torch.set_num_threads(settings.evaluate.threads)

    def logits(texts: Iterable[str]) -> torch.Tensor:
        return predict_logits(model, tokenizer, list(texts), max_tokens=settings.model.max_tokens)

    taxonomy = Taxonomy.load(settings.data.taxonomy)
    test = load_split(settings.data, "test")
    truth = label_matrix(list(test["labels"]), taxonomy)
    figures = f1_figures(truth, logits(test["text"]).numpy() > 0)
    case = None if settings.data.benchmark is None else read_benchmark(settings.data.benchmark)
    return {
        "macro_f1": figures["macro_f1"],
        "weighted_f1": figures["weighted_f1"],
        "case_weighted_f1": None if case is None else forced_f1(logits(case.texts).numpy(), taxonomy, case.truth),
    }


def recipe_sha256(settings: Settings) -> str:
    """Hash of what a training depends on, wherever its folders lie and whatever it is called.

    Settings at their defaults are no part of it, so that one which is added later makes no recipe another; whoever
    changes a default has to measure anew.
    """
    used = _without_idle_settings(settings)
    whole = shareable(used, exclude_defaults=True)
    recipe = {key: value for key, value in whole.items() if key not in _NAMES_AND_JUDGES}
    recipe["data"] = {key: value for key, value in recipe["data"].items() if key not in _WORDS}
    # Other models and other answers go by the same name; what is in the file is nobody else's.
    if used.model.start is not None:
        recipe["model"]["start"] = sha256(head_of(used.model.start))
    if used.finetune.teacher_logits is not None:
        recipe["finetune"]["teacher_logits"] = _teacher_sha256(used.finetune.teacher_logits)
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()


def _teacher_sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read; `make teacher` writes a teacher's answers: {error}") from error


def _without_idle_settings(settings: Settings) -> Settings:
    """The recipe with those settings at their defaults that change nothing, as a seed of what is not drawn."""
    finetune, augment, data = settings.finetune, settings.augment, settings.data
    if finetune.teacher_logits is None or not finetune.distillation_share:
        finetune = finetune.model_copy(update={name: _DEFAULTS[name] for name in _OF_THE_TEACHER})
    if not augment.makes_texts:
        augment = AugmentSettings()
    if not data.new_batches:
        data = data.model_copy(update={"replay_share": 1.0, "replay_seed": 0})
    return settings.model_copy(update={"finetune": finetune, "augment": augment, "data": data})


def variant_sha256(settings: Settings) -> str:
    """Hash of a recipe whatever its seed, and wherever it is run and measured."""
    finetune = {"seed": 0, "device": "cpu", "processes": 1, "threads": 1}
    same = {
        "data": settings.data.model_copy(update={"benchmark": None}),
        "finetune": settings.finetune.model_copy(update=finetune),
    }
    return recipe_sha256(settings.model_copy(update=same))


def measure_missing(path: Path, planned: Sequence[tuple[str, Settings]], console: Console) -> list[Outcome]:
    """The outcome of every planned training, in the order of the plan; the file is written after each.

    :param path: JSON file of outcomes; those that are not of this plan stay in it.
    :param planned: name of the variant and the whole recipe, seed included.
    """
    from tocsin_training.corpus import corpus_sha256

    known = {_key(outcome): outcome for outcome in read_measured(path, Outcome, "outcomes of experiments")}
    found = []
    for variant, settings in planned:
        key = (variant, recipe_sha256(settings), corpus_sha256(settings.data.corpus))
        if key not in known:
            known[key] = measure(settings, variant, console)
            write_json(path, [asdict(outcome) for outcome in known.values()])
        found.append(known[key])
    return found


def _key(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.variant, outcome.recipe_sha256, outcome.corpus_sha256


def read_measured(path: Path, kind: type[_Measured], what: str) -> list[_Measured]:
    """Trainings measured before; none when there is no file yet.

    It is seen to at once that the file can be written when hours of work are done.

    :param kind: of the file's rows.
    :param what: the rows are, in words.
    :raises ConfigError: the file is of another kind.
    :raises UsageError: it cannot be written.
    """
    report_file(path)
    if not path.is_file():
        return []
    try:
        return [kind(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: holds no {what} ({error}); give a new file, or take this one away") from error


def table(outcomes: Sequence[Outcome], title: str, *, against: str | None = None) -> Table:
    """Mean and standard deviation over the seeds of each variant, in the order they come in.

    :param against: the variant that the others are held against, seed by seed; none: no such columns.
    """
    by_variant: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_variant.setdefault(outcome.variant, []).append(outcome)
    heads: list[str] = []
    for name in FIGURES.values():
        heads += [name] if against is None else [name, f"less {against}"]
    built = Table("", "records", "seeds", *heads, title=title)
    for variant, rows in by_variant.items():
        cells = []
        for key in FIGURES:
            cells.append(spread([getattr(row, key) for row in rows]))
            if against is not None:
                cells.append("" if variant == against else difference(rows, by_variant.get(against, []), key))
        built.add_row(variant, f"{rows[0].records:,}", str(len(rows)), *cells)
    return built


def spread(values: Sequence[float | None], *, signed: bool = False) -> str:
    """Mean and, of several, standard deviation; nothing where nothing was measured."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):{'+' if signed else ''}.3f}{deviation}"


class _Seeded(Protocol):
    @property
    def seed(self) -> int: ...


def difference(rows: Sequence[_Seeded], reference: Sequence[_Seeded], key: str) -> str:
    """Of a figure, paired by seed: what a seed does to both cancels out."""
    return spread(differences(rows, reference, key), signed=True)


def differences(rows: Sequence[_Seeded], reference: Sequence[_Seeded], key: str) -> list[float]:
    """How much more each row has of a figure than the reference of its seed; rows without either are left out."""
    of_seed: Mapping[int, float | None] = {row.seed: getattr(row, key) for row in reference}
    pairs = [(getattr(row, key), of_seed.get(row.seed)) for row in rows]
    return [own - other for own, other in pairs if own is not None and other is not None]
