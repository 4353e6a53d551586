"""Speed of the shipped release against its peers, all in one run, so that ratios hold on a noisy machine.

    python benchmarks/speed.py [--texts 2000] [--peers] [--save]

What is compared: the Hugging Face pipeline (PyTorch, fp32, batch 32, all cores) on the release's own architecture, with
random weights because weights do not change the time a product takes; onnxruntime's bare int8 matrix products at the
model's shapes; the batch job and the HTTP service on the same cores; and other people's runtimes, each in a virtual
environment of its own (see peers.py), as far as these are there. `--peers` installs those that are missing first
(gigabytes, and minutes the first time). What runs in this process is told in CPU time, too, which other work on the
machine hardly changes. Runtimes differ in what padding costs them, so they are compared on two kinds
of text: the corpus's own, nearly all a sentence or two, and texts of all lengths as they stand in an archive.
`--save` writes the table, with date and machine, to benchmarks/speed.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper
from peers import PEERS, Speed, reason
from rich.console import Console
from rich.table import Table
from servers import service

from tocsin import EventClassifier, Release
from tocsin.encoder import Encoder, open_session
from tocsin_serving.settings import available_cores

ROOT = Path(__file__).resolve().parents[1]
# Those that this process may use: containers and taskset give fewer than the machine has.
CORES = available_cores()
_HTTP_TEXTS = 64
# How often the job meets each text, with another number: some minute and a half, so that start-up weighs little, as in
# a job of any size.
_JOB_ROUNDS = 20
# Seconds. To read a process's share of its pages the kernel goes through all of them, which takes time from the job
# that is being timed.
_READ_MEMORY_EVERY = 2.0

Row = tuple[str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--peers", action="store_true", help="install the other runtimes that are missing")
    parser.add_argument("--save", action="store_true", help="write benchmarks/speed.md")
    arguments = parser.parse_args()
    texts = corpus_texts(arguments.texts)
    found: list[Row] = []
    whole = False
    try:
        for row in rows(texts, install=arguments.peers):
            found.append(row)
        whole = True
    finally:
        # Whatever ends the run, minutes of measuring are not lost; only a whole table takes the last one's place.
        report(found, len(texts), arguments.save and whole)


def rows(texts: Sequence[str], *, install: bool) -> Iterator[Row]:
    """:param install: the peers that are missing."""
    yield load_row()
    one_core = in_process(texts)
    yield speed_row("library, one thread", one_core)
    yield matrix_product_row(texts, one_core)
    with peer_model() as folder:
        yield from compared(folder, texts, install=install)
        for what, measured, note in compared(folder, of_all_lengths(texts), install=install):
            yield (f"all lengths: {what}", measured, note)
    yield from tried("HTTP", lambda: http_rows(texts))


def compared(folder: Path, texts: Sequence[str], *, install: bool) -> Iterator[Row]:
    """The batch job and everybody else, on the same texts."""
    distinct = in_turns(texts, _JOB_ROUNDS)
    # Every fifth of the first turn, so that what is slow reads fewer texts of the same lengths.
    few = distinct[: len(texts) : 5]
    pipeline = hugging_face_pipeline(folder, few)
    yield speed_row(f"Hugging Face pipeline, fp32, batch 32, {CORES} threads", pipeline)
    job, peak = batch_job(distinct)
    yield from batch_job_rows(job, peak, pipeline)
    yield from peer_rows(folder, few, job, install=install)


def tried(what: str, measure: Callable[[], Sequence[Row]]) -> Sequence[Row]:
    """Rows, or one with the reason why there are none."""
    try:
        return measure()
    except (Exception, SystemExit) as error:  # a server fails in ways nobody can list
        return [(what, "not measured", reason(error))]


def corpus_texts(count: int) -> list[str]:
    """Texts of the test split, over and over with a number added, so that none repeats."""
    files = [path.read_bytes() for path in sorted((ROOT / "datasets/corpus/test").glob("*.jsonl"))]
    texts = [json.loads(line)["text"] for file in files for line in file.splitlines()]
    return [texts[index % len(texts)] + (f" ({index})" if index >= len(texts) else "") for index in range(count)]


def in_turns(texts: Sequence[str], turns: int) -> list[str]:
    """All texts, then all again, each with a number of its own: a job scores but once what it meets twice."""
    return [f"{text} [{number}]" for number, text in enumerate(list(texts) * turns)]


def of_all_lengths(texts: Sequence[str]) -> list[str]:
    """As many texts in no order: a third of them headlines of up to ten words, a third as they are, a third paragraphs
    of three."""
    shuffled = random.Random(0).sample(list(texts), len(texts))
    following = shuffled[1:] + shuffled[:1]
    after_those = shuffled[2:] + shuffled[:2]
    return [
        (" ".join(text.split()[:10]), text, f"{text} {second} {third}")[index % 3]
        for index, (text, second, third) in enumerate(zip(shuffled, following, after_those, strict=True))
    ]


def measured(work: Callable[[], object], items: int, rounds: int = 3) -> Speed:
    """Speed in the best of some rounds, CPU time counted over this process's threads."""
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Speed(items / min(walls), 1000 * min(cpus) / items)


