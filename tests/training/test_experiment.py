from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tocsin.errors import InputError, UsageError
from tocsin_training import experiment
from tocsin_training.base import HEAD, WEIGHTS, resolve_base
from tocsin_training.config import AugmentSettings, FinetuneSettings, SearchSettings, Settings
from tocsin_training.errors import ConfigError
from tocsin_training.experiment import (
    AS_IT_IS,
    Outcome,
    distinct,
    load_variants,
    measure,
    measure_missing,
    plan,
    read_measured,
    read_variants,
    recipe_sha256,
    run_until,
    table,
    variant_sha256,
    with_seed,
)
from tocsin_training.model import load_tokenizer
from tocsin_training.prepare import key as prepared_key
from tocsin_training.run import Run

TRAINING = Path(__file__).parents[2] / "training"


def outcome(variant: str, seed: int, f1: float, case: float | None = None) -> Outcome:
    return Outcome(
        variant=variant,
        seed=seed,
        records=100,
        recipe_sha256=f"{variant}{seed}",
        corpus_sha256="c",
        macro_f1=f1,
        weighted_f1=f1,
        case_weighted_f1=case,
    )


def shown(built: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(built)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def pretend_to_measure(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Trainings become instant; the list tells which were asked for."""
    asked: list[tuple[str, int]] = []

    def measured(settings: Settings, variant: str, console: Console) -> Outcome:
        asked.append((variant, settings.finetune.seed))
        return replace(outcome(variant, settings.finetune.seed, 0.5), recipe_sha256=recipe_sha256(settings))

    monkeypatch.setattr(experiment, "measure", measured)
    monkeypatch.setattr("tocsin_training.corpus.corpus_sha256", lambda folder: "c")
    return asked


def test_a_training_is_measured_and_its_run_thrown_away(settings: Settings, console: Console) -> None:
    few = with_seed(settings, 3)
    few = few.model_copy(
        update={
            "finetune": few.finetune.model_copy(update={"epochs": 1}),
            "data": few.data.model_copy(update={"train_records": 80}),
        }
    )
    found = measure(few, "a quarter", console)
    assert (found.variant, found.seed, found.records) == ("a quarter", 3, 80)
    assert found.recipe_sha256 == recipe_sha256(few)
    assert 0 <= found.macro_f1 <= 1
    assert found.case_weighted_f1 is None
    assert not list(settings.runs.glob("*-experiment*")), "its run is not kept"


def test_what_was_measured_is_not_measured_again_and_another_recipe_is(
    settings: Settings, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pretend_to_measure(monkeypatch)
    path = tmp_path / "out.json"
    planned: Sequence[tuple[str, Settings]] = [("a", with_seed(settings, 1)), ("a", with_seed(settings, 2))]
    first = measure_missing(path, planned, console)
    assert measure_missing(path, [*planned, ("a", with_seed(settings, 3))], console)[:2] == first
    assert asked == [("a", 1), ("a", 2), ("a", 3)]
    changed = settings.model_copy(update={"model": settings.model.model_copy(update={"dropout": 0.5})})
    measure_missing(path, [("a", with_seed(changed, 1))], console)
    assert asked[3:] == [("a", 1)]
    assert len(read_measured(path, Outcome, "outcomes")) == 4, "what is not of this plan stays in the file"


def test_a_recipe_is_the_same_recipe_in_another_folder(settings: Settings, tmp_path: Path) -> None:
    moved = settings.model_copy(
        update={
            "runs": tmp_path,
            "data": settings.data.model_copy(update={"corpus": tmp_path / settings.data.corpus.name}),
        }
    )
    assert recipe_sha256(moved) == recipe_sha256(settings)
    called = {
        "version": "9.9.9",
        "data": settings.data.model_copy(update={"licence": "another", "description": "words"}),
    }
    assert recipe_sha256(settings.model_copy(update=called)) == recipe_sha256(settings)
    assert recipe_sha256(with_seed(settings, 9)) != recipe_sha256(settings)


def test_the_table_tells_mean_and_spread_of_the_seeds() -> None:
    text = shown(table([outcome("half", seed, f1) for seed, f1 in ((1, 0.70), (2, 0.72), (3, 0.74))], "curve"))
    assert "0.720 ± 0.020" in text


def test_differences_are_taken_seed_by_seed() -> None:
    """Both variants swing by ten points with the seed, and one is always a point better."""
    seeds = ((1, 0.60), (2, 0.70), (3, 0.50))
    rows = [outcome("plain", seed, f1) for seed, f1 in seeds] + [outcome("more", seed, f1 + 0.01) for seed, f1 in seeds]
    assert "+0.010 ± 0.000" in shown(table(rows, "ablations", against="plain"))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(json.dumps([{"share": 0.5}]))
    with pytest.raises(ConfigError, match=r"out\.json: holds no outcomes"):
        read_measured(tmp_path / "out.json", Outcome, "outcomes")


def test_a_place_where_nothing_can_be_written_is_told_before_the_first_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "out.json"):
        with pytest.raises(UsageError):
            read_measured(place, Outcome, "outcomes")
    assert read_measured(tmp_path / "new" / "folder" / "out.json", Outcome, "outcomes") == []
    assert (tmp_path / "new" / "folder").is_dir()


def test_a_benchmark_that_cannot_be_read_is_told_before_the_first_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none"):
        load_variants(TRAINING / "train.toml", {}, benchmark=tmp_path / "none.tsv")


def gone_on(run: Run, *_: object, **__: object) -> Run:
    return run


def taught(settings: Settings, folder: Path, answers: bytes) -> Settings:
    """A recipe with a teacher's file of this content, whatever it held before."""
    path = folder / "teacher.parquet"
    path.write_bytes(answers)
    return settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"teacher_logits": path})})


