"""The options of an import on the command line, `tocsin data`, and what `--data` does to a recipe."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from tocsin.cli.console import err, out
from tocsin.errors import InputError, UsageError, in_words
from tocsin_training.importing.options import ImportOptions

if TYPE_CHECKING:
    from tocsin_training.config import Settings
    from tocsin_training.importing.build import Imported
    from tocsin_training.importing.report import ImportReport

READING = (
    *("text_column", "label_column", "separator", "names", "no_event", "empty", "strip_openings"),
    *("encoding", "delimiter", "sheet", "bad_rows"),
)
"""Options that say how to read a file, without those that say how to learn from it."""
COUNTING = ("text_column", "label_column", "separator", "no_event", "encoding", "delimiter", "sheet")
"""Options that say which labels a file has."""
DERIVE = "derive"
_CHANGED_ANSWERS = 3
_TOY = "tiny"
"""What a recipe calls the base model that has learned nothing (`base.resolve_base`)."""

TaxonomyChoice = Annotated[
    str | None,
    typer.Option("--taxonomy", help="The labels: a TOML file, or `derive` to take those the files have."),
]


def takes_import_options(
    command: Callable[..., None], only: tuple[str, ...] = tuple(ImportOptions.model_fields)
) -> Callable[..., None]:
    """Give a command an option for each field of ImportOptions; it gets them together, as ``options``."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
    added = [_parameter(name) for name in only]

    def with_options(**values: Any) -> None:  # noqa: ANN401
        chosen = {name: values.pop(name) for name in only}
        command(**values, options=_checked(chosen))

    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    with_options.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *added)]
    )
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return with_options


def _parameter(name: str) -> inspect.Parameter:
    field = ImportOptions.model_fields[name]
    several = isinstance(field.default, tuple)
    kind: Any = list[str] | None if several else field.annotation
    flag = "--" + name.replace("_", "-")
    flags = (f"{flag}/--no-{flag[2:]}",) if field.annotation is bool else (flag,)
    hint = typer.Option(*flags, help=field.description, rich_help_panel="Files with your own data")
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if several else field.default,
        annotation=Annotated[kind, hint],
    )


def _checked(chosen: dict[str, Any]) -> ImportOptions:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    try:
        return ImportOptions.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option}: {in_words(first)}") from error


def import_for(
    settings: Settings, files: list[Path], options: ImportOptions, taxonomy: str | None
) -> tuple[Imported, Path]:
    """Import files as a recipe's data; also the taxonomy file that was used."""
    from tocsin_training.importing.build import import_corpus
    from tocsin_training.importing.derived import derived_taxonomy
    from tocsin_training.importing.names import told_spellings
    from tocsin_training.importing.progress import Progress
    from tocsin_training.importing.reading import passed_over
    from tocsin_training.importing.tables import FORMATS, shown_list

    root, progress = settings.runs / "imports", Progress(err)
    if taxonomy == DERIVE:
        with progress.shown():
            chosen = derived_taxonomy(files, root, options, progress)
    else:
        chosen = settings.data.taxonomy if taxonomy is None else Path(taxonomy).resolve()
    imported = import_corpus(files, root, chosen, options, own_corpus=settings.data.corpus, progress=progress)
    if taxonomy == DERIVE:
        counts = {name: count.all for name, count in imported.report.labels.items()}
        if told := told_spellings(counts):
            imported.report.warnings.append(told)
    if others := passed_over(files):
        imported.report.warnings.append(
            f"not read, for only files whose names end in one of {', '.join(FORMATS)} are taken of a folder, and none "
            f"of folders in it: {shown_list(others)}"
        )
    return imported, chosen


