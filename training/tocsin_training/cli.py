"""The training room's sub-commands of `tocsin`. Heavy imports wait until a command runs."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tocsin.cli.console import err, out
from tocsin.errors import UsageError
from tocsin_training.errors import CorpusError
from tocsin_training.importing.cli import COUNTING, READING, TaxonomyChoice, takes_import_options
from tocsin_training.importing.options import ImportOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rich.console import RenderableType

    from tocsin.release import Release
    from tocsin_training.config import Settings
    from tocsin_training.corpus import Line
    from tocsin_training.run import Run

_CONFIG = Path("training/train.toml")
_CORPUS = Path("datasets/corpus")
_TAXONOMY = Path("datasets/taxonomy.toml")

corpus = typer.Typer(help="Check the corpus, or see what it covers.", no_args_is_help=True, add_completion=False)
taxonomy = typer.Typer(help="Check a taxonomy, or make one from data.", no_args_is_help=True, add_completion=False)

Config = Annotated[Path, typer.Option(help="The recipe: a TOML file.")]
OwnConfig = Annotated[
    Path | None, typer.Option(help="Recipe with the margins and the corpus; the challenger's run's own by default.")
]
Corpus = Annotated[Path, typer.Argument(help="Folder with train/, validation/ and test/.")]
TaxonomyFile = Annotated[Path, typer.Option("--taxonomy", help="The labels: a TOML file.")]
Target = Annotated[Path | None, typer.Option(help="Place of the release; the shipped one by default.")]
HeldOutText = Annotated[
    str, typer.Option(help="`corpus` (the recipe's test split), a corpus folder, or any file of labelled text.")
]
HistoryFolder = Annotated[
    Path | None, typer.Option(help="Where former releases are kept; $TOCSIN_RELEASES, or releases/ beside the release.")
]
BenchmarkTexts = Annotated[Path | None, typer.Option(help="TSV file with a text column that no record may repeat.")]
CaseFile = Annotated[
    Path | None,
    typer.Option(help="CASE 2021 task 2 file, for figures on real news; the recipe's data.benchmark by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Figures as JSON on stdout, for machines.")]


@takes_import_options
def train(
    context: typer.Context,
    config: Config = _CONFIG,
    name: Annotated[str, typer.Option(help="Name of the run; its folder is runs/TIME-NAME.")] = "train",
    preset: Annotated[
        str | None, typer.Option(help="small (MiniLM, minutes) or base (MPNet, hours without a GPU), over the recipe.")
    ] = None,
    search: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Try N settings first and train with the best.")
    ] = None,
    device: Annotated[
        Literal["cpu", "auto"] | None,
        typer.Option(help="Where to fine-tune, instead of the recipe's: `auto` takes a GPU where there is one."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run that was stopped: its folder, or `latest` where the default recipe has its runs.",
        ),
    ] = None,
    again_from: Annotated[
        str | None,
        typer.Option("--from", metavar="STAGE", help="With --resume: run this stage again, and all after it."),
    ] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Only say how long it takes, in what memory; keeps only the prepared texts."),
    ] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Your own labelled texts instead of the recipe's corpus; repeat it for several files."),
    ] = None,
    taxonomy: TaxonomyChoice = None,
    licence: Annotated[
        str | None, typer.Option(help="Of your data, in your words; the release's lineage and card say it.")
    ] = None,
    benchmark: CaseFile = None,
    *,
    options: ImportOptions,
) -> None:
    """Train a model from a corpus, or from --data of your own, to a verified release, as a recipe says.

    Prints the release folder. `tocsin promote RUN` then makes it the one that is loaded by default.
    """
    from tocsin_training.benchmark import with_benchmark
    from tocsin_training.config import load_settings
    from tocsin_training.importing.cli import with_data
    from tocsin_training.pipeline import estimate as only_estimate
    from tocsin_training.pipeline import go_on
    from tocsin_training.pipeline import train as run_stages
    from tocsin_training.run import Run

    if again_from is not None and resume is None:
        raise UsageError("--from goes with --resume RUN: it says where in that run to begin again")
    if resume is not None:
        # The benchmark is no part of what is learned: it only adds figures.
        if ignored := _given(context, apart_from=("resume", "again_from", "estimate", "benchmark")):
            raise UsageError(f"--resume goes on with the run's own recipe and data; leave out: {', '.join(ignored)}")
        if estimate and (again_from is not None or benchmark is not None):
            raise UsageError("--estimate only says how long a run takes; --from and --benchmark make parts of it anew")
        run = Run.open(_latest_run() if resume == "latest" else Path(resume))
        again_from = _measured_on(run, benchmark, again_from)
        go_on(run, err, until="estimate" if estimate else None, again_from=again_from)
    else:
        settings = with_benchmark(load_settings(config, preset=preset), benchmark)
        # Before the data, for a release's version tells of the whole recipe.
        settings = _changed(settings, search=search, device=device)
        if data:
            settings = with_data(settings, data, options, taxonomy=taxonomy, licence=licence)
        elif options != ImportOptions() or taxonomy is not None or licence is not None:
            raise UsageError("options for your own data need it: --data FILE")
        if estimate:
            only_estimate(settings, err)
            return
        run = run_stages(settings, name, err)
    if not estimate:
        print(run.release)


def _changed(settings: Settings, *, search: int | None, device: Literal["cpu", "auto"] | None) -> Settings:
    """The recipe with what the command line says of the search and the device."""
    from tocsin_training.config import SearchSettings

    if search is not None:
        settings = settings.model_copy(update={"search": SearchSettings(trials=search)})
    if device is not None:
        settings = settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"device": device})})
    return settings


def _measured_on(run: Run, benchmark: Path | None, again_from: str | None) -> str | None:
    """Put a benchmark into a run's recipe; the stage from which on it is then to go, none where it is still to come."""
    from tocsin_training.benchmark import with_benchmark

    if benchmark is None:
        return again_from
    run.change_settings(with_benchmark(run.settings(), benchmark))
    measured = "evaluate" in run.figures().get("minutes", {})
    # Of all stages the card alone comes after it, and tells what it measured.
    return "evaluate" if measured and again_from in {None, "card"} else again_from