def test_what_was_left_by_another_state_of_corpus_or_teacher_blocks_no_experiment(
    settings: Settings, console: Console, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_training.pipeline.go_on", gone_on)
    data = settings.data.model_copy(update={"corpus": corpus})
    recipe = settings.model_copy(update={"runs": tmp_path / "runs", "data": data})
    begun = [run_until("finetune", taught(recipe, tmp_path, b"old"), "part", console)]
    assert run_until("finetune", taught(recipe, tmp_path, b"old"), "part", console) == begun[0]
    begun.append(run_until("finetune", taught(recipe, tmp_path, b"new"), "part", console))
    path = corpus / "train" / "one.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    begun.append(run_until("finetune", taught(recipe, tmp_path, b"new"), "part", console))
    assert len({run.folder for run in begun}) == 3


def test_what_a_search_has_found_is_kept_where_an_experiment_goes_on(
    settings: Settings, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_training.pipeline.go_on", gone_on)
    recipe = settings.model_copy(update={"runs": tmp_path, "search": SearchSettings(trials=2)})
    run = run_until("finetune", recipe, "searched", console)
    found = with_seed(recipe, 77)
    run.change_settings(found)
    assert run_until("finetune", recipe, "searched", console).settings() == found


def test_a_run_goes_on_though_the_benchmark_s_file_has_moved(
    settings: Settings, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def case(name: str) -> Settings:
        return settings.model_copy(
            update={"runs": tmp_path, "data": settings.data.model_copy(update={"benchmark": tmp_path / name})}
        )

    monkeypatch.setattr("tocsin_training.pipeline.go_on", gone_on)
    begun = run_until("finetune", case("here.tsv"), "moved", console)
    again = run_until("finetune", case("there.tsv"), "moved", console)
    assert again == begun and again.settings().data.benchmark == tmp_path / "there.tsv"
    assert run_until("finetune", with_seed(case("there.tsv"), 9), "moved", console) != begun


@pytest.mark.parametrize("name", ["ablations.toml", "students.toml"])
def test_the_shipped_variants_each_change_the_shipped_recipe(name: str) -> None:
    variants = load_variants(TRAINING / "train.toml", read_variants(TRAINING / name))
    assert list(variants) == [AS_IT_IS, *read_variants(TRAINING / name)]
    assert len({variant_sha256(settings) for settings in variants.values()}) == len(variants)


def test_a_variant_has_its_own_settings_and_those_over_all_win() -> None:
    recipe, own = TRAINING / "train.toml", {"short": {"finetune": {"epochs": 1}}}
    variants = load_variants(recipe, own, over_all={"data": {"train_records": 80}})
    assert (variants["short"].finetune.epochs, variants["short"].data.train_records) == (1, 80)
    assert variants[AS_IT_IS].data.train_records == 80
    assert variants[AS_IT_IS].finetune.epochs == load_variants(recipe, {})[AS_IT_IS].finetune.epochs
    assert load_variants(recipe, own, over_all={"finetune": {"epochs": 2}})["short"].finetune.epochs == 2


def test_every_variant_has_every_seed_and_the_first_seed_is_whole_before_the_next(settings: Settings) -> None:
    dropped = settings.model_copy(update={"model": settings.model.model_copy(update={"dropout": 0.5})})
    planned = plan({AS_IT_IS: settings, "dropped": dropped}, [1, 2])
    assert [(name, variant.finetune.seed) for name, variant in planned] == [
        (AS_IT_IS, 1),
        ("dropped", 1),
        (AS_IT_IS, 2),
        ("dropped", 2),
    ]
    assert [variant.model.dropout for _, variant in planned[:2]] == [0.1, 0.5]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("a = [", "not a TOML file"), ("a = 1", "'a' must hold sections"), ('["the recipe".model]\n', "another name")],
)
def test_faulty_lists_of_variants_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "ablations.toml").write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        read_variants(tmp_path / "ablations.toml")


def test_a_variant_of_a_setting_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"variant 'x': .*finetune.colour"):
        load_variants(TRAINING / "train.toml", {"x": {"finetune": {"colour": 1}}})


