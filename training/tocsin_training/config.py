"""A recipe: everything a training run depends on, read from one TOML file and checked once.

Paths in a recipe are relative to the recipe's own folder, so a run does not depend on where it was started.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tocsin.errors import first_fault
from tocsin.toml import read_toml
from tocsin_training.errors import ConfigError

_PRESETS = Path(__file__).with_name("presets.toml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Section):
    """What is learned from."""

    corpus: Path = Field(description="folder with train/, validation/ and test/")
    taxonomy: Path
    licence: str | None = Field(None, description="of the data, in the user's words; the release's lineage says it")
    description: str | None = Field(None, description="of the corpus, for the model card; one or two sentences")
    benchmark: Path | None = Field(None, description="CASE 2021 file; only ever read by evaluate")
    robustness: Path | None = Field(None, description="folder of sets made for evaluate alone; see ``probes``")
    train_records: int | None = Field(None, ge=1, description="take only so many records; none takes all")
    validation_records: int | None = Field(None, ge=1)
    test_records: int | None = Field(None, ge=1)
    new_batches: tuple[str, ...] = Field(
        (), description="batches that a model which goes on (model.start) learns from whole; none: all are new"
    )
    replay_share: float = Field(1.0, ge=0, le=1, description="of the other batches' records, learned from besides")
    replay_seed: int = Field(0, description="of which those are")


class ModelSettings(_Section):
    """What is trained."""

    base: str = Field("minilm", description="minilm, mpnet, tiny, a folder or a hub id")
    start: Path | None = Field(
        None,
        description="the model/ folder of a run of the same base, labels and window, to go on from; none: the base",
    )
    layers: int | None = Field(None, ge=1, description="keep only so many, from the input up; none keeps all")
    feed_forward: int | None = Field(None, ge=1, description="units kept of each feed-forward layer; none keeps all")
    vocabulary: Literal["full", "corpus"] = Field("full", description="corpus: only tokens of its training texts")
    pooling: Literal["mean", "first"] = Field("mean", description="of the tokens' vectors; see ``pooling``")
    dropout: float = Field(0.1, ge=0, lt=1, description="before the head")
    encoder_dropout: float | None = Field(None, ge=0, lt=1, description="inside the encoder; none keeps its own")
    max_tokens: int = Field(128, ge=8, description="the window the release reads, too")


class AugmentSettings(_Section):
    """What is made of the training records besides themselves; see ``augment``."""

    joined_share: float = Field(0.0, ge=0, description="texts of two records, as a share of the records")
    slips_share: float = Field(0.0, ge=0, description="texts with typing errors, as a share of the records")
    headlines_share: float = Field(0.0, ge=0, description="texts in the clipped form of headlines, likewise")
    cut_share: float = Field(0.0, ge=0, description="texts cut off where they only say who says so, likewise")
    cities_share: float = Field(0.0, ge=0, description="texts of another city of the same country, likewise")
    seed: int = 0

    @property
    def makes_texts(self) -> bool:
        """Whether there is anything besides the records; the seed alone makes nothing."""
        return self.model_copy(update={"seed": 0}) != AugmentSettings()


class FinetuneSettings(_Section):
    """How it is trained."""

    epochs: float = Field(6, gt=0)
    least_steps: int = Field(
        0, ge=0, description="more epochs where those are fewer steps, as they are of few texts; see ``schedule``"
    )
    most_steps: int | None = Field(
        None, ge=1, description="fewer epochs where those are more steps, but no fewer than one; none: never"
    )
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    head_learning_rate_multiple: float = Field(10, gt=0, description="the head starts from nothing")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of an encoder layer, as a share of the one above")
    warmup_share: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    freeze_word_embeddings: bool = Field(True, description="rare place names keep their pretrained vectors")
    group_by_length: bool = True
    bf16: Literal["auto", "on", "off"] = Field("auto", description="auto: where the GPU or CPU multiplies bf16")
    device: Literal["cpu", "auto"] = Field("auto", description="auto: a GPU where there is one; see ``device``")
    processes: int = Field(1, ge=1, description="that learn side by side, on GPUs one each; they share out a batch")
    threads: int = Field(2, ge=1, description="of each process")
    seed: int = 20240501
    evaluate_every: int | None = Field(None, ge=1, description="steps between evaluations; none: once an epoch")
    evaluate_within: int | None = Field(
        None, ge=1, description="steps between evaluations at most, where an epoch has more; none: once an epoch"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many evaluations without a better one, but never before least_steps"
    )
    report_to: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    binary_weight: float = Field(0.1, ge=0, description="of the binary term; at 1 it drowns the other")
    softmax_weight: float = Field(1.0, ge=0)
    main_share: float | None = Field(
        None, ge=0.5, lt=1, description="of a text's softmax target, for the first of its labels; none, or 0: all alike"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of what labels say, not of what a teacher says")
    event_type_weight: float = Field(0.0, ge=0, description="of the term that asks for the event type; see ``loss``")
    distillation_share: float = Field(0.5, ge=0, le=1, description="of the loss, where there is a teacher")
    distillation_temperature: float = Field(1.0, gt=0)
    teacher_logits: Path | None = Field(None, description="Parquet file that tocsin_training.distil wrote")
    records_without_teacher: Literal["refuse", "labels alone"] = Field(
        "refuse", description="what a training record is learned from where the teacher has not read it"
    )
    quantization_aware: bool = Field(False, description="learn with the rounding of int8; see ``fake_int8``")
    contrastive_epochs: float = Field(
        0.0, ge=0, description="of drawing texts of like labels together beforehand; see ``contrastive``"
    )
    label_balance: float = Field(
        0.0, ge=0, le=1, description="0: every record counts alike; 1: every label counts alike, however rare"
    )

    @field_validator("main_share", mode="before")
    @classmethod
    def _none_is_written_as_zero(cls, share: object) -> object:
        # TOML has no word for none, and what is put over a recipe must be able to say it.
        return None if share == 0 else share

    @model_validator(mode="after")
    def _batch_is_shared_out(self) -> FinetuneSettings:
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared out to {self.processes} processes")
        return self

    @model_validator(mode="after")
    def _least_is_less_than_most(self) -> FinetuneSettings:
        if self.most_steps is not None and self.most_steps < self.least_steps:
            raise ValueError(f"most_steps {self.most_steps} is less than least_steps {self.least_steps}")
        return self


class SearchSettings(_Section):
    """Whether settings are searched for before training; see ``search``."""

    trials: int = Field(0, ge=0, description="trainings to try; 0: no search")


class ExportSettings(_Section):
    """How it is packed."""

    fuse: bool = Field(True, description="use onnxruntime's graph fusions where they keep parity")
    window_overlap: int = Field(32, ge=0)
    languages: tuple[str, ...] = ("en",)


class CalibrateSettings(_Section):
    """How logits become probabilities and decisions."""

    bias_spread: float = Field(0.3, gt=0, description="how far a label's bias may stray from the shared one")
    scale_spread: float = Field(0.03, gt=0, description="how far a label's scale may stray from the shared one")
    threshold_prior: float = Field(50, ge=0, description="pooled examples that a label's own must outweigh")
    target_accuracy: float = Field(0.95, gt=0, lt=1, description="of the answers not sent to review")
    target_low_end: bool = Field(
        False, description="that the low end of its 95 % interval reaches it, too; takes hundreds of validation texts"
    )
    target_precision: float = Field(0.95, ge=0, lt=1, description="of the objective `precision`; 0: no such objective")


class ScreenSettings(_Section):
    """The first look that settles plain no-events; see ``screen``."""

    events_lost: float = Field(
        0.005, ge=0, lt=1, description="share of texts with an event it may settle, with 95 % confidence; 0: no screen"
    )
    buckets: int = Field(2**18, description="of hashed n-grams, a power of two")
    inverse_penalty: float = Field(10, gt=0, description="scikit-learn's C")

    @field_validator("buckets")
    @classmethod
    def _power_of_two(cls, buckets: int) -> int:
        if buckets < 2 or buckets & (buckets - 1):
            raise ValueError("must be a power of two")
        return buckets


class VerifySettings(_Section):
    """What the exported models may cost."""

    logit_tolerance: float = Field(1e-4, gt=0, description="fp32: greatest absolute difference")
    int8_probability_tolerance: float = Field(0.01, gt=0, description="int8: mean absolute difference")
    int8_f1_cost: float = Field(0.005, ge=0, description="int8: weighted F1 lost on the test split")


class EvaluateSettings(_Section):
    """How it is measured."""

    bootstrap_samples: int = Field(1000, ge=10)
    threads: int = Field(2, ge=1)
    rivals: bool = Field(False, description="fit and measure simple baselines, too, for the card; takes minutes")


class CompareSettings(_Section):
    """How much worse a challenger may be than the champion and still be promoted without force."""

    weighted_f1: float = Field(0.005, ge=0)
    macro_f1: float = Field(0.01, ge=0)
    top_answer_accuracy: float = Field(0.005, ge=0)
    ece: float = Field(0.01, ge=0, description="calibration error of the labels given")
    false_alarms: float = Field(0.01, ge=0, description="share of texts without event that are given a label")
    label_f1: float = Field(0.1, ge=0, description="of one label; counts only where chance is no explanation")
    label_false_discoveries: float = Field(0.05, gt=0, lt=1, description="allowed share among labels called worse")
    speed: float = Field(0.25, ge=0, description="share of the champion's texts a second")
    size: float = Field(0.25, ge=0, description="share of the champion's bytes")


class Settings(_Section):
    """A whole recipe."""

    name: str = Field("tocsin-en", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    version: str = "0.1.0"
    runs: Path
    data: DataSettings
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    search: SearchSettings = SearchSettings()
    export: ExportSettings = ExportSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    screen: ScreenSettings = ScreenSettings()
    verify: VerifySettings = VerifySettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    compare: CompareSettings = CompareSettings()

    @model_validator(mode="after")
    def _starts_once(self) -> Settings:
        if self.model.start is not None and self.finetune.contrastive_epochs:
            raise ValueError("model.start and finetune.contrastive_epochs both say what to start from; leave one out")
        return self


def load_settings(
    path: Path | str, *, preset: str | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read a recipe.

    :param preset: name of a table in ``presets.toml`` to put over it.
    :param overrides: section -> settings to put over both.
    :raises ConfigError: the file is missing, not TOML, or has an unknown key or a bad value; the message names it.
    """
    path = Path(path)
    if not path.exists():
        remedy = "run this at the root of a checkout, which has training/train.toml, or name one with --config FILE"
        raise ConfigError(f"{path}: there is no such recipe here; {remedy}")
    data = read_toml(path, "the recipe", error=ConfigError)
    if preset is not None:
        data = _with_overrides(data, _preset(preset))
    data = _with_overrides(data, overrides or {})
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error)}") from error
    return _resolve(settings, path.resolve().parent)


