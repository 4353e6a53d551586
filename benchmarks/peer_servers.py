"""What people would otherwise serve the same weights with, each as its own documentation starts it.

`load_peers.py` measures them. One that cannot be installed or does not start is a `ServerError` with the reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from peers import INFINITY, TORCH, Environment, reason
from servers import PORT, ServerError, check_port_is_free, running
from speed import CORES

# Infinity tries its largest batches first, which takes a slow machine a while.
_START_SECONDS = 300
# uvicorn ends a worker that is silent for so long, 5 by itself; one that first imports torch is silent for longer.
_HEALTH_SECONDS = 60
# What uvicorn, which runs all of them, says for each worker, and when one died and it starts another, over and over.
_UP = "Application startup complete."
_DIED = "Child process"
_ERROR = re.compile(r"\w*(?:Error|Exception)\b.*")
# A label holds from here on: the pipeline's scores are sigmoids, and "no event" has the logit zero.
_HOLDS = 0.5

Json = Any
Scored = list[dict[str, Any]]
"""A text's labels as transformers' pipeline gives them: `label` and `score` of each."""

PLAIN_APP = """
import os
import threading

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

torch.set_num_threads(1)
pipe = pipeline(
    "text-classification", model=os.environ["MODEL"], device="cpu", top_k=None, batch_size=32, trust_remote_code=True
)
# A fast tokenizer must not be used by two threads at once, and one core computes no faster for two of them.
turn = threading.Lock()
app = FastAPI()


class Texts(BaseModel):
    texts: list[str]


@app.post("/classify")
def classify(request: Texts) -> list[list[dict[str, str | float]]]:
    with turn:
        return pipe(request.texts, truncation=True)
"""


@dataclass(frozen=True)
class PeerServer:
    """Another server that classifies texts posted to /classify."""

    name: str
    environment: Environment
    command: Callable[[Path, Path], Sequence[str | Path]]
    """From the environment's interpreter and the model's folder."""
    question: Callable[[Sequence[str]], dict[str, Any]]
    """The body that asks about some texts."""
    scored: Callable[[Any], list[Scored]]
    """What an answer says of each text."""
    workers: int = 1
    app: str = ""
    """Python of the module `app`, for a server that needs one."""

    def first(self, answer: Json) -> list[str | None]:
        """The most probable label of each text, none where none holds.

        :raises ServerError: the answer has another shape.
        """
        try:
            best = [max(labels, key=lambda one: float(one["score"])) for labels in self.scored(answer)]
            return [str(one["label"]) if one["score"] >= _HOLDS else None for one in best]
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"an answer that cannot be read: {str(answer)[:100]}") from error

    @contextmanager
    def running(self, model: Path) -> Iterator[None]:
        """The server, installed, started and all its workers ready, for as long as the block lasts.

        :raises ServerError: it cannot be installed, does not start, or loses a worker.
        """
        try:
            self.environment.install()
        except (subprocess.SubprocessError, OSError) as error:
            raise ServerError(f"cannot be installed: {reason(error)}") from error
        check_port_is_free()
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "app.py").write_text(self.app, encoding="utf-8")
            log = Path(scratch) / "log"
            with self._started(model, Path(scratch), log) as process:
                self._wait_until_ready(process, log)
                yield
                # A figure of fewer workers than the table says would be wrong without a word.
                if (why := self._trouble(process, log)) is not None:
                    raise ServerError(f"a worker died while it was measured: {why}")

    @contextmanager
    def _started(self, model: Path, scratch: Path, log: Path) -> Iterator[psutil.Popen]:
        # Nothing of ours on its path; nothing sent anywhere or left in anyone's home.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"MODEL": str(model), "HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        command = [str(part) for part in self.command(self.environment.python, model)]
        with ExitStack() as stack:
            try:
                process = stack.enter_context(running(command, log, folder=scratch, environment=environment))
            except OSError as error:
                raise ServerError(f"does not start: {error}") from error
            yield process

    def _trouble(self, process: psutil.Popen, log: Path) -> str | None:
        """Why the server or one of its workers is gone; none where all of them run."""
        said = log.read_text(encoding="utf-8", errors="replace")
        return why_it_ended(said) if process.poll() is not None or _DIED in said else None

    def _wait_until_ready(self, process: psutil.Popen, log: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if (why := self._trouble(process, log)) is not None:
                raise ServerError(f"does not start: {why}")
            if log.read_text(encoding="utf-8", errors="replace").count(_UP) >= self.workers:
                return
            time.sleep(0.3)
        raise ServerError(f"not ready after {_START_SECONDS} seconds")


def why_it_ended(log: str) -> str:
    """The last error that a log names, or else its last line."""
    errors = _ERROR.findall(log)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return str([*lines[-1:], *errors][-1])[:200] if lines else "it ended without a word"


def _plain_command(python: Path, model: Path) -> Sequence[str | Path]:
    workers = ["--workers", str(CORES), "--timeout-worker-healthcheck", str(_HEALTH_SECONDS)]
    return [python, "-m", "uvicorn", "app:app", "--port", str(PORT), *workers]


def _infinity_command(python: Path, model: Path) -> Sequence[str | Path]:
    served: list[str | Path] = [
        "--model-id",
        model,
        "--served-model-name",
        "release",
        "--host",
        "127.0.0.1",
        "--port",
        str(PORT),
    ]
    return [
        python.with_name("infinity_emb"),
        "v2",
        *served,
        "--engine",
        "torch",
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ]


SERVERS = (
    PeerServer(
        name=f"FastAPI, pipeline, {CORES} workers",
        environment=Environment("fastapi", ("fastapi", "transformers", "uvicorn[standard]", TORCH)),
        command=_plain_command,
        question=lambda texts: {"texts": list(texts)},
        scored=lambda answer: list(answer),
        workers=CORES,
        app=PLAIN_APP,
    ),
    PeerServer(
        name="infinity-emb",
        environment=INFINITY,
        command=_infinity_command,
        question=lambda texts: {"model": "release", "input": list(texts)},
        scored=lambda answer: list(answer["data"]),
    ),
)