def with_data(
    settings: Settings, files: list[Path], options: ImportOptions, *, taxonomy: str | None, licence: str | None
) -> Settings:
    """A recipe that learns from people's own files; the report goes to stderr.

    :raises InputError: the files are nothing to train on; the message says why and what to do.
    """
    from tocsin_training.calibrate import too_few_to_promise
    from tocsin_training.importing.report import note, show

    imported, chosen = import_for(settings, files, options, taxonomy)
    report = imported.report
    show(report, err, imported.left_out)
    if imported.folder is None:
        raise InputError(refusal(imported))
    read = report.splits["validation"] + report.mixed.get("validation", 0)
    if unkept := too_few_to_promise(read, settings.calibrate):
        note(unkept, err)
    if settings.model.base == _TOY:
        note(
            "this recipe trains a toy model from nothing, to show that the data go through the whole chain: its "
            "answers are worth nothing, and as likely as not it is sure of none, so that every text goes to review",
            err,
        )
    err.print(f"data: {imported.folder}{'' if imported.fresh else ' (imported before)'}", markup=False, soft_wrap=True)
    return recipe_for(settings, imported.folder, report, options, chosen, licence=licence)


def recipe_for(
    settings: Settings,
    corpus: Path,
    report: ImportReport,
    options: ImportOptions,
    taxonomy: Path,
    *,
    licence: str | None = None,
) -> Settings:
    """What a recipe becomes for a corpus that was imported."""
    from tocsin_training.lineage import shareable

    # With few texts to test on, a handful of answers that int8 changes would be more than the recipe allows.
    cost = max(settings.verify.int8_f1_cost, _CHANGED_ANSWERS / report.splits["test"])
    # Its answers are to other texts, or for other labels.
    keeps_teacher = bool(options.mix_share) and taxonomy == settings.data.taxonomy
    recipe = settings.model_copy(
        update={
            "data": settings.data.model_copy(
                update={"corpus": corpus, "taxonomy": taxonomy, "licence": licence, "description": None}
            ),
            "verify": settings.verify.model_copy(update={"int8_f1_cost": cost}),
            "finetune": settings.finetune.model_copy(
                update={
                    "records_without_teacher": "labels alone",
                    # In which order a table names several labels says nothing.
                    "main_share": None,
                    "teacher_logits": settings.finetune.teacher_logits if keeps_teacher else None,
                }
            ),
        }
    )
    # Two releases of one version could not be told apart: it tells of the data, and of what is made of them.
    told = hashlib.sha256(json.dumps(shareable(recipe), sort_keys=True, default=str).encode()).hexdigest()
    return recipe.model_copy(update={"version": f"{settings.version}+{corpus.name[:8]}.{told[:8]}"})


def refusal(imported: Imported) -> str:
    """Why files are not trained on, as one message."""
    where = [] if imported.left_out is None else [f"all rows that were left out, by line: {imported.left_out}"]
    return "\n".join(("not trained on this data:", *imported.report.refusals, *where))


def _data(
    files: Annotated[list[Path], typer.Argument(help="Tables of texts with labels, or folders of such.")],
    config: Annotated[Path, typer.Option(help="The recipe: its taxonomy and corpus.")] = Path("training/train.toml"),
    taxonomy: TaxonomyChoice = None,
    suggest_names: Annotated[
        Path | None, typer.Option(help="Write a beginning of a --names file: unknown names with the likeliest label.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout, for machines.")] = False,
    *,
    options: ImportOptions,
) -> None:
    """Say what `tocsin train --data` would learn from: rows used and left out, labels, duplicates, doubts."""
    from tocsin_training.config import load_settings
    from tocsin_training.importing.names import as_names_file
    from tocsin_training.importing.reading import refusing
    from tocsin_training.importing.report import show

    imported, _ = import_for(load_settings(config), files, options, taxonomy)
    report = imported.report
    if as_json:
        listed = None if imported.left_out is None else str(imported.left_out)
        print(json.dumps(report.model_dump(mode="json") | {"left_out": listed}, ensure_ascii=False))
    else:
        show(report, out, imported.left_out)
    if suggest_names is not None:
        open_names = dict.fromkeys(report.unknown_names.keys() - report.suggestions.keys(), "")
        open_names |= {each.name: each.why for each in report.undecided_names}
        with refusing(suggest_names):
            suggest_names.write_text(as_names_file(report.suggestions, open_names), encoding="utf-8")
        names = len(open_names) + len(report.suggestions)
        err.print(f"{suggest_names}: {names} names; check it, then give it as --names", markup=False)
    if imported.folder is None:
        raise InputError(refusal(imported))


data = takes_import_options(_data)
data.__name__ = "data"
