"""What `--data` makes of a recipe, and how the options reach the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from synthetic import ROOT, TAXONOMY, notes, old_layout, write_csv
from typer.testing import CliRunner

from tocsin.errors import InputError, UsageError
from tocsin.lineage import DataLineage
from tocsin.release import sha256
from tocsin.taxonomy import Taxonomy
from tocsin_training.config import AugmentSettings, Settings, load_settings
from tocsin_training.corpus import learned_records
from tocsin_training.distil import read_teacher
from tocsin_training.heldout import read_file
from tocsin_training.importing.build import import_corpus
from tocsin_training.importing.cli import import_for, with_data
from tocsin_training.importing.derived import MOST_LABELS, derived_taxonomy
from tocsin_training.importing.options import ImportOptions
from tocsin_training.lineage import describe_data

Own = Callable[..., Settings]


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """The shipped recipe on a small export."""
    path = write_csv(tmp_path / "export.csv", list(notes(100)))
    recipe = load_settings(ROOT / "training" / "train.toml").model_copy(update={"runs": tmp_path / "runs"})

    def make(**options: object) -> Settings:
        chosen = ImportOptions.model_validate({"label_errors": False, **options})
        return with_data(recipe, [path], chosen, taxonomy=None, licence="ours")

    return make


def test_without_our_corpus_there_is_no_teacher_and_with_it_there_is(own: Own) -> None:
    alone, mixed = own(), own(mix="0.5")
    assert alone.finetune.teacher_logits is None
    assert mixed.finetune.teacher_logits is not None
    assert mixed.finetune.records_without_teacher == "labels alone"
    assert alone.version != mixed.version


def test_two_recipes_on_the_same_data_make_releases_of_two_names(tmp_path: Path) -> None:
    path, recipe = write_csv(tmp_path / "export.csv", list(notes(100))), ROOT / "training" / "train.toml"

    def version(preset: str | None = None, **finetune: object) -> str:
        settings = load_settings(recipe, preset=preset).model_copy(update={"runs": tmp_path / "runs"})
        settings = settings.model_copy(update={"finetune": settings.finetune.model_copy(update=finetune)})
        return with_data(settings, [path], ImportOptions(label_errors=False), taxonomy=None, licence=None).version

    versions = [version(), version("base"), version(seed=77), version(epochs=2)]
    assert len(set(versions)) == len(versions)
    assert version() == versions[0]


def test_a_teacher_s_answers_go_to_the_records_it_has_read_and_no_others(own: Own) -> None:
    settings = own(mix="0.5")
    assert settings.finetune.teacher_logits is not None
    train = learned_records(settings.data, AugmentSettings(joined_share=0.25))["train"]
    labels = len(Taxonomy.load(TAXONOMY).names)
    ids, texts = list(train["id"]), list(train["text"])
    read = read_teacher(settings.finetune.teacher_logits, ids, texts, labels, missing_allowed=True)
    known = ~np.isnan(read).any(axis=1)
    # Joined texts go by the numbers of those that the teacher read, and are others.
    ours = np.array([not identifier.startswith(("imported-", "joined-")) for identifier in ids])
    assert any(identifier.startswith("joined-") for identifier in ids)
    assert (known == ours).all()
    assert 0 < int(known.sum()) < read.shape[0]


def test_a_teacher_of_other_labels_is_refused_though_records_may_be_missing(tmp_path: Path) -> None:
    from tocsin_training.errors import ConfigError

    path = tmp_path / "teacher.parquet"
    pyarrow.parquet.write_table(pa.table({"id": ["a"], "text_hash": [1], "logits": [[0.0, 1.0]]}), path)
    assert np.isnan(read_teacher(path, ["b"], ["B."], 2, missing_allowed=True)).all()
    with pytest.raises(ConfigError, match="2 logits"):
        read_teacher(path, ["b"], ["B."], 3, missing_allowed=True)


def test_the_shipped_teacher_answers_no_text_that_it_has_not_read() -> None:
    """Joined and misspelled texts of fewer records have the same numbers; they were taught the answers to others."""
    recipe = load_settings(ROOT / "training" / "train.toml")
    read, asked = (
        learned_records(recipe.data.model_copy(update={"train_records": number}), recipe.augment)["train"]
        for number in (None, 5000)
    )
    assert recipe.finetune.teacher_logits is not None
    labels = len(Taxonomy.load(TAXONOMY).names)
    ids, texts = list(asked["id"]), list(asked["text"])
    logits = read_teacher(recipe.finetune.teacher_logits, ids, texts, labels, missing_allowed=True)
    known = ~np.isnan(logits).any(axis=1)
    pairs = set(zip(read["id"], read["text"], strict=True))
    assert known.tolist() == [pair in pairs for pair in zip(ids, texts, strict=True)]
    assert not known.all() and known.any()


def test_the_lineage_names_the_files_and_their_span(own: Own) -> None:
    settings = own(mix="0.5")
    data = describe_data(settings.data, "0" * 64)
    assert (data.name, data.licence, data.files[0].layout) == ("export.csv", "ours", "ACLED")
    assert (data.first, data.files[0].rows) == ("2023-01-01", 100)
    assert data.mixed == data.records["train"] - sum(
        identifier.startswith("imported-")
        for identifier in learned_records(settings.data, AugmentSettings())["train"]["id"]
    )


def test_the_lineage_says_how_the_files_were_read_and_what_became_of_their_rows(own: Own, tmp_path: Path) -> None:
    names = tmp_path / "names.toml"
    names.write_text('[labels]\nPicnic = ""\n')
    path = tmp_path / "export.csv"
    path.write_text(path.read_text().replace(",Attack,", ",Kidnap,", 1))
    data = describe_data(own(names=names, strip_openings=True, split_by="date", mix="0.5").data, "0" * 64)
    assert data.options == {
        "names": {"file": "names.toml", "sha256": sha256(names)},
        "strip_openings": True,
        "split_by": "date",
        "mix": "0.5",
        "label_errors": False,
    }
    assert (data.rows_used, data.rows_dropped) == (99, {"unknown label": 1})
    told = data.model_dump(mode="json")
    assert DataLineage.model_validate(told) == data
    for added in ("options", "rows_used", "rows_dropped"):
        del told[added]
    assert DataLineage.model_validate(told).options is None, "manifests made before they were recorded"


def test_that_every_text_will_go_to_review_is_said_before_the_training(
    own: Own, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = own()
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(r"note: \d+ validation texts are too few to promise that 98%", told)
    assert "it takes 189 such texts" in told
    assert settings.calibrate.target_low_end, "the recipe's promise is kept as it is"


def test_what_is_refused_never_gets_to_training(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "few.csv", list(notes(10)))
    recipe = load_settings(ROOT / "training" / "train.toml").model_copy(update={"runs": tmp_path / "runs"})
    with pytest.raises(InputError, match="10 texts are too few"):
        with_data(recipe, [path], ImportOptions(label_errors=False), taxonomy=None, licence=None)
    assert not list((tmp_path / "runs").glob("*/config.toml"))


def test_held_out_text_is_read_by_the_same_layouts(tmp_path: Path) -> None:
    rows = list(notes(30))
    again = rows[0] | {"sub_event_type": "Arrests"}
    taxonomy = Taxonomy.load(TAXONOMY)
    found = read_file(write_csv(tmp_path / "export.csv", [*rows, again]), taxonomy)
    assert len(found) == 30
    first = {taxonomy.names[column] for column in np.flatnonzero(found.truth[0])}
    assert first == {"arrests", taxonomy.find(rows[0]["sub_event_type"]).label}
    named = [{"body": row["notes"], "code": row["sub_event_type"]} for row in rows]
    options = ImportOptions(text_column="body", label_column=("code",))
    assert (read_file(write_csv(tmp_path / "own.csv", named), taxonomy, options).truth[1:] == found.truth[1:]).all()


def test_held_out_text_is_left_out_by_the_rules_of_the_import(tmp_path: Path) -> None:
    """What `train --data` takes, `compare --data` and `promote --data` take too, and of it the same texts."""
    rows: list[dict[str, Any]] = [{"body": row["notes"], "code": row["sub_event_type"]} for row in notes(100)]
    for row in rows[:20]:
        row["code"] = "Remote violence"
    rows[30]["code"] = "Picnic"
    rows[31]["body"] = ""
    # One row of a text is fine and another is not, so the text is not.
    rows.append(rows[40] | {"code": "Picnic"})
    path, taxonomy = write_csv(tmp_path / "own.csv", rows), Taxonomy.load(TAXONOMY)
    options = ImportOptions(text_column="body", label_column=("code",), label_errors=False)
    found = read_file(path, taxonomy, options)
    assert found.name == "own.csv (rows left out: may be several labels 20, unknown label 3, no text 1)"
    imported = import_corpus([path], tmp_path / "imports", TAXONOMY, options)
    assert imported.folder is not None
    learned = {
        json.loads(line)["text"]
        for file in imported.folder.glob("*/imported.jsonl")
        for line in file.read_text().splitlines()
    }
    assert set(found.texts) == learned and len(found) == len(learned) == 77
    with pytest.raises(InputError, match=r"own\.csv:32: .*4 of 101 rows cannot be used \(--bad-rows allows 1%\)"):
        read_file(path, taxonomy, options.model_copy(update={"bad_rows": 0.01}))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere/names.toml", "nowhere/names.toml: cannot be read or written: No such file"),
        (".", ": cannot be read or written: Is a directory"),
    ],
)
def test_names_that_cannot_be_written_are_told(
    target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from tocsin_training.importing.cli import data

    path = write_csv(tmp_path / "a.csv", [row | {"sub_event_type": "Picnic"} for row in notes(60)])
    recipe = load_settings(ROOT / "training" / "train.toml").model_copy(update={"runs": tmp_path / "runs"})
    monkeypatch.setattr("tocsin_training.config.load_settings", lambda config: recipe)
    app = typer.Typer()
    app.command()(data)
    result = CliRunner().invoke(app, [str(path), "--suggest-names", str(tmp_path / target)])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)


def test_names_that_may_be_several_labels_are_in_the_beginning_of_a_names_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from tocsin_training.importing.cli import data

    path, names = write_csv(tmp_path / "old.csv", old_layout(list(notes(60)))), tmp_path / "names.toml"
    recipe = load_settings(ROOT / "training" / "train.toml").model_copy(update={"runs": tmp_path / "runs"})
    monkeypatch.setattr("tocsin_training.config.load_settings", lambda config: recipe)
    app = typer.Typer()
    app.command()(data)
    result = CliRunner().invoke(app, [str(path), "--suggest-names", str(names)])
    assert isinstance(result.exception, InputError)
    lines = names.read_text().splitlines()
    assert (
        '# "Riots/Protests" =   # before 2019 it covered peaceful and violent demonstrations and mob violence' in lines
    )
    assert sum(line.startswith('# "') for line in lines) == 4


def test_a_place_that_no_corpus_can_be_written_to_is_told(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", list(notes(60)))
    (tmp_path / "imports").write_text("a file stands where the folder should")
    with pytest.raises(InputError, match="imports: cannot be read or written: File exists"):
        import_corpus([path], tmp_path / "imports", TAXONOMY)
    with pytest.raises(InputError, match="imports/more: cannot be read or written: Not a directory"):
        derived_taxonomy([path], tmp_path / "imports" / "more", ImportOptions())


def test_the_line_that_is_told_of_held_out_text_is_that_of_the_row_at_fault(tmp_path: Path) -> None:
    rows = [{"body": row["notes"], "code": row["sub_event_type"]} for row in notes(60)]
    path = write_csv(tmp_path / "own.csv", [*rows, rows[3] | {"code": "Picnic"}])
    options = ImportOptions(text_column="body", label_column=("code",), bad_rows=0)
    with pytest.raises(InputError, match=r"own\.csv:62: no label goes by 'Picnic'"):
        read_file(path, Taxonomy.load(TAXONOMY), options)


def test_what_is_not_read_of_a_folder_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    write_csv(folder / "a.csv", list(notes(60)))
    for name in ("old.xls", "~$b.xlsx", ".c.csv"):
        (folder / name).write_text("nothing")
    recipe = load_settings(ROOT / "training" / "train.toml").model_copy(update={"runs": tmp_path / "runs"})
    for _ in range(2):  # The second time the corpus is found.
        report = import_for(recipe, [folder], ImportOptions(label_errors=False), None)[0].report
        assert [file.name for file in report.files] == ["a.csv"]
        (told,) = (warning for warning in report.warnings if warning.startswith("not read"))
        assert told.endswith(": more, old.xls")


def test_spellings_that_became_labels_of_their_own_are_told(tmp_path: Path) -> None:
    spelt = {"Armed clash": ("Clash", "Clashes"), "Attack": ("Attack", "Atack")}
    rows = [
        {"note": row["notes"], "code": spelt[row["sub_event_type"]][number % 2]}
        for number, row in enumerate(notes(240))
        if row["sub_event_type"] in spelt
    ]
    plain = [row | {"code": "Clash" if number % 2 else "Strike"} for number, row in enumerate(rows)]
    recipe = load_settings(ROOT / "training" / "train.toml").model_copy(update={"runs": tmp_path / "runs"})
    options = ImportOptions(text_column="note", label_column=("code",), label_errors=False)

    def told(path: Path) -> list[str]:
        warnings = import_for(recipe, [path], options, "derive")[0].report.warnings
        return [warning for warning in warnings if "another spelling" in warning]

    (found,) = told(write_csv(tmp_path / "a.csv", rows))
    assert all(f"{label} (" in found for label in ("clash", "clashes", "attack", "atack"))
    assert not told(write_csv(tmp_path / "b.csv", plain))


def test_a_taxonomy_that_was_derived_of_the_same_files_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"body": row["notes"], "code": row["sub_event_type"]} for row in notes(60)]
    files, options = [write_csv(tmp_path / "a.csv", rows)], ImportOptions(text_column="body", label_column=("code",))
    first = derived_taxonomy(files, tmp_path / "imports", options)
    with monkeypatch.context() as patch:
        patch.setattr("tocsin_training.importing.derived.label_counts", Mock(side_effect=AssertionError))
        assert derived_taxonomy(files, tmp_path / "imports", options) == first
    write_csv(tmp_path / "a.csv", [*rows, rows[0] | {"code": "Picnic"}])
    second = derived_taxonomy(files, tmp_path / "imports", options)
    assert {*Taxonomy.load(second).names} - {*Taxonomy.load(first).names} == {"picnic"}


def test_names_that_the_user_translates_are_no_labels_of_a_derived_taxonomy(tmp_path: Path) -> None:
    rows = [{"body": row["notes"], "code": row["sub_event_type"]} for row in notes(60)]
    rows[0]["code"], rows[1]["code"] = "Skirmish", "Off topic"
    files, names = [write_csv(tmp_path / "a.csv", rows)], tmp_path / "names.toml"
    names.write_text('[labels]\n"skirmish" = "Armed clash"\n"off topic" = ""\n')
    options = ImportOptions(text_column="body", label_column=("code",), names=names, label_errors=False)
    derived = Taxonomy.load(derived_taxonomy(files, tmp_path / "imports", options))
    assert {label.name for label in derived.labels} == {row["code"] for row in rows[2:]}
    names.write_text('[labels]\n"skirmish" = "Armed clash"\n')
    assert "off_topic" in Taxonomy.load(derived_taxonomy(files, tmp_path / "imports", options)).names


def test_a_taxonomy_of_too_many_labels_is_refused_with_spellings(tmp_path: Path) -> None:
    pytest.importorskip("tocsin_training.taxonomies", reason="deriving comes with that module")
    rows = [{"body": row["notes"], "code": f"flood damage {number:03}"} for number, row in enumerate(notes(300))]
    options = ImportOptions(text_column="body", label_column=("code",))
    with pytest.raises(InputError, match=f"{300} different labels .* spellings"):
        derived_taxonomy([write_csv(tmp_path / "a.csv", rows)], tmp_path / "imports", options)
    assert MOST_LABELS < 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mix", "2"], "neither `none` nor a share"),
        (["--held-out", "0.9"], "--held-out: must be 0.8 or less"),
        (["--held-out", "0"], "--held-out: must be 0.02 or more"),
        (["--licence", "mine"], "--data FILE"),
        (["--split-by", "date"], "--data FILE"),
        (["--resume", "latest", "--data", "a.csv"], "own recipe and data; leave out: --config, --data"),
        (["--resume", "latest", "--licence", "internal only"], "leave out: --config, --licence"),
        (["--resume", "latest", "--taxonomy", "derive", "--name", "train"], "leave out: --config, --name, --taxonomy"),
        (["--resume", "latest", "--mix", "none"], "leave out: --config, --mix"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], said: str) -> None:
    import typer

    from tocsin_training.cli import train

    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, ["--config", str(ROOT / "training" / "train-tiny.toml"), *arguments])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
