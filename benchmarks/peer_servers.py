"""What people would otherwise serve the same weights with, each as its own documentation starts it.

`load_peers.py` measures them. One that cannot be installed or does not start is a `PeerError` with the reason.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from peers import INFINITY, TORCH, Environment, reason
from speed import CORES, PORT

# Infinity tries its largest batches first, which takes a slow machine a while.
_START_SECONDS = 300
_STOP_SECONDS = 10
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


class PeerError(Exception):
    """A peer that cannot be measured; the message is the reason, for the table."""


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

        :raises PeerError: the answer has another shape.
        """
        try:
            best = [max(labels, key=lambda one: float(one["score"])) for labels in self.scored(answer)]
            return [str(one["label"]) if one["score"] >= _HOLDS else None for one in best]
        except (KeyError, TypeError, ValueError) as error:
            raise PeerError(f"an answer that cannot be read: {str(answer)[:100]}") from error

    @contextmanager
    def running(self, model: Path) -> Iterator[None]:
        """The server, installed, started and all its workers ready, for as long as the block lasts.

        :raises PeerError: it cannot be installed, or does not start.
        """
        try:
            self.environment.install()
        except (subprocess.SubprocessError, OSError) as error:
            raise PeerError(f"cannot be installed: {reason(error)}") from error
        check_port_is_free()
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "app.py").write_text(self.app, encoding="utf-8")
            log = Path(scratch) / "log"
            process = self._start(model, Path(scratch), log)
            try:
                self._wait_until_ready(process, log)
                yield
            finally:
                stop(process)

    def _start(self, model: Path, scratch: Path, log: Path) -> psutil.Popen:
        # Nothing of ours on its path; nothing sent anywhere or left in anyone's home.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"MODEL": str(model), "HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        command = [str(part) for part in self.command(self.environment.python, model)]
        try:
            with log.open("wb") as file:
                return psutil.Popen(command, cwd=scratch, env=environment, stdout=file, stderr=subprocess.STDOUT)
        except OSError as error:
            raise PeerError(f"does not start: {error}") from error

    def _wait_until_ready(self, process: psutil.Popen, log: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            said = log.read_text(encoding="utf-8", errors="replace")
            if said.count(_UP) >= self.workers:
                return
            if process.poll() is not None or _DIED in said:
                raise PeerError(f"does not start: {why_it_ended(said)}")
            time.sleep(0.3)
        raise PeerError(f"not ready after {_START_SECONDS} seconds")


def check_port_is_free() -> None:
    """Make sure that whoever answers is who is measured.

    :raises PeerError: somebody listens where servers are to be started.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            raise PeerError(f"another program listens on port {PORT}; end it and run this again")


def why_it_ended(log: str) -> str:
    """The last error that a log names, or else its last line."""
    errors = _ERROR.findall(log)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return str([*lines[-1:], *errors][-1])[:200] if lines else "it ended without a word"


def stop(process: psutil.Popen) -> None:
    """End a server and its workers; what they still compute for clients who have gone does not count."""
    # The parent first, for it starts workers anew.
    children = process.children(recursive=True) if process.is_running() else []
    family: list[psutil.Process] = [process, *children]
    for member in family:
        _signal(member, "terminate")
    _, left = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    for member in left:
        _signal(member, "kill")
    psutil.wait_procs(left, timeout=_STOP_SECONDS)


def _signal(process: psutil.Process, name: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, name)()


def _plain_command(python: Path, model: Path) -> Sequence[str | Path]:
    return [python, "-m", "uvicorn", "app:app", "--port", str(PORT), "--workers", str(CORES)]


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