def test_a_variant_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no variant 'y'; there are: x"):
        load_variants(TRAINING / "train.toml", {"x": {}}, only=["y"])


class LaterFinetune(FinetuneSettings):
    """Fine-tuning as it will be when another setting has been added."""

    added: int = 3


class LaterSettings(Settings):
    finetune: LaterFinetune = LaterFinetune()


def test_a_setting_that_is_added_later_makes_no_recipe_another(settings: Settings) -> None:
    later = LaterSettings.model_validate(settings.model_dump())
    assert recipe_sha256(later) == recipe_sha256(settings)
    used = later.model_copy(update={"finetune": later.finetune.model_copy(update={"added": 4})})
    assert recipe_sha256(used) != recipe_sha256(settings)


def test_prepared_texts_are_not_made_anew_for_a_share_that_is_added_later(settings: Settings, tmp_path: Path) -> None:
    class LaterAugment(AugmentSettings):
        added_share: float = 0.0

    tokenizer = load_tokenizer(resolve_base("tiny", scratch=tmp_path).path)
    later = settings.model_copy(update={"augment": LaterAugment()})
    assert prepared_key(later, tokenizer) == prepared_key(settings, tokenizer)
    used = settings.model_copy(update={"augment": LaterAugment(added_share=0.1)})
    assert prepared_key(used, tokenizer) != prepared_key(settings, tokenizer)
    replayed = settings.data.model_copy(update={"new_batches": ("two",), "replay_share": 0.5})
    chosen = settings.model_copy(update={"data": replayed})
    assert prepared_key(chosen, tokenizer) != prepared_key(settings, tokenizer)


@pytest.mark.parametrize(
    ("section", "idle"),
    [
        ("finetune", {"distillation_share": 0.0}),
        ("finetune", {"distillation_temperature": 2.0, "records_without_teacher": "labels alone"}),
        ("augment", {"seed": 7}),
        ("data", {"replay_share": 0.5, "replay_seed": 3}),
    ],
)
def test_a_setting_that_nothing_asks_for_makes_no_recipe_another(
    section: str, idle: dict[str, object], settings: Settings
) -> None:
    own = getattr(settings, section).model_copy(update=idle)
    assert recipe_sha256(settings.model_copy(update={section: own})) == recipe_sha256(settings)


def test_models_to_go_on_from_are_told_apart_though_their_folders_are_called_alike(
    settings: Settings, tmp_path: Path
) -> None:
    hashes = {recipe_sha256(settings)}
    for name in "ab":
        folder = tmp_path / name / "model"
        folder.mkdir(parents=True)
        (folder / WEIGHTS).touch()
        (folder / HEAD).write_text(name)
        model = settings.model.model_copy(update={"start": folder})
        hashes.add(recipe_sha256(settings.model_copy(update={"model": model})))
    assert len(hashes) == 3


def test_answers_of_another_teacher_make_a_recipe_another(settings: Settings, tmp_path: Path) -> None:
    old, new, again = (recipe_sha256(taught(settings, tmp_path, answers)) for answers in (b"old", b"new", b"old"))
    assert old == again
    assert len({old, new, recipe_sha256(settings)}) == 3
    (tmp_path / "elsewhere").mkdir()
    moved = taught(settings, tmp_path / "elsewhere", b"old")
    assert recipe_sha256(moved) == old
    (tmp_path / "elsewhere" / "teacher.parquet").unlink()
    with pytest.raises(ConfigError, match=r"teacher\.parquet: cannot be read; `make teacher`"):
        recipe_sha256(moved)


def test_variants_that_change_nothing_of_a_recipe_are_skipped_and_named() -> None:
    listed = read_variants(TRAINING / "ablations.toml")
    console = Console(file=io.StringIO(), width=200)
    kept = distinct(load_variants(TRAINING / "teacher.toml", listed), console)
    assert isinstance(console.file, io.StringIO)
    skipped = [
        "all labels of a text alike",
        "without distillation",
        "without augmentation",
        "without joined texts",
        "without slips",
    ]
    assert [name for name in listed if name not in kept] == skipped
    told = console.file.getvalue().splitlines()
    assert told == [f"skipped: {name!r} changes nothing here, it would train 'the recipe' again" for name in skipped]


def test_the_comparisons_of_losses_are_what_they_are_called() -> None:
    variants = load_variants(TRAINING / "train.toml", read_variants(TRAINING / "ablations.toml"))
    alone = variants["binary cross-entropy alone"].finetune
    assert (alone.binary_weight, alone.softmax_weight) == (1.0, 0.0)
    shares = {
        name: variant.augment.model_dump(exclude={"seed"}, exclude_defaults=True) for name, variant in variants.items()
    }
    assert shares["without joined texts"] == {"slips_share": 0.1}
    assert shares["without slips"] == {"joined_share": 0.25}
    for name in ("headlines", "cut", "cities"):
        assert sum(f"{name}_share" in found for found in shares.values()) == 1
        assert f"{name}_share" not in shares[AS_IT_IS]
