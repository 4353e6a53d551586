"""Stage 2: fine-tune the encoder with Hugging Face's Trainer; what does best on validation (macro F1) is kept."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer import TRAINER_STATE_NAME

from tocsin.taxonomy import Taxonomy
from tocsin_training import plots
from tocsin_training.base import BaseModel
from tocsin_training.config import FinetuneSettings, Settings
from tocsin_training.device import attention, describe, uses_bf16, uses_gpu, wait_for_gpu
from tocsin_training.distil import read_teacher
from tocsin_training.errors import BaseModelError
from tocsin_training.fake_int8 import learn_with_int8
from tocsin_training.loss import event_loss, record_weights
from tocsin_training.metrics import macro_f1, weighted_f1
from tocsin_training.model import EventModel, differences, load_encoder, load_tokenizer
from tocsin_training.parallel import is_first, processes_together, side_by_side
from tocsin_training.run import Run, logging_to
from tocsin_training.schedule import Schedule

if TYPE_CHECKING:
    from tocsin_training._datasets import Dataset, DatasetDict

_log = logging.getLogger(__name__)
_LAYER = re.compile(r"\blayer\.(\d+)\.")


class EpochProgress(ProgressCallback):
    """The Trainer's progress bar; figures of evaluations go to the log, and none to stdout every few steps."""

    def on_log(  # noqa: D102 - the Trainer documents it
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **others: Any,  # noqa: ANN401
    ) -> None:
        if logs and "eval_macro_f1" in logs:
            _log.info(
                "epoch %.1f: validation loss %.3f, macro F1 %.3f",
                state.epoch or 0.0,
                logs["eval_loss"],
                logs["eval_macro_f1"],
            )


class StepTimer(TrainerCallback):
    """Seconds of every step, from its batch to the changed weights; evaluations and checkpoints are between them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:  # noqa: D102 - the Trainer documents it
        wait_for_gpu()
        self._begun = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:  # noqa: D102 - the Trainer documents it
        wait_for_gpu()
        self.seconds.append(time.perf_counter() - self._begun)


def texts_per_second(seconds: Sequence[float], texts_a_step: float) -> float | None:
    """How fast a model learns, the first step left out, which warms everything up; none where there was no other."""
    return texts_a_step * len(seconds[1:]) / sum(seconds[1:]) if len(seconds) > 1 else None


class EventTrainer(Trainer):
    """A Trainer with the project's loss. Batches carry ``labels``, and on request ``teacher``, ``weight``, ``main``."""

    def __init__(self, *, settings: FinetuneSettings, parents: Tensor, **options: Any) -> None:  # noqa: ANN401
        """Make one.

        :param parents: position of each label's event type, shape (labels,).
        """
        super().__init__(**options)
        self._settings = settings
        self._parents = parents

    @property
    def event_model(self) -> EventModel:
        """The model, by its own type."""
        return cast(EventModel, self.model)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with a rate of its own for the head, which starts from nothing. Rates are those of the arguments."""
        if self.optimizer is None:
            trained = self.event_model if model is None else cast(EventModel, model)
            groups = rate_groups(trained, self.args.learning_rate, self._settings)
            self.optimizer = torch.optim.AdamW(
                groups, lr=self.args.learning_rate, weight_decay=self.args.weight_decay, fused=True
            )
        return self.optimizer

    def compute_loss(  # noqa: D102 - the Trainer documents it
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        loss, outputs = self.loss_of(model, inputs)
        return (loss, {"loss": loss, **outputs}) if return_outputs else loss

    def loss_of(self, model: torch.nn.Module, inputs: dict[str, Tensor | Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and what is evaluated besides."""
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = event_loss(
            logits.float(),
            inputs["labels"],
            self._settings,
            teacher=inputs.get("teacher"),
            parents=self._parents.to(logits.device),
            weights=inputs.get("weight"),
            main=inputs.get("main"),
        )
        return loss, {"logits": logits}


def rate_groups(model: EventModel, rate: float, settings: FinetuneSettings) -> list[dict[str, Any]]:
    """The trained parameters with their learning rates: the encoder's, by layer where they differ, and the head's.

    With ``layer_decay`` below 1 a layer learns more slowly than the one above it, and the embeddings slowest of all
    (Howard and Ruder 2018, https://arxiv.org/abs/1801.06146): what lies lower is more general and better kept.
    """
    layers = model.encoder.config.num_hidden_layers
    by_rate: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.encoder.named_parameters():
        if parameter.requires_grad:
            own = rate * settings.layer_decay ** _layers_above(name, layers)
            by_rate.setdefault(own, []).append(parameter)
    head = {"params": list(model.head.parameters()), "lr": rate * settings.head_learning_rate_multiple}
    return [*({"params": parameters, "lr": own} for own, parameters in by_rate.items()), head]


