from __future__ import annotations

from pathlib import Path

import pytest

from tocsin_training.config import AugmentSettings, load_settings, to_toml
from tocsin_training.errors import ConfigError

TRAINING = Path(__file__).parents[2] / "training"
SMALLEST = 'runs = "r"\n[data]\ncorpus = "c"\ntaxonomy = "t.toml"\n'


@pytest.mark.parametrize("name", ["train.toml", "train-tiny.toml"])
def test_shipped_recipes_point_at_the_shipped_data(name: str) -> None:
    settings = load_settings(TRAINING / name)
    assert settings.data.corpus == TRAINING.parent / "datasets" / "corpus"
    assert settings.data.taxonomy.is_file()


def test_a_recipe_written_out_is_the_same_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALLEST)
    settings = load_settings(path)
    copy = tmp_path / "deeper" / "copy.toml"
    copy.parent.mkdir()
    copy.write_text(to_toml(settings))
    assert load_settings(copy) == settings


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALLEST)
    monkeypatch.chdir("/")
    assert load_settings(path).data.corpus == tmp_path / "c"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("runs = [", "not a TOML file"),
        (SMALLEST + "colour = 1\n", "data.colour"),
        (SMALLEST + "[finetune]\nepochs = 0\n", "finetune.epochs"),
        ('runs = "r"\n', "data"),
    ],
)
def test_a_faulty_recipe_is_refused_by_the_name_of_its_fault(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        load_settings(path)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml.*--config FILE"):
        load_settings(tmp_path / "none.toml")


def test_the_teacher_s_recipes_point_at_the_shipped_corpus_and_at_batches_of_it() -> None:
    teacher, more = (load_settings(TRAINING / name) for name in ("teacher.toml", "teacher-more.toml"))
    assert more.data.corpus == teacher.data.corpus
    assert more.data.new_batches
    assert all((more.data.corpus / "train" / f"{batch}.jsonl").is_file() for batch in more.data.new_batches)
    assert more.model == teacher.model


def test_presets_are_what_the_shipped_recipes_of_their_encoders_say() -> None:
    recipe, teacher = TRAINING / "train.toml", TRAINING / "teacher.toml"
    assert load_settings(recipe, preset="small") == load_settings(recipe)
    assert load_settings(teacher, preset="base").finetune == load_settings(teacher).finetune


def test_a_share_of_the_main_label_is_put_off_by_a_zero(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALLEST + "[finetune]\nmain_share = 0.7\n")
    assert load_settings(path).finetune.main_share == 0.7
    assert load_settings(path, overrides={"finetune": {"main_share": 0}}).finetune.main_share is None
    with pytest.raises(ConfigError, match=r"finetune.main_share"):
        load_settings(path, overrides={"finetune": {"main_share": 0.3}})


def test_a_model_to_start_from_lies_relative_to_the_recipe_and_is_not_warmed_up(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALLEST + '[model]\nstart = "old/model"\n')
    assert load_settings(path).model.start == tmp_path / "old" / "model"
    path.write_text(SMALLEST + '[model]\nstart = "old/model"\n[finetune]\ncontrastive_epochs = 1\n')
    with pytest.raises(ConfigError, match=r"model.start and finetune.contrastive_epochs"):
        load_settings(path)


@pytest.mark.parametrize("share", [name for name in AugmentSettings.model_fields if name.endswith("_share")])
def test_every_kind_of_augmentation_makes_texts_and_a_seed_alone_makes_none(share: str) -> None:
    assert AugmentSettings.model_validate({share: 0.1}).makes_texts
    assert not AugmentSettings(seed=3).makes_texts
