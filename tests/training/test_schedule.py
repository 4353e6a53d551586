from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tocsin_training.config import FinetuneSettings, Settings, load_settings
from tocsin_training.experiment import run_until
from tocsin_training.schedule import MOST_EVALUATIONS, Schedule

RECIPE = Path(__file__).parents[2] / "training" / "train.toml"


def test_where_the_epochs_are_steps_enough_they_stay_as_the_recipe_has_them() -> None:
    schedule = Schedule.of(FinetuneSettings(epochs=2.5, batch_size=10, least_steps=25), 100)
    assert (schedule.epochs, schedule.steps, schedule.evaluate_every) == (2.5, 25, None)
    assert str(schedule) == "2.5 epochs of 100 texts"


@pytest.mark.parametrize("texts", [1, 31, 32, 33, 54, 270, 1080, 2111])
def test_few_texts_are_learned_for_the_least_number_of_steps_and_the_last_is_evaluated(texts: int) -> None:
    options = FinetuneSettings(epochs=4, batch_size=32, least_steps=300)
    schedule = Schedule.of(options, texts)
    assert schedule.steps >= 300
    assert schedule.epochs > 4
    assert schedule.evaluate_every is not None
    assert schedule.steps % schedule.evaluate_every == 0
    assert schedule.evaluations <= MOST_EVALUATIONS
    # Longer than asked for by less than an evaluation's interval and an epoch.
    assert schedule.steps < 300 + schedule.evaluate_every + schedule.steps_an_epoch
    assert "4 would be fewer steps than finetune.least_steps" in str(schedule)


def test_evaluations_that_a_recipe_places_itself_stay_there() -> None:
    assert Schedule.of(FinetuneSettings(least_steps=300, evaluate_every=7), 100).evaluate_every == 7


CORPUS = 54_120
"""Of the shipped corpus: 40,090 records and those made of them."""


def test_the_corpus_is_learned_by_the_recipe_s_epochs_and_nothing_is_cut_short() -> None:
    options = load_settings(RECIPE).finetune
    for texts in (CORPUS, 60_000):
        plain = FinetuneSettings(epochs=options.epochs, batch_size=options.batch_size)
        schedule = Schedule.of(options, texts)
        assert (schedule.epochs, schedule.steps) == (5, Schedule.of(plain, texts).steps)
        assert schedule.evaluate_every is None, "once an epoch"
        assert schedule.patience is not None and schedule.evaluations <= schedule.patience


@pytest.mark.parametrize("texts", [70_001, 130_007, 200_000, 333_333, 648_000, 2_000_003])
def test_many_texts_are_learned_for_the_most_steps_but_each_at_least_once(texts: int) -> None:
    options = load_settings(RECIPE).finetune
    schedule = Schedule.of(options, texts)
    assert options.most_steps is not None and options.evaluate_within is not None
    assert schedule.evaluate_every is not None
    assert schedule.evaluate_every <= options.evaluate_within
    assert schedule.steps % schedule.evaluate_every == 0, "the last step is evaluated"
    longest = max(options.most_steps, schedule.steps_an_epoch)
    assert schedule.steps_an_epoch <= schedule.steps <= longest + schedule.evaluations
    assert schedule.patience == options.patience
    fewer = 5 * schedule.steps_an_epoch > longest
    assert ("5 would be more steps than finetune.most_steps" in str(schedule)) == fewer
    assert "least_steps" not in str(schedule)


def test_a_training_that_was_made_longer_is_not_stopped_early() -> None:
    """Its first evaluations are of a head that has learned nothing, each as bad as the one before."""
    options = FinetuneSettings(least_steps=300, patience=2)
    assert Schedule.of(options, 100).patience is None
    assert Schedule.of(options, 100_000).patience == 2


def test_recipes_that_say_nothing_of_many_texts_read_them_as_often_as_ever() -> None:
    schedule = Schedule.of(FinetuneSettings(epochs=3), 1_000_000)
    assert (schedule.epochs, schedule.evaluate_every, schedule.patience) == (3, None, None)


def test_whole_intervals_that_make_an_epoch_longer_are_no_want_of_steps() -> None:
    schedule = Schedule.of(FinetuneSettings(epochs=1, batch_size=16, evaluate_within=8), 320)
    assert (schedule.steps, schedule.evaluate_every) == (21, 7)
    assert str(schedule) == "1.05 epochs of 320 texts"


def test_a_recipe_whose_most_steps_are_fewer_than_its_least_is_refused() -> None:
    with pytest.raises(ValueError, match="most_steps 200 is less than least_steps 300"):
        FinetuneSettings(least_steps=300, most_steps=200)


def test_a_training_on_many_texts_makes_the_steps_and_evaluations_of_its_schedule(
    settings: Settings, console: Console, tmp_path: Path
) -> None:
    finetune = {"most_steps": 26, "evaluate_within": 8, "patience": 9}
    many = settings.model_copy(update={"runs": tmp_path, "finetune": settings.finetune.model_copy(update=finetune)})
    run = run_until("finetune", many, "many", console)
    found = run.figures()["finetune"]
    # 320 texts in batches of 16 are 20 steps an epoch, and the recipe has eight epochs.
    evaluated = [entry["step"] for entry in found["history"] if "eval_macro_f1" in entry]
    assert evaluated == [7, 14, 21, 28]
    assert found["steps"] == 28
    assert found["epochs"] == pytest.approx(1.4)


def test_the_shipped_recipe_is_made_longer_for_a_few_hundred_rows_and_not_for_the_corpus() -> None:
    for preset in ("small", "base"):
        options = load_settings(RECIPE, preset=preset).finetune
        assert Schedule.of(options, 30_000).epochs == options.epochs
        assert Schedule.of(options, 270).steps >= options.least_steps > 4 * 9


def test_a_training_makes_the_steps_of_its_schedule(settings: Settings, console: Console, tmp_path: Path) -> None:
    few = settings.model_copy(
        update={
            "runs": tmp_path,
            "data": settings.data.model_copy(update={"train_records": 50}),
            "finetune": settings.finetune.model_copy(update={"epochs": 1, "least_steps": 90}),
        }
    )
    run = run_until("finetune", few, "few", console)
    found = run.figures()["finetune"]
    schedule = Schedule.of(few.finetune, 50)
    assert (found["steps"], found["epochs"]) == (schedule.steps, schedule.epochs) == (96, 24)
    evaluated = [entry["step"] for entry in found["history"] if "eval_macro_f1" in entry]
    assert evaluated == list(range(12, 97, 12)), "every third epoch, the last among them"
    assert found["texts_per_second"] > 1
