"""Other people's ways to run the same classifier, each in a virtual environment of its own, so that no pins collide.

`speed.py` measures those that are installed, and `speed.py --peers` installs the others first. A peer that is not
there, cannot be installed or does not run is a row with the reason. Each gets the texts and a folder with the release's
architecture in Hugging Face's format (fp32, random weights, which change no product's time), runs on all cores at batch
32, and prints the best of three rounds.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ENVIRONMENTS = Path(__file__).resolve().parent / ".venvs"
INSTALL = "make bench ARGS=--peers"
_INSTALL_SECONDS = 1800
_RUN_SECONDS = 1800

_FRAME = """
import json, sys, time
folder, texts = sys.argv[1], json.load(sys.stdin)
def end():
    pass
{body}
run(texts[:64])
walls, cpus = [], []
for _ in range(3):
    wall, cpu = time.perf_counter(), time.process_time()
    run(texts)
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
print(json.dumps({{"texts_per_second": len(texts) / min(walls), "cpu_milliseconds": 1000 * min(cpus) / len(texts)}}))
end()
"""


@dataclass(frozen=True)
class Speed:
    """How fast something is."""

    texts_per_second: float
    cpu_milliseconds: float
    """Of all its threads and processes, a text: other work on the machine hardly changes it."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a peer's own."""

    name: str
    requirements: tuple[str, ...]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return ENVIRONMENTS / self.name / "bin" / "python"

    def install(self) -> None:
        """Make it, unless it is there as it should be.

        :raises subprocess.SubprocessError, OSError: it cannot be made; see `reason`.
        """
        if self.is_installed:
            return
        output([sys.executable, "-m", "venv", "--clear", str(self.python.parents[1])], _INSTALL_SECONDS)
        output([str(self.python), "-m", "pip", "install", "--quiet", *self.requirements], _INSTALL_SECONDS)
        self._done.write_text("\n".join(self.requirements), encoding="utf-8")

    @property
    def is_installed(self) -> bool:
        """Whether it is there as it should be."""
        return self._done.is_file() and self._done.read_text(encoding="utf-8") == "\n".join(self.requirements)

    @property
    def _done(self) -> Path:
        return self.python.parents[1] / ".installed"

    def versions(self) -> str:
        """What is installed of what decides its speed, for the table: not all of it is pinned."""
        command = [str(self.python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
        try:
            installed = json.loads(output(command, _INSTALL_SECONDS))
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            return f"versions unknown: {reason(error)}"
        named = {re.split(r"[\[=]", requirement)[0] for requirement in self.requirements} | {"transformers"}
        # Some call themselves with an underscore, which pip takes for a dash.
        found = [one for one in installed if one["name"].lower().replace("_", "-") in named]
        return ", ".join(f"{one['name']} {one['version']}" for one in found)


@dataclass(frozen=True)
class Peer:
    """Another way to run the classifier."""

    name: str
    environment: Environment
    body: str
    """Python that defines ``run(texts)``, with ``folder`` and ``texts`` at hand; and ``end()``, where it needs one."""

    def measure(self, folder: Path, texts: Sequence[str], *, install: bool = True) -> Speed | str:
        """Its speed, or in words why there is none.

        :param install: make its environment where it is missing, which takes gigabytes and minutes.
        """
        if not install and not self.environment.is_installed:
            return f"not installed; `{INSTALL}` installs and measures all of these"
        try:
            self.environment.install()
            script = _FRAME.format(body=self.body)
            command = [str(self.environment.python), "-c", script, str(folder)]
            return _speed(output(command, _RUN_SECONDS, json.dumps(list(texts))))
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            return reason(error)


def _speed(printed: str) -> Speed:
    """What the last line says.

    :raises ValueError: it is another line.
    """
    last = printed.splitlines()[-1:]
    try:
        return Speed(**json.loads(*last))
    except (TypeError, ValueError) as error:
        raise ValueError(f"printed no speed at its end: {''.join(last)[:100]!r}") from error


def output(command: Sequence[str], seconds: float, stdin: str = "") -> str:
    """What a command prints.

    :raises subprocess.SubprocessError, OSError: it fails or takes longer than so many seconds; see `reason`.
    """
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=seconds).stdout


def reason(error: BaseException) -> str:
    """Why a command came to nothing, in a line."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr).splitlines() if line.strip()]
        return lines[-1][:200] if lines else f"ended with status {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {error.timeout:.0f} seconds"
    return str(error) or type(error).__name__


# Ours, so that no peer is measured with another's kernels.
TORCH = f"torch=={version('torch').split('+')[0]}"
ONNXRUNTIME = f"onnxruntime=={version('onnxruntime')}"
# It also holds the server that load_peers.py measures.
INFINITY = Environment("infinity", ("infinity-emb[optimum,server,torch]", TORCH))

PEERS = (
    Peer(
        "optimum, ONNX Runtime pipeline",
        Environment("optimum", ("optimum-onnx[onnxruntime]", ONNXRUNTIME, TORCH)),
        """
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline
model = ORTModelForSequenceClassification.from_pretrained(folder, export=True)
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder),
                    batch_size=32, top_k=None)
def run(batch):
    classify(list(batch), truncation=True)
""",
    ),
    Peer(
        "sentence-transformers, ONNX backend, vectors alone",
        Environment("sentence-transformers", ("sentence-transformers[onnx]", ONNXRUNTIME, TORCH)),
        """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(folder, backend="onnx", device="cpu")
def run(batch):
    model.encode(list(batch), batch_size=32, show_progress_bar=False)
""",
    ),
    Peer(
        "infinity, its engine",
        INFINITY,
        """
import asyncio
from infinity_emb import AsyncEmbeddingEngine, EngineArgs
engine = AsyncEmbeddingEngine.from_args(
    EngineArgs(model_name_or_path=folder, engine="torch", device="cpu", batch_size=32, model_warmup=False))
loop = asyncio.new_event_loop()
# Once, as a server does: starting and stopping are no part of a round.
loop.run_until_complete(engine.astart())
def run(batch):
    loop.run_until_complete(engine.classify(sentences=list(batch)))
def end():
    loop.run_until_complete(engine.astop())
""",
    ),
)