def _preset(name: str) -> dict[str, Any]:
    presets = read_toml(_PRESETS, "the list of presets")
    if name not in presets:
        raise ConfigError(f"no preset {name!r}; presets are: {', '.join(presets)}")
    preset: dict[str, Any] = presets[name]
    return preset


def _with_overrides(data: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    return data | {section: data.get(section, {}) | values for section, values in overrides.items()}


def _resolve(settings: Settings, folder: Path) -> Settings:
    def under(path: Path | None) -> Path | None:
        return None if path is None else (folder / path).resolve()

    data, finetune = settings.data, settings.finetune
    base = settings.model.base
    local_base = (folder / base).resolve()
    return settings.model_copy(
        update={
            "runs": under(settings.runs),
            "data": data.model_copy(
                update={key: under(getattr(data, key)) for key in ("corpus", "taxonomy", "benchmark", "robustness")}
            ),
            "finetune": finetune.model_copy(update={"teacher_logits": under(finetune.teacher_logits)}),
            # Only a path that is there is a path; anything else is a known name or a hub id.
            "model": settings.model.model_copy(
                update={
                    "base": str(local_base) if "/" in base and local_base.is_dir() else base,
                    "start": under(settings.model.start),
                }
            ),
        }
    )


def to_toml(settings: Settings) -> str:
    """The recipe as TOML that ``load_settings`` reads back to the same settings."""
    data = settings.model_dump(mode="json", exclude_none=True)
    lines = [f"{key} = {_literal(value)}" for key, value in data.items() if not isinstance(value, dict)]
    for section, values in data.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]", *(f"{key} = {_literal(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _literal(value: object) -> str:
    # JSON's escapes of characters beyond the first plane are none of TOML's.
    return json.dumps(value, ensure_ascii=False)
