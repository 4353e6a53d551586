"""Where the Trainer reports to besides the run's own log: TensorBoard and MLflow, both into the run's folder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from tocsin_training.errors import ConfigError

# The Trainer takes any one of these for each.
_MODULES = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",)}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a recipe that reports to what is not installed.

    :raises ConfigError: naming the package.
    """
    for name in names:
        if not any(importlib.util.find_spec(module) for module in _MODULES[name]):
            raise ConfigError(f"finetune.report_to: {name} is not installed; run `pip install {name}` or leave it out")


def keep_in(folder: Path) -> None:
    """Have the trackers write into a run's folder, unless the user's environment says where; and tell nobody else."""
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard"))
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
