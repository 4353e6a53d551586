"""Where the Trainer reports to besides the run's own log: TensorBoard and MLflow, both into the run's folder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tocsin.errors import how_to_install
from tocsin_training.errors import ConfigError

# The Trainer takes any one of these for each.
_MODULES = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",)}
_EXTRAS = {"tensorboard": "track", "mlflow": "mlflow"}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a recipe that reports to what is not installed.

    :raises ConfigError: naming the package.
    """
    for name in names:
        if not any(importlib.util.find_spec(module) for module in _MODULES[name]):
            remedy = f"{how_to_install(_EXTRAS[name])}, or leave it out"
            raise ConfigError(f"finetune.report_to: {name} is not installed; {remedy}")


@contextmanager
def reports_in(folder: Path) -> Iterator[None]:
    """Have the trackers write into a run's folder while the block runs, unless the user's environment says where.

    They take it from the environment. MLflow would count its users by the network; that is switched off.
    """
    wanted = {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').resolve()}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
