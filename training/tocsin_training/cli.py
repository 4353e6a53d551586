"""The training room's sub-commands of `tocsin`. Heavy imports wait until a command runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli.console import err, out
from tocsin.errors import UsageError
from tocsin_training.errors import CorpusError
from tocsin_training.importing.cli import READING, TaxonomyChoice, takes_import_options
from tocsin_training.importing.options import ImportOptions

if TYPE_CHECKING:
    from tocsin.release import Release
    from tocsin_training.corpus import Line

_CONFIG = Path("training/train.toml")
_BENCHMARK = Path("../shared/benchmarks/case2021_task2_dev.tsv")

corpus = typer.Typer(help="Check the corpus, or see what it covers.", no_args_is_help=True, add_completion=False)

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
AsJson = Annotated[bool, typer.Option("--json", help="Figures as JSON on stdout, for machines.")]


@takes_import_options
def train(
    config: Config = _CONFIG,
    name: Annotated[str, typer.Option(help="Name of the run; its folder is runs/TIME-NAME.")] = "train",
    preset: Annotated[
        str | None, typer.Option(help="small (MiniLM, minutes) or base (MPNet, hours without a GPU), over the recipe.")
    ] = None,
    search: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Try N settings first and train with the best.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped: its folder, or `latest`.")
    ] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Only say how long it takes, in what memory.")] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Your own labelled texts instead of the recipe's corpus; repeat it for several files."),
    ] = None,
    taxonomy: TaxonomyChoice = None,
    licence: Annotated[
        str | None, typer.Option(help="Of your data, in your words; the release's lineage and card say it.")
    ] = None,
    *,
    options: ImportOptions,
) -> None:
    """Train a model from a corpus, or from --data of your own, to a verified release, as a recipe says.

    Prints the release folder. `tocsin promote RUN` then makes it the one that is loaded by default.
    """
    from tocsin_training.config import SearchSettings, load_settings
    from tocsin_training.importing.cli import with_data
    from tocsin_training.pipeline import go_on
    from tocsin_training.pipeline import train as run_stages
    from tocsin_training.run import Run

    until = "estimate" if estimate else None
    if resume is not None:
        if preset is not None or search is not None or data:
            raise UsageError("--resume goes on with the run's own recipe; leave --preset, --search and --data out")
        run = go_on(Run.open(_latest_run() if resume == "latest" else Path(resume)), err, until=until)
    else:
        settings = load_settings(config, preset=preset)
        if data:
            settings = with_data(settings, data, options, taxonomy=taxonomy, licence=licence)
        elif options != ImportOptions() or taxonomy is not None or licence is not None:
            raise UsageError("options for your own data need it: --data FILE")
        if search is not None:
            settings = settings.model_copy(update={"search": SearchSettings(trials=search)})
        run = run_stages(settings, name, err, until=until)
    if not estimate:
        print(run.release)


def evaluate(
    release: Annotated[Path | None, typer.Option(help="Release folder; the shipped one by default.")] = None,
    config: Config = _CONFIG,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    benchmark: Annotated[
        Path | None, typer.Option(help=f"CASE 2021 task 2 file; {_BENCHMARK} is taken where it exists.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for metrics.json and pictures.")] = None,
    rivals: Annotated[
        bool, typer.Option("--rivals", help="Measure simple baselines and the teacher, too; takes minutes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a release: accuracy, calibration, false alarms, review; and CASE 2021 where its file is."""
    import json

    from tocsin.release import default_release_folder
    from tocsin_training.config import load_settings
    from tocsin_training.evaluate import evaluate as measure
    from tocsin_training.evaluate import show
    from tocsin_training.run import write_json

    settings = load_settings(config)
    if benchmark is None:
        benchmark = settings.data.benchmark or (_BENCHMARK if _BENCHMARK.is_file() else None)
    figures = measure(
        default_release_folder() if release is None else release,
        settings.data.model_copy(update={"benchmark": benchmark}),
        split=split,
        plot_folder=output,
        bootstrap_samples=settings.evaluate.bootstrap_samples,
        threads=settings.evaluate.threads,
        rivals=rivals,
        teacher_logits=settings.finetune.teacher_logits,
    )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "metrics.json", figures)
    if as_json:
        print(json.dumps(figures))
    else:
        show(figures, out)