def _layers_above(name: str, layers: int) -> int:
    """How many encoder layers lie above a parameter, by its name in BERT and its kin.

    All of them above what serves every layer: embeddings, and MPNet's table of relative positions.
    """
    if found := _LAYER.search(name):
        return layers - 1 - int(found.group(1))
    return 0 if "pooler" in name else layers


@dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning came to."""

    history: list[dict[str, float]]
    """The Trainer's log: losses by step, validation figures by evaluation."""
    schedule: Schedule
    texts_per_second: float | None
    """Of the steps made by this process; see ``texts_per_second``."""


def finetune(prepared: DatasetDict, base: BaseModel, settings: Settings, out: Path, checkpoints: Path) -> Finetuned:
    """Train on ``prepared["train"]`` and save the best model and its tokenizer to ``out``.

    A training that was killed goes on from the last checkpoint it left in ``checkpoints``.
    """
    trainer, timer = build_trainer(prepared, base, settings, checkpoints), StepTimer()
    trainer.add_callback(timer)
    begun = last_checkpoint(checkpoints)
    if begun is not None:
        _log.info("going on from %s", begun.name)
    trainer.train(resume_from_checkpoint=None if begun is None else str(begun))
    if is_first():
        trainer.event_model.to("cpu").save(out)
        load_tokenizer(base.path).save_pretrained(out)
    schedule = Schedule.of(settings.finetune, len(prepared["train"]))
    return Finetuned(trainer.state.log_history, schedule, texts_per_second(timer.seconds, schedule.texts_a_step))


def build_trainer(
    prepared: DatasetDict,
    base: BaseModel,
    settings: Settings,
    checkpoints: Path,
    *,
    kind: type[EventTrainer] = EventTrainer,
) -> EventTrainer:
    """The Trainer of a recipe, its model made and nothing trained yet.

    :param kind: one with a loss of its own, as a warm-up has.
    """
    options = settings.finetune
    # A process that learns alone, as in a search, has the cores of all.
    torch.set_num_threads(options.threads * options.processes // processes_together())
    tokenizer = load_tokenizer(base.path)
    labels = len(prepared["train"][0]["labels"])
    schedule = Schedule.of(options, len(prepared["train"]))
    trainer = kind(
        settings=options,
        parents=torch.from_numpy(Taxonomy.load(settings.data.taxonomy).parents),
        # A function, so that every trial of a search begins with weights of the same seed.
        model_init=lambda: make_model(base, settings, labels),
        args=training_arguments(options, schedule, checkpoints),
        train_dataset=_inputs(prepared, "train", options, labels),
        eval_dataset=_inputs(prepared, "validation", options, labels),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=validation_metrics,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(EpochProgress())
    if schedule.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=schedule.patience))
    return trainer


def make_model(base: BaseModel, settings: Settings, labels: int) -> EventModel:
    """A pretrained encoder with a head that knows nothing, drawn with the recipe's seed; or the model to go on from."""
    set_seed(settings.finetune.seed)
    encoder = load_encoder(base.path, attention=attention(settings.finetune))
    if settings.model.encoder_dropout is not None:
        set_dropout(encoder, settings.model.encoder_dropout)
    options = settings.model
    model = EventModel(encoder=encoder, labels=labels, dropout=options.dropout, pooling=options.pooling)
    if options.start is not None:
        take_weights(model, options.start)
    if settings.finetune.quantization_aware:
        learn_with_int8(encoder)
    if settings.finetune.freeze_word_embeddings:
        model.freeze_word_embeddings()
    return model


def take_weights(model: EventModel, start: Path) -> None:
    """Give a model the weights of one that was trained before.

    :raises BaseModelError: there is none, or it is built otherwise.
    """
    trained = EventModel.load(start)
    if faults := differences(trained, model):
        raise BaseModelError(f"{start}: is not built as this recipe's model, so it cannot go on: {faults}")
    model.load_state_dict(trained.state_dict())