def speed_row(what: str, speed: Speed, note: str = "") -> Row:
    note = f"; {note}" if note else ""
    return (what, f"{speed.texts_per_second:.0f} texts/s", f"{speed.cpu_milliseconds:.2f} ms of CPU a text{note}")


def ratio_row(what: str, ours: float, theirs: Speed, goal: str = "") -> Row:
    """How many times as fast as others so many texts a second are."""
    return (what, f"{ours / theirs.texts_per_second:.1f}x", goal)


def load_row() -> Row:
    probe = (
        "import time; begun = time.perf_counter(); from tocsin import EventClassifier; "
        "EventClassifier.load(); print(time.perf_counter() - begun)"
    )
    times = [float(subprocess.check_output([sys.executable, "-c", probe])) for _ in range(5)]
    return ("import and load of the release", f"{statistics.median(times):.2f} s", "must 1.5, aim 0.5")


def in_process(texts: Sequence[str]) -> Speed:
    classifier = EventClassifier.load()
    classifier.score_batch(texts[:50])
    return measured(lambda: classifier.score_batch(texts), len(texts))


def matrix_product_row(texts: Sequence[str], scoring: Speed) -> Row:
    """Arithmetic done while scoring, as a share of what the same kernel does with nothing around it, by CPU time."""
    release = Release.open()
    config = json.loads((release.folder / "config.json").read_text())
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    # Query, key and value are one product.
    shapes = [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]
    encoder = Encoder(release, threads=1)
    tokens = [len(window.ids) for window in encoder._windows(list(texts), 0)]
    length = round(statistics.mean(tokens))
    sizes = [rows * columns for rows, columns in shapes]
    bare = statistics.harmonic_mean([int8_product_rate(length, *shape) for shape in shapes], sizes)
    per_text = sum(tokens) / len(texts) * 2 * layers * sum(sizes)
    rate = per_text / scoring.cpu_milliseconds * 1000
    note = f"{rate / 1e9:.0f} of {bare / 1e9:.0f} GOPS at {length} tokens; must 50 %, aim 75 %"
    return ("share of the int8 matrix-product speed of one core", f"{rate / bare:.0%}", note)


def int8_product_rate(rows: int, inner: int, columns: int) -> float:
    """Operations a second of onnxruntime's MatMulInteger for (rows, inner) x (inner, columns), one thread."""
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 127, (inner, columns), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["product"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [rows, inner])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [rows, columns])],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = open_session(model.SerializeToString())
    inputs = {"a": generator.integers(0, 255, (rows, inner), dtype=np.uint8)}
    repeats = 300
    speed = measured(lambda: [session.run(None, inputs) for _ in range(repeats)], repeats)
    return 2 * rows * inner * columns / speed.cpu_milliseconds * 1000


@contextmanager
def peer_model() -> Iterator[Path]:
    """A folder with the release's architecture as others read it: fp32, random weights, and the tokenizer."""
    import transformers

    hub: Any = transformers  # its factories are typed by task name, or not at all
    release = Release.open().folder
    with tempfile.TemporaryDirectory() as folder:
        hub.AutoModelForSequenceClassification.from_config(hub.AutoConfig.from_pretrained(release)).save_pretrained(
            folder
        )
        hub.AutoTokenizer.from_pretrained(release).save_pretrained(folder)
        yield Path(folder)


def peer_rows(folder: Path, texts: Sequence[str], job: float, *, install: bool) -> Iterator[Row]:
    """A row with each peer's speed and one with the batch job against it, or one with the reason why there is none."""
    for peer in PEERS:
        found = peer.measure(folder, texts, install=install)
        if isinstance(found, str):
            yield (peer.name, "not measured", found)
        else:
            yield speed_row(f"{peer.name}, batch 32, all cores", found, peer.environment.versions())
            yield ratio_row(f"tocsin score against {peer.name}", job, found)


def hugging_face_pipeline(folder: Path, texts: Sequence[str]) -> Speed:
    import torch
    import transformers

    hub: Any = transformers
    torch.set_num_threads(CORES)
    classify = hub.pipeline(
        "text-classification",
        model=hub.AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        tokenizer=hub.AutoTokenizer.from_pretrained(folder),
        device="cpu",
        batch_size=32,
        top_k=None,
    )
    return measured(lambda: classify(list(texts), truncation=True), len(texts))


