"""Speed of the shipped release against its peers, all in one run, so that ratios hold on a noisy machine.

    python benchmarks/speed.py [--texts 2000] [--save]

What is compared: the Hugging Face pipeline (PyTorch, fp32, batch 32, all cores) on the release's own architecture, with
random weights because weights do not change the time a product takes; onnxruntime's bare int8 matrix products at the
model's shapes; the batch job and the HTTP service on the same cores. `--save` writes the table, with date and machine,
to benchmarks/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import psutil
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from tocsin import EventClassifier, Release
from tocsin.encoder import Encoder

ROOT = Path(__file__).resolve().parents[1]
CORES = os.cpu_count() or 1
PORT = 3719
_HTTP_TEXTS = 64

Row = tuple[str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--save", action="store_true", help="write benchmarks/speed.md")
    arguments = parser.parse_args()
    texts = corpus_texts(arguments.texts)
    rows = [load_row()]
    one_core = in_process(texts)
    rows.append(("library, one thread", f"{one_core:.0f} texts/s", ""))
    rows.append(matrix_product_row(texts, one_core))
    pipeline = hugging_face_pipeline(texts[: max(200, arguments.texts // 5)])
    rows.append((f"Hugging Face pipeline, fp32, batch 32, {CORES} threads", f"{pipeline:.0f} texts/s", ""))
    rows.append(("library, one thread, against the pipeline on all cores", f"{one_core / pipeline:.1f}x", "-"))
    rows += batch_job_rows(texts, pipeline)
    rows += http_rows(texts)
    report(rows, len(texts), arguments.save)


def corpus_texts(count: int) -> list[str]:
    """Texts of the test split, over and over with a number added, so that none repeats."""
    lines = [line for path in sorted((ROOT / "datasets/corpus/test").glob("*.jsonl")) for line in path.open()]
    texts = [json.loads(line)["text"] for line in lines]
    return [texts[index % len(texts)] + (f" ({index})" if index >= len(texts) else "") for index in range(count)]


def best_rate(work: Callable[[], object], items: int, rounds: int = 3) -> float:
    """Items a second in the best of some rounds: noise only ever slows a machine down."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return items / min(times)


def load_row() -> Row:
    probe = (
        "import time; begun = time.perf_counter(); from tocsin import EventClassifier; "
        "EventClassifier.load(); print(time.perf_counter() - begun)"
    )
    times = [float(subprocess.check_output([sys.executable, "-c", probe])) for _ in range(5)]
    return ("import and load of the release", f"{statistics.median(times):.2f} s", "must 1.5, aim 0.5")


def in_process(texts: Sequence[str]) -> float:
    classifier = EventClassifier.load()
    classifier.score_batch(texts[:50])
    return best_rate(lambda: classifier.score_batch(texts), len(texts))


def matrix_product_row(texts: Sequence[str], texts_per_second: float) -> Row:
    """Arithmetic done while scoring, as a share of what the same kernel does with nothing around it."""
    release = Release.open()
    config = json.loads((release.folder / "config.json").read_text())
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    encoder = Encoder(release, threads=1)
    tokens = [len(window.ids) for window in encoder._windows(list(texts), 0)]
    length = round(statistics.mean(tokens))
    bare = statistics.harmonic_mean([int8_product_rate(length, *shape) for shape in shapes])
    per_token = 2 * layers * sum(rows * columns for rows, columns in shapes)
    scoring = texts_per_second * sum(tokens) / len(texts) * per_token
    note = f"{scoring / 1e9:.0f} of {bare / 1e9:.0f} GOPS at {length} tokens; must 50 %, aim 75 %"
    return ("share of the int8 matrix-product speed of one core", f"{scoring / bare:.0%}", note)


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
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {"a": generator.integers(0, 255, (rows, inner), dtype=np.uint8)}
    repeats = 300
    return best_rate(lambda: [session.run(None, inputs) for _ in range(repeats)], repeats * 2 * rows * inner * columns)