def _given(context: typer.Context, *, apart_from: Collection[str]) -> list[str]:
    """Options that stand on the command line, be it with the value that they have anyway."""
    given = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE" and option.name not in apart_from:
            given.append(option.opts[0])
    return given


def calibrate(
    source: Annotated[
        str, typer.Argument(metavar="RUN", help="Folder of a finished run, or `latest` where the recipe has its runs.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="Recipe that says how to calibrate and evaluate; the run's own by default.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version of the release from now on; the same by default.", show_default=False)
    ] = None,
    benchmark: CaseFile = None,
) -> None:
    """Fit thresholds, objectives and the review line of a run anew, without training; verify, evaluate and card follow.

    It needs the run, with its fp32 twin, and not a release alone: the shipped one's is made anew by `make train`.
    Prints the release folder.
    """
    from tocsin_training.benchmark import with_benchmark
    from tocsin_training.config import load_settings
    from tocsin_training.pipeline import recalibrate
    from tocsin_training.run import Run

    run = Run.open(_latest_run(config) if source == "latest" else Path(source))
    settings = run.settings() if config is None else load_settings(config)
    if config is not None and benchmark is None:
        # What the run was measured on before it is measured on again.
        benchmark = settings.data.benchmark or run.settings().data.benchmark
    print(recalibrate(run, with_benchmark(settings, benchmark), err, version=version).release)


def evaluate(
    release: Annotated[Path | None, typer.Option(help="Release folder; the shipped one by default.")] = None,
    config: Config = _CONFIG,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    benchmark: CaseFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for metrics.json, the card and pictures; evaluate/RELEASE-SPLIT among the runs by default.",
            show_default=False,
        ),
    ] = None,
    rivals: Annotated[bool, typer.Option("--rivals", help="Measure simple baselines, too; takes minutes.")] = False,
    teacher_model: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="The model/ folder of the teacher's run, repeated for several that answer together; without it the "
            "teacher is known by the file of its answers, which has none to CASE. Takes minutes.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a release: accuracy, calibration, false alarms, review, robustness; CASE 2021 where its file is.

    Prints the figures, and writes them with pictures and the model card that they make into a folder of its own.
    """
    import json

    from tocsin.release import default_release_folder, read_manifest
    from tocsin.taxonomy import Taxonomy
    from tocsin_training.benchmark import with_benchmark
    from tocsin_training.card import write_evaluation
    from tocsin_training.config import load_settings
    from tocsin_training.distil import mean_of
    from tocsin_training.evaluate import evaluate as measure
    from tocsin_training.evaluate import show
    from tocsin_training.run import report_folder

    settings = with_benchmark(load_settings(config), benchmark)
    labels = len(Taxonomy.load(settings.data.taxonomy).labels)
    teacher = mean_of(teacher_model, labels, max_tokens=settings.model.max_tokens) if teacher_model else None
    folder = default_release_folder() if release is None else release
    if output is None:
        output = settings.runs / "evaluate" / f"{read_manifest(folder).release_name}-{split}"
    report_folder(output)
    figures = measure(
        folder,
        settings.data,
        split=split,
        plot_folder=output,
        bootstrap_samples=settings.evaluate.bootstrap_samples,
        threads=settings.evaluate.threads,
        rivals=rivals or settings.evaluate.rivals,
        teacher_logits=settings.finetune.teacher_logits,
        teacher_model=teacher,
    )
    write_evaluation(output, folder, figures)
    if as_json:
        print(json.dumps(figures))
    else:
        show(figures, out)
    err.print(f"figures, pictures and card: {output}", markup=False, soft_wrap=True)


@partial(takes_import_options, only=READING)
def compare(
    champion: Annotated[
        str,
        typer.Argument(
            help="The one to beat: folder, run, `latest` where the recipe has its runs, `shipped`, store:name."
        ),
    ],
    challenger: Annotated[str, typer.Argument(help="The release that may take its place; named likewise.")],
    data: HeldOutText = "corpus",
    config: OwnConfig = None,
    report: Annotated[Path | None, typer.Option(help="HTML file to write, with pictures and examples.")] = None,
    as_json: AsJson = False,
    *,
    options: ImportOptions,
) -> None:
    """Hold two releases against each other on the same held-out text: better, worse, or no difference shown."""
    import json

    from tocsin_training.compare import compare_releases
    from tocsin_training.compare_report import tables, verdict, write_html
    from tocsin_training.config import load_settings

    recipe, own = _recipe(config, challenger)
    comparison = compare_releases(
        _release(champion, config), _release(challenger, config), load_settings(recipe), data, options, own_recipe=own
    )
    if report is not None:
        write_html(comparison, report)
        err.print(f"report: {report}")
    if as_json:
        print(json.dumps(comparison.as_dict()))
        return
    for table in tables(comparison):
        out.print(table)
    out.print(verdict(comparison), style="bold red" if comparison.faults else "bold green", markup=False)


@partial(takes_import_options, only=READING)
def promote(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run, `latest` where the recipe has its runs, a release folder, or store:name.",
        ),
    ],
    target: Target = None,
    to: Annotated[
        str | None, typer.Option(help="Instead: keep it in a store, such as bentoml:NAME or bentoml:NAME:VERSION.")
    ] = None,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Promote it though it is worse; the manifest keeps the reason.")
    ] = None,
    data: HeldOutText = "corpus",
    config: OwnConfig = None,
    history: HistoryFolder = None,
    *,
    options: ImportOptions,
) -> None:
    """Make a verified release the one that is loaded by default, unless it is worse than the one it replaces.

    Both are compared on held-out text, within the margins of the recipe's [compare]. `tocsin rollback` undoes it.
    """
    from tocsin.release import default_release_folder
    from tocsin.stores import find_store
    from tocsin_training.compare import missed_margins
    from tocsin_training.compare_report import tables
    from tocsin_training.config import load_settings
    from tocsin_training.promote import is_free, open_candidate, rollback_command
    from tocsin_training.promote import promote as put_in_place

    if to is not None and target is not None:
        raise UsageError("give --to or --target, not both")
    if force is not None and not force.strip():
        raise UsageError("--force needs a reason in words")
    source = str(_latest_run(config)) if source == "latest" else source
    candidate = open_candidate(source)
    if to is not None:
        store, name = find_store(to)
        err.print(f"{candidate.name} is now {to.partition(':')[0]}:{store.save(candidate, name)}", markup=False)
        return
    recipe, own = _recipe(config, source)

    def worse(champion: Release, challenger: Release) -> tuple[str, ...]:
        return missed_margins(
            champion,
            challenger,
            load_settings(recipe),
            data,
            options=options,
            own_recipe=own,
            shown=lambda comparison: err.print(tables(comparison)[0]),
        )

    place = default_release_folder() if target is None else target
    replaces = not is_free(place)
    release = put_in_place(candidate, place, faults=worse, force=force, history=history)
    undone = f"; `{rollback_command(place)}` undoes it" if replaces else ""
    err.print(f"{release.name} is now in {release.folder}{undone}", markup=False)


def rollback(
    version: Annotated[
        str | None, typer.Argument(help="Which release; the one before the present one by default.", show_default=False)
    ] = None,
    target: Target = None,
    history: HistoryFolder = None,
) -> None:
    """Bring back a release that was promoted before, byte for byte."""
    from tocsin.release import default_release_folder
    from tocsin_training.promote import rollback as bring_back

    release = bring_back(default_release_folder() if target is None else target, version, history=history)
    err.print(f"{release.name} is back in {release.folder}", markup=False)


def _release(name: str, config: Path | None) -> Release:
    """What a user calls a release: `shipped`, `latest`, the folder of a run or a release, or store:name.

    :param config: see ``_latest_run``.
    """
    from tocsin.release import Release
    from tocsin.stores import resolve_release
    from tocsin_training.run import Run

    if name == "shipped":
        return Release.open()
    run = Run(_latest_run(config) if name == "latest" else Path(name))
    return Release.open(run.release if run.config.is_file() else resolve_release(name))


def _recipe(config: Path | None, source: str) -> tuple[Path, bool]:
    """The recipe that is named, or a run's own, which holds the corpus that the run was tested on; else the default.

    :return: the recipe, and whether it is one of the former.
    """
    own = (_latest_run(config) if source == "latest" else Path(source)) / "config.toml"
    found = config or (own if own.is_file() else None)
    return found or _CONFIG, found is not None


def _latest_run(config: Path | None = None) -> Path:
    """The run that began last where a recipe puts its runs, the default one where none is named."""
    from tocsin_training.config import load_settings

    folder = load_settings(config or _CONFIG).runs if config or _CONFIG.is_file() else Path("runs")
    runs = sorted(path.parent for path in folder.glob("*/config.toml"))
    if not runs:
        raise UsageError(f"{folder} holds no run; train one, or name a folder")
    return runs[-1]


@corpus.command("check")
def corpus_check(
    folder: Corpus = _CORPUS,
    taxonomy: TaxonomyFile = _TAXONOMY,
    benchmark: BenchmarkTexts = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="Own codings of real text: read once, names and rough words are in order."),
    ] = False,
) -> None:
    """Check every record against the corpus's rules; each fault names file, line and rule."""
    from tocsin_training.validate import main

    if faults := main(folder, taxonomy, benchmark, published=not private):
        raise CorpusError(f"{folder}: {faults} fault{'s' if faults > 1 else ''}")