def set_dropout(encoder: torch.nn.Module, share: float) -> None:
    """Have every dropout inside an encoder drop this share; attention's, too, which asks its module for it."""
    for part in encoder.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = share


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; one that was being written when the training was killed is not."""
    found = [(int(path.name.partition("-")[2]), path) for path in folder.glob("checkpoint-[0-9]*")]
    return next((path for _, path in sorted(found, reverse=True) if _is_complete(path)), None)


def _is_complete(checkpoint: Path) -> bool:
    # The Trainer writes its state after everything else.
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError, TypeError):
        return False
    return True


def _inputs(prepared: DatasetDict, split: str, options: FinetuneSettings, labels: int) -> Dataset:
    data = prepared[split]
    if split == "train" and options.teacher_logits is not None:
        alone = options.records_without_teacher == "labels alone"
        teacher = read_teacher(options.teacher_logits, data["id"], data["text"], labels, missing_allowed=alone)
        data = data.add_column("teacher", _as_lists(teacher))
    if split == "train" and options.label_balance:
        data = data.add_column("weight", record_weights(_targets(data, labels), options.label_balance))
    unused = {"id", "text"} if options.main_share is not None else {"id", "text", "main"}
    # Runs that were prepared before there was a main label lack it, and go on without.
    return data.remove_columns([name for name in data.column_names if name in unused])


def _as_lists(matrix: NDArray[np.float32]) -> pa.ListArray:
    """A column with a list in each row, in four bytes a number; Python's own would take eight times as many."""
    rows, width = matrix.shape
    starts = np.arange(0, rows * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(matrix.reshape(-1)))


def _targets(data: Dataset, labels: int) -> NDArray[np.bool_]:
    """Which labels each record has, shape (records, labels), read some at a time."""

    def parts() -> Iterator[NDArray[np.bool_]]:
        for rows in data.select_columns("labels").iter(1000):
            yield np.array(rows["labels"]) > 0

    return np.concatenate([np.zeros((0, labels), dtype=np.bool_), *parts()])


def training_arguments(options: FinetuneSettings, schedule: Schedule, folder: Path) -> TrainingArguments:
    """The recipe in the Trainer's words. A checkpoint holds all that going on from it takes, and is no release."""
    interval = "epoch" if schedule.evaluate_every is None else "steps"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=options.batch_size // processes_together(),
        per_device_eval_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_share,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_gradient_norm,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length" if options.group_by_length else "random",
        length_column_name="length",
        bf16=uses_bf16(options),
        use_cpu=not uses_gpu(options),
        ddp_backend="gloo" if not uses_gpu(options) and processes_together() > 1 else None,
        dataloader_pin_memory=False,
        seed=options.seed,
        eval_strategy=interval,
        eval_steps=schedule.evaluate_every,
        save_strategy=interval,
        save_steps=schedule.evaluate_every or 500,
        save_total_limit=1,
        # Or patience would begin anew wherever a training goes on.
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        logging_steps=10,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=list(options.report_to) or "none",
    )
    if uses_gpu(options):
        # Or a process would take every GPU in sight, each with a batch of its own: another training than the recipe's.
        arguments._n_gpu = 1
    return arguments


def validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """F1 of "logit above zero". Macro decides which evaluation's model is kept: every label counts, however rare."""
    given = np.asarray(prediction.predictions) > 0
    truth = np.asarray(prediction.label_ids) > 0
    return {"macro_f1": macro_f1(truth, given), "weighted_f1": weighted_f1(truth, given)}


def finetune_run(run: Run, base: BaseModel) -> Finetuned:
    """``finetune`` on what a run has prepared; in a process of its own, the first of them keeps the log."""
    from tocsin_training._datasets import load_from_disk

    apart = processes_together() > 1
    with logging_to(run, Console(stderr=True)) if apart and is_first() else nullcontext():
        return finetune(load_from_disk(run.prepared), base, run.settings(), run.model, run.checkpoints)


def main(run: Run, base: BaseModel) -> None:
    """Train, keep the log and draw the curves."""
    settings = run.settings()
    found = side_by_side(settings.finetune.processes, finetune_run, run, base)
    evaluations = [entry for entry in found.history if "eval_macro_f1" in entry]
    best = max(evaluations, key=lambda entry: entry["eval_macro_f1"])
    run.record(
        "finetune",
        {
            "best_epoch": best["epoch"],
            "macro_f1": best["eval_macro_f1"],
            "epochs": found.schedule.epochs,
            "steps": found.schedule.steps,
            "texts_per_second": found.texts_per_second,
            "device": describe(settings.finetune),
            "processes": settings.finetune.processes,
            "threads": settings.finetune.threads,
            "history": found.history,
        },
    )
    plots.training_curves(found.history, run.plots / "training_curves.png")
    _log.info("best epoch %.1f: validation macro F1 %.3f", best["epoch"], best["eval_macro_f1"])