def hugging_face_pipeline(texts: Sequence[str]) -> float:
    import torch
    import transformers

    hub: Any = transformers  # its factories are typed by task name, or not at all
    torch.set_num_threads(CORES)
    release = Release.open()
    classify = hub.pipeline(
        "text-classification",
        model=hub.AutoModelForSequenceClassification.from_config(hub.AutoConfig.from_pretrained(release.folder)).eval(),
        tokenizer=hub.AutoTokenizer.from_pretrained(release.folder),
        device="cpu",
        batch_size=32,
        top_k=None,
    )
    return best_rate(lambda: classify(list(texts), truncation=True), len(texts))


def batch_job_rows(texts: Sequence[str], pipeline: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "texts.jsonl"
        repeats = 5
        rows = [{"text": f"{text} [{turn}]"} for turn in range(repeats) for text in texts]
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [sys.executable, "-m", "tocsin.cli.main", "score", str(source), str(Path(scratch) / "out.jsonl")]
        begun = time.perf_counter()
        peak = peak_memory(command)
        rate = len(rows) / (time.perf_counter() - begun)
    return [
        (f"tocsin score, {CORES} workers, start-up included", f"{rate:.0f} texts/s", f"{len(rows)} texts"),
        ("tocsin score against the pipeline, same cores", f"{rate / pipeline:.1f}x", "must 6x, aim 10x"),
        ("peak memory of the job, all processes", f"{peak / 1e6:.0f} MB", "must 1000, aim 400"),
    ]


def peak_memory(command: Sequence[str]) -> int:
    """Run a command; the most memory it and its children held at once, shared pages counted once (PSS), in bytes."""
    process = psutil.Popen(command, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        family = [process, *process.children(recursive=True)]
        peak = max(peak, sum(proportional_memory(member) for member in family))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return peak


def proportional_memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
        return 0


def http_rows(texts: Sequence[str]) -> list[Row]:
    with service() as client:
        requests = [list(texts[start : start + _HTTP_TEXTS]) for start in range(0, len(texts), _HTTP_TEXTS)]
        post(client, requests[0])

        def everything() -> None:
            with ThreadPoolExecutor(2 * CORES) as pool:
                list(pool.map(lambda request: post(client, request), requests))

        http = best_rate(everything, len(texts))
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


@contextmanager
def service() -> Iterator[httpx.Client]:
    """The real service, a worker for each core."""
    with server(workers=CORES) as (_, client):
        yield client


@contextmanager
def server(*, workers: int) -> Iterator[tuple[psutil.Process, httpx.Client]]:
    """The real service as a process of its own, ready, and a client of it."""
    command = [sys.executable, "-m", "tocsin.cli.main", "serve", "--port", str(PORT), "--workers", str(workers)]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client:
            wait_until_ready(client)
            yield process, client
    finally:
        family = [*process.children(recursive=True), process]
        for member in family:
            member.terminate()
        psutil.wait_procs(family, timeout=10)


def wait_until_ready(client: httpx.Client, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise SystemExit("the service did not become ready")


_WORKER = """
import json, sys, time
from tocsin import EventClassifier
texts = json.load(sys.stdin)
classifier = EventClassifier.load()
classifier.score_batch(texts[:50])
print("ready", flush=True)
times = []
for _ in range(3):
    begun = time.perf_counter()
    classifier.score_batch(texts).predictions(scores=False)
    times.append(time.perf_counter() - begun)
print(min(times))
"""


def in_processes(texts: Sequence[str]) -> float:
    """Texts a second of one single-threaded classifier per core, all at once."""
    rates: list[float] = []

    def run(share: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, "-c", _WORKER], input=json.dumps(share), capture_output=True, text=True, check=True
        )
        rates.append(len(share) / float(done.stdout.split()[-1]))

    threads = [threading.Thread(target=run, args=(list(texts[core::CORES]),)) for core in range(CORES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def report(rows: Sequence[Row], count: int, save: bool) -> None:
    title = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {CORES} cores, {count} texts of the test split"
    table = Table("what", "measured", "note", title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if save:
        lines = [
            f"# Speed\n\n{title}. Made by `make bench ARGS=--save`.\n",
            "| what | measured | note |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        (ROOT / "benchmarks/speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def cpu_name() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