@corpus.command("coverage")
def corpus_coverage(folder: Corpus = _CORPUS, taxonomy: TaxonomyFile = _TAXONOMY) -> None:
    """Count records by label and split, register, length, decade and region; and say which of these meet nowhere.

    Then which labels meet no register, or no decade, in a region; and, by patterns, how the texts are told: actors,
    casualties, passives, event nouns, reported speech, quotations, slugs, careless copy, with an event and without.

    Where a writer named no country, one is inferred from the text, counted after a plus; the last table says how often
    that is wrong.
    """
    from tocsin.taxonomy import Taxonomy
    from tocsin_training import joint_coverage, variety
    from tocsin_training.coverage import grids

    lines, labels = _all_lines(folder), Taxonomy.load(taxonomy)
    joints = joint_coverage.measure_joint(lines, labels)
    _show(grids(lines, labels))
    _show([joint_coverage.counts_grid(joints), *(joint.grid() for joint in joints if joint.of == "label")])
    _show([variety.grid(variety.measure_variety(lines))])


@corpus.command("duplicates")
def corpus_duplicates(
    folder: Corpus = _CORPUS,
    each: Annotated[bool, typer.Option("--list", help="Name every pair that was not meant so.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the texts that are nearly the same, across splits and within each; it only reports."""
    from dataclasses import asdict

    from tocsin_training.duplicates import count_alike, find_alike, grid

    lines = _all_lines(folder)
    alike = find_alike(lines)
    rows = count_alike(lines, alike)
    _show([grid(rows)], [asdict(row) for row in rows] if as_json else None)
    if each:
        for pair in alike:
            if not pair.intended:
                print(f"{pair.similarity:.0%} {pair.first.record.id} {pair.second.record.id}")


@corpus.command("agreement")
def corpus_agreement(folder: Corpus = _CORPUS, taxonomy: TaxonomyFile = _TAXONOMY, as_json: AsJson = False) -> None:
    """Say how far two readers agree: kappa of each label, alpha over all and by split, and what is still undecided.

    Fails where kappa over all, each answer taken as a whole, is under 0.85; labels under it are named.
    """
    from dataclasses import asdict

    from tocsin.taxonomy import Taxonomy
    from tocsin_training.agreement import grids, measure_agreement, measure_by_split

    lines, labels = _all_lines(folder), Taxonomy.load(taxonomy)
    agreement = measure_agreement([line.record for line in lines], labels)
    by_split = measure_by_split(lines, labels)
    figures = asdict(agreement) | {"splits": {split: asdict(found) for split, found in by_split.items()}}
    _show(grids(agreement, by_split), figures if as_json else None)
    if fault := agreement.fault:
        raise CorpusError(f"{folder}: {fault}")


@corpus.command("tics")
def corpus_tics(
    folder: Corpus = _CORPUS,
    most: Annotated[int, typer.Option(min=1, help="So many phrases a batch at most, and so many batches.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the phrases that a batch uses far more than the rest of the corpus, worst first; it only reports.

    Before them stand the forms in which sentences close ("... on DAY, SOURCE said"): the share of the records with
    an event that hold one, and of those without, by split, and the batches where the two are furthest apart.
    """
    from dataclasses import asdict

    from tocsin_training.cues import batches_grid, cues_by_batch, cues_by_split, splits_grid
    from tocsin_training.tics import find_tics, grids

    lines = _all_lines(folder)
    by_split, by_batch = cues_by_split(lines), cues_by_batch(lines, most)
    tics = find_tics([line.record for line in lines], most=most)
    figures = {
        "closing_forms": [asdict(cue) for cue in (*by_split, *by_batch)],
        "phrases": {batch: [asdict(tic) for tic in of_batch] for batch, of_batch in tics.items()},
    }
    _show([splits_grid(by_split), batches_grid(by_batch), *grids(tics)], figures if as_json else None)


@corpus.command("balance")
def corpus_balance(folder: Corpus = _CORPUS, taxonomy: TaxonomyFile = _TAXONOMY, as_json: AsJson = False) -> None:
    """Hold what is there against the least that is wanted of each label, reason and kind; fails if one is missed."""
    from dataclasses import asdict

    from tocsin.taxonomy import Taxonomy
    from tocsin_training.balance import check_balance, table

    rows = check_balance(_all_lines(folder), Taxonomy.load(taxonomy))
    _show([table(rows)], [asdict(row) | {"missed": row.missed} for row in rows] if as_json else None)
    if missed := [row.name for row in rows if row.missed]:
        raise CorpusError(f"{folder}: too few of: {', '.join(missed)}")


@corpus.command("card")
def corpus_card(
    folder: Corpus = _CORPUS,
    taxonomy: TaxonomyFile = _TAXONOMY,
    card: Annotated[Path, typer.Option(help="The card; COVERAGE.md lies beside it.")] = Path("datasets/README.md"),
    benchmark: BenchmarkTexts = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a figure is out of step.")] = False,
) -> None:
    """Write the figures of the corpus into its card, between the marks that stand there; all else is left alone."""
    from tocsin.taxonomy import Taxonomy
    from tocsin_training.corpus_card import coverage_sections, sections, write_sections

    lines, labels = _all_lines(folder), Taxonomy.load(taxonomy)
    written = {
        card: sections(lines, labels, folder, card.parent, benchmark=benchmark),
        card.with_name("COVERAGE.md"): coverage_sections(lines, labels),
    }
    stale = [f"{path.name}: {name}" for path, texts in written.items() for name in write_sections(path, texts, check)]
    if check and stale:
        raise CorpusError(f"{card.parent}: out of step with the corpus: {', '.join(stale)}; run `tocsin corpus card`")
    err.print(
        f"{card.parent}: {', '.join(stale)} written" if stale else f"{card.parent}: nothing to change", markup=False
    )


def _show(tables: Iterable[RenderableType], figures: object = None) -> None:
    """Figures as JSON for machines where they are given, the tables for people otherwise."""
    import json

    if figures is not None:
        print(json.dumps(figures))
        return
    for table in tables:
        out.print(table)


@taxonomy.command("check")
def taxonomy_check(file: Annotated[Path, typer.Argument(help="The labels: a TOML file.")]) -> None:
    """Check a taxonomy file against every rule, and show its labels; a fault names file, entry and field."""
    from tocsin.taxonomy import Taxonomy
    from tocsin_training.taxonomies import summary, table

    found = Taxonomy.load(file)
    out.print(table(found))
    err.print(f"{file}: {summary(found)}", markup=False)


@taxonomy.command("derive")
@partial(takes_import_options, only=COUNTING)
def taxonomy_derive(
    files: Annotated[list[Path], typer.Argument(help="Labelled data: what `tocsin train --data` reads.")],
    output: Annotated[Path | None, typer.Option(help="TOML file to write.", show_default="printed on stdout")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    *,
    options: ImportOptions,
) -> None:
    """Make a taxonomy of the labels that stand in data; `Parent > Child` puts a label under an event type.

    Write the definitions into it before you train: they stand on the model's card and at /taxonomy.
    """
    from tocsin_training.importing.derived import derive_files
    from tocsin_training.importing.names import told_spellings
    from tocsin_training.importing.report import note
    from tocsin_training.taxonomies import summary, to_toml

    found, counts = derive_files(files, output, options, overwrite=overwrite)
    err.print(f"{output or ', '.join(map(str, files))}: {summary(found)}", markup=False)
    if counts.bad_rows:
        err.print(f"{counts.bad_rows:,} rows cannot be read and are not counted; `tocsin data` says why", markup=False)
    if told := told_spellings(counts.by_label(found)):
        note(told, err)
    if output is None:
        print(to_toml(found), end="")


def acled_download(
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The .csv file to write.")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the events.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day of the events.")],
    country: Annotated[
        list[str] | None,
        typer.Option(help="Country, as ACLED spells it; give it again for more.", show_default="all"),
    ] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option(help="Event type, as ACLED spells it; give it again for more.", show_default="all"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that exists, finished or unfinished.")
    ] = False,
) -> None:
    """Download events from ACLED into a CSV file, for training on a machine of your own under ACLED's terms.

    Your account is read from the environment: ACLED_EMAIL and ACLED_PASSWORD. The file appears when it is complete; a
    download that was stopped goes on when the same command is given again.
    """
    from tocsin_training.acled_api import AcledApi, Query, download

    query = Query(tuple(country or ()), first.date(), last.date(), tuple(event_type or ()))
    found = download(
        AcledApi.from_environment(), query, target, overwrite=overwrite, told=lambda line: err.print(line, markup=False)
    )
    err.print(f"{target}: {found.rows:,} events. ACLED's terms of use apply to them.", markup=False)


def _all_lines(folder: Path) -> list[Line]:
    """All records of a corpus; figures over a part of them would mislead."""
    from tocsin_training.validate import read_lines

    lines, faults = read_lines(folder)
    if faults:
        raise CorpusError(f"{folder}: not every line is a record; `tocsin corpus check {folder}` names them")
    return lines
