"""Between prepare and finetune, on request: better settings, looked for with Optuna through the Trainer's own search.

What is searched is what the Trainer knows: rate, batch size, warm-up, weight decay, around the recipe's values. The
best trial by validation macro F1 becomes the run's recipe. The study is kept in the run's folder, so that a search that
was killed goes on with the trials it still lacks.
"""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

from tocsin_training.base import BaseModel
from tocsin_training.config import FinetuneSettings
from tocsin_training.finetune import build_trainer
from tocsin_training.run import Run

if TYPE_CHECKING:
    import optuna

_log = logging.getLogger(__name__)
_STUDY = "search"
# The Trainer's names, which optuna's trials use too -> the recipe's.
_NAMES = {
    "learning_rate": "learning_rate",
    "per_device_train_batch_size": "batch_size",
    "warmup_steps": "warmup_share",
    "weight_decay": "weight_decay",
}


def space(trial: optuna.Trial, around: FinetuneSettings) -> dict[str, Any]:
    """What one trial tries, by the Trainer's names."""
    # That all processes can share out.
    sizes = [size for size in (16, 32, 64) if size % around.processes == 0] or [around.batch_size]
    return {
        "learning_rate": trial.suggest_float(
            "learning_rate", around.learning_rate / 4, around.learning_rate * 4, log=True
        ),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", sizes),
        "warmup_steps": trial.suggest_float("warmup_steps", 0.0, 0.2),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.1, log=True),
    }


def main(run: Run, base: BaseModel) -> None:
    """Search, write every trial down, and put the best one's settings into the run's recipe."""
    import optuna

    from tocsin_training._datasets import load_from_disk

    settings = run.settings()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{run.folder / 'search.db'}"
    done = _finished(storage)
    missing = settings.search.trials - done
    if missing > 0:
        trainer = build_trainer(load_from_disk(run.prepared), base, settings, run.checkpoints)
        trainer.args.save_strategy = "no"
        trainer.args.load_best_model_at_end = False
        trainer.hyperparameter_search(
            hp_space=lambda trial: space(trial, settings.finetune),
            compute_objective=lambda metrics: metrics["eval_macro_f1"],
            n_trials=missing,
            direction="maximize",
            backend="optuna",
            storage=storage,
            study_name=_STUDY,
            load_if_exists=True,
            # Seeded by what is done, so that going on does not try the same again.
            sampler=optuna.samplers.TPESampler(seed=settings.finetune.seed + done),
            gc_after_trial=True,
        )
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    study = optuna.load_study(study_name=_STUDY, storage=storage)
    best = {_NAMES[name]: value for name, value in study.best_params.items()}
    finetune = FinetuneSettings.model_validate(settings.finetune.model_dump() | best)
    run.change_settings(settings.model_copy(update={"finetune": finetune}))
    trials = [{"macro_f1": trial.value, "state": trial.state.name, **trial.params} for trial in study.trials]
    run.record("search", {"best": best, "macro_f1": study.best_value, "trials": trials})
    _log.info("best of %d trials: validation macro F1 %.3f with %s", len(trials), study.best_value, best)


def _finished(storage: str) -> int:
    """Trials of an earlier attempt that came to an end."""
    import optuna

    if _STUDY not in optuna.get_all_study_names(storage):
        return 0
    study = optuna.load_study(study_name=_STUDY, storage=storage)
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=ended))