@partial(takes_import_options, only=READING)
def compare(
    champion: Annotated[str, typer.Argument(help="The one to beat: folder, run, `latest`, `shipped`, store:name.")],
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

    comparison = compare_releases(
        _release(champion), _release(challenger), load_settings(_recipe(config, challenger)), data, options
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
        str, typer.Argument(metavar="RUN", help="Folder of a run, `latest`, a release folder, or store:name.")
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
    from tocsin_training.promote import open_candidate
    from tocsin_training.promote import promote as put_in_place

    if to is not None and target is not None:
        raise UsageError("give --to or --target, not both")
    if force is not None and not force.strip():
        raise UsageError("--force needs a reason in words")
    source = str(_latest_run()) if source == "latest" else source
    candidate = open_candidate(source)
    if to is not None:
        store, name = find_store(to)
        err.print(f"{candidate.name} is now {to.partition(':')[0]}:{store.save(candidate, name)}", markup=False)
        return
    recipe = _recipe(config, source)

    def worse(champion: Release, challenger: Release) -> tuple[str, ...]:
        return missed_margins(
            champion,
            challenger,
            load_settings(recipe),
            data,
            options=options,
            shown=lambda comparison: err.print(tables(comparison)[0]),
        )

    place = default_release_folder() if target is None else target
    release = put_in_place(candidate, place, faults=worse, force=force, history=history)
    err.print(f"{release.name} is now in {release.folder}; `tocsin rollback` undoes it", markup=False)


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


def _release(name: str) -> Release:
    """What a user calls a release: `shipped`, `latest`, the folder of a run or a release, or store:name."""
    from tocsin.release import Release
    from tocsin.stores import resolve_release
    from tocsin_training.run import Run

    if name == "shipped":
        return Release.open()
    run = Run(_latest_run() if name == "latest" else Path(name))
    return Release.open(run.release if run.config.is_file() else resolve_release(name))


def _recipe(config: Path | None, source: str) -> Path:
    """The recipe that is named, or a run's own, which holds the corpus that the run was tested on."""
    own = (_latest_run() if source == "latest" else Path(source)) / "config.toml"
    return config or (own if own.is_file() else _CONFIG)


def _latest_run() -> Path:
    runs = sorted(path.parent for path in Path("runs").glob("*/config.toml"))
    if not runs:
        raise UsageError("runs/ holds no run; train one, or name a folder")
    return runs[-1]


@corpus.command("check")
def corpus_check(
    folder: Corpus = Path("datasets/corpus"),
    taxonomy: TaxonomyFile = Path("datasets/taxonomy.toml"),
    benchmark: Annotated[
        Path | None, typer.Option(help="TSV file with a text column that no record may repeat.")
    ] = None,
) -> None:
    """Check every record against the corpus's rules; each fault names file, line and rule."""
    from tocsin_training.validate import main

    if faults := main(folder, taxonomy, benchmark):
        raise CorpusError(f"{folder}: {faults} fault{'s' if faults > 1 else ''}")


@corpus.command("coverage")
def corpus_coverage(
    folder: Corpus = Path("datasets/corpus"), taxonomy: TaxonomyFile = Path("datasets/taxonomy.toml")
) -> None:
    """Count records by label and split, register, length, decade and region."""
    from tocsin_training.coverage import main

    main(folder, taxonomy, out)


@corpus.command("agreement")
def corpus_agreement(
    folder: Corpus = Path("datasets/corpus"),
    taxonomy: TaxonomyFile = Path("datasets/taxonomy.toml"),
    as_json: AsJson = False,
) -> None:
    """Say how far two readers agree: kappa of each label, alpha over all, and what is still undecided."""
    import json
    from dataclasses import asdict

    from tocsin.taxonomy import Taxonomy
    from tocsin_training.agreement import measure_agreement, tables

    agreement = measure_agreement([line.record for line in _all_lines(folder)], Taxonomy.load(taxonomy))
    if as_json:
        print(json.dumps(asdict(agreement)))
    else:
        for table in tables(agreement):
            out.print(table)


@corpus.command("tics")
def corpus_tics(
    folder: Corpus = Path("datasets/corpus"),
    most: Annotated[int, typer.Option(min=1, help="So many phrases a batch at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the phrases that a batch uses far more than the rest of the corpus, worst first; it only reports."""
    import json
    from dataclasses import asdict

    from tocsin_training.tics import find_tics, tables

    tics = find_tics([line.record for line in _all_lines(folder)], most=most)
    if as_json:
        print(json.dumps({batch: [asdict(tic) for tic in of_batch] for batch, of_batch in tics.items()}))
    else:
        for table in tables(tics):
            out.print(table)


@corpus.command("balance")
def corpus_balance(
    folder: Corpus = Path("datasets/corpus"),
    taxonomy: TaxonomyFile = Path("datasets/taxonomy.toml"),
    as_json: AsJson = False,
) -> None:
    """Hold what is there against the least that is wanted of each label, reason and kind; fails if one is missed."""
    import json
    from dataclasses import asdict

    from tocsin.taxonomy import Taxonomy
    from tocsin_training.balance import check_balance, table

    rows = check_balance(_all_lines(folder), Taxonomy.load(taxonomy))
    if as_json:
        print(json.dumps([asdict(row) | {"missed": row.missed} for row in rows]))
    else:
        out.print(table(rows))
    if missed := [row.name for row in rows if row.missed]:
        raise CorpusError(f"{folder}: too few of: {', '.join(missed)}")


def _all_lines(folder: Path) -> list[Line]:
    """All records of a corpus; figures over a part of them would mislead."""
    from tocsin_training.validate import read_lines

    lines, faults = read_lines(folder)
    if faults:
        raise CorpusError(f"{folder}: not every line is a record; `tocsin corpus check {folder}` names them")
    return lines