def batch_job(texts: Sequence[str], *options: str) -> tuple[float, int]:
    """Texts a second of a whole job, start-up included, and the most bytes its processes held.

    Its CPU time is not told: workers are forked by a process that nobody waits for, so the kernel adds theirs to none.

    :param texts: what stands there twice is scored once.
    :param options: of `tocsin score`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "texts.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        command = [sys.executable, "-m", "tocsin.cli.main", "score", str(source), f"{scratch}/out.jsonl", *options]
        begun = time.perf_counter()
        peak = peak_memory(command, every=_READ_MEMORY_EVERY)
        return len(texts) / (time.perf_counter() - begun), peak


def batch_job_rows(job: float, peak: int, pipeline: Speed) -> list[Row]:
    return [
        (f"tocsin score, {CORES} workers, start-up included", f"{job:.0f} texts/s", ""),
        ratio_row("tocsin score against the pipeline, same cores", job, pipeline, "must 6x, aim 10x"),
        ("peak memory of the job, all processes", f"{peak / 1e6:.0f} MB", "must 1000, aim 400"),
    ]


def proportional_memory(process: psutil.Process) -> int:
    """Bytes of a process, shared pages split between those that have them (PSS)."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
        return 0


def own_memory(process: psutil.Process) -> int:
    """Bytes of a process that are no pages of files."""
    try:
        found = process.memory_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(found.rss - found.shared)


def peak_memory(
    command: Sequence[str], every: float = 0.2, of: Callable[[psutil.Process], int] = proportional_memory
) -> int:
    """Run a command; the most memory it and its children held at once, in bytes.

    :param every: seconds between two looks, each of which takes time from the command.
    :param of: what a process holds.
    :raises SystemExit: it fails, with what it said.
    """
    with tempfile.TemporaryFile() as said:
        process = psutil.Popen(command, stderr=said)
        peak = 0
        while process.poll() is None:
            # It may end between two looks.
            with suppress(psutil.NoSuchProcess):
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(of(member) for member in family))
            with suppress(psutil.TimeoutExpired):
                process.wait(every)
        if process.returncode:
            said.seek(0)
            error = subprocess.CalledProcessError(process.returncode, list(command), stderr=said.read().decode())
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}: {reason(error)}")
    return peak


def http_rows(texts: Sequence[str]) -> list[Row]:
    with service() as client:
        requests = [list(texts[start : start + _HTTP_TEXTS]) for start in range(0, len(texts), _HTTP_TEXTS)]
        post(client, requests[0])

        def everything() -> None:
            with ThreadPoolExecutor(2 * CORES) as pool:
                list(pool.map(lambda request: post(client, request), requests))

        http = measured(everything, len(texts)).texts_per_second
    processes = in_processes(texts)
    return [
        (f"HTTP, {_HTTP_TEXTS} texts a request, {CORES} workers", f"{http:.0f} texts/s", ""),
        (f"library in {CORES} processes, same cores", f"{processes:.0f} texts/s", ""),
        ("HTTP against the library", f"{http / processes:.0%}", "must 80 %, aim 95 %"),
    ]


def post(client: httpx.Client, texts: list[str]) -> None:
    answer = client.post("/classify", json={"texts": texts})
    answer.raise_for_status()
    if len(answer.json()) != len(texts):
        raise SystemExit("the service lost an answer")


_WORKER = """
import json, sys, time
from tocsin import EventClassifier
texts = json.loads(sys.stdin.readline())
classifier = EventClassifier.load()
classifier.score_batch(texts[:50])
print("ready", flush=True)
sys.stdin.readline()
times = []
for _ in range(3):
    begun = time.perf_counter()
    classifier.score_batch(texts).predictions(scores=False)
    times.append(time.perf_counter() - begun)
print(min(times))
"""


def in_processes(texts: Sequence[str]) -> float:
    """Texts a second of one single-threaded classifier per core, all at once.

    :raises SystemExit: one of them failed, without which the sum would be of fewer cores.
    """
    shares = [list(texts[core::CORES]) for core in range(CORES)]
    workers: list[subprocess.Popen[str]] = []
    try:
        for share in shares:
            workers.append(_worker())
            tell(workers[-1], json.dumps(share))
        # None begins before all have loaded the model, which takes some longer than others.
        for worker in workers:
            heard(worker)
        for worker in workers:
            tell(worker, "begin")
        return sum(len(share) / float(heard(worker)) for share, worker in zip(shares, workers, strict=True))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _worker() -> subprocess.Popen[str]:
    # What it has to say of an error goes where ours goes.
    return subprocess.Popen([sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(worker: subprocess.Popen[str], line: str) -> None:
    # One that has died is found out by its silence.
    with suppress(BrokenPipeError):
        print(line, file=worker.stdin, flush=True)


def heard(worker: subprocess.Popen[str]) -> str:
    """The worker's next line."""
    line = worker.stdout.readline() if worker.stdout else ""
    if not line:
        raise SystemExit(f"a process of the library failed with {worker.wait()}; what it said stands above")
    return line


def report(rows: Sequence[Row], count: int, save: bool) -> None:
    title = (
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores, release {Release.open().name}, "
        f"{count} texts of the test split"
    )
    table = Table("what", "measured", "note", title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if save:
        lines = [
            f"# Speed\n\n{title}. Made by `{as_made('bench')}`.\n",
            "| what | measured | note |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        (ROOT / "benchmarks/speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def as_made(target: str) -> str:
    """The command that makes a table again, options included."""
    return f"make {target} ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else f"make {target}"


def cpu_name() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
