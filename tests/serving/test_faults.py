"""A real server with two workers, and what can happen to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import psutil
import pytest
from support import assert_same_predictions, other_version

from tocsin import EventClassifier, Prediction
from tocsin_serving.keys import VARIABLE, new_key

TEXTS = ["An airstrike hit the market.", "A peaceful protest in the capital.", "Rates were left unchanged."]
ServingTocsin = Callable[..., AbstractContextManager[str]]
KEY, STORED = new_key("operator", admin=True)
WORKERS = 2


def authorised(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {KEY}"})


@pytest.fixture
def serve_tiny(serving_tocsin: ServingTocsin, tiny_release: Path) -> Iterator[str]:
    """Two workers on the tiny release, with an admin key."""
    with serving_tocsin(tiny_release, workers=WORKERS, **{VARIABLE: STORED.model_dump_json()}) as url:
        yield url


def server_processes(url: str) -> tuple[psutil.Process, list[psutil.Process]]:
    """The supervisor that listens on a port and its worker processes."""
    port = url.rpartition(":")[2]
    me = psutil.Process()
    (supervisor,) = (child for child in me.children() if port in child.cmdline())
    workers = [child for child in supervisor.children(recursive=True) if "--worker-id" in child.cmdline()]
    return supervisor, workers


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class Asking:
    """Clients that ask all the time, each answer checked against the library's."""

    def __init__(self, url: str, classifiers: list[EventClassifier], clients: int = 4) -> None:
        self._url = url
        self._expected = {each.version: each.score_batch(TEXTS).predictions(scores=False) for each in classifiers}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.versions: list[str] = []
        self.broken: list[str] = []
        self.wrong: list[str] = []

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with authorised(self._url) as client:
            while not self._stop.is_set():
                try:
                    self._check(client.post("/classify", json={"texts": TEXTS}))
                except httpx.TransportError as error:
                    self.broken.append(repr(error))

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            self.wrong.append(f"{response.status_code} {response.text}")
            return
        version = response.headers["X-Tocsin-Model-Version"]
        try:
            answer = [Prediction.model_validate(one) for one in response.json()]
            assert_same_predictions(self._expected[version], answer)
        except (AssertionError, KeyError) as error:
            self.wrong.append(repr(error))
        self.versions.append(version)


def test_a_killed_worker_takes_only_its_own_requests_along_and_comes_back(
    serve_tiny: str, tiny_classifier: EventClassifier
) -> None:
    _, workers = server_processes(serve_tiny)
    assert len(workers) == WORKERS
    with Asking(serve_tiny, [tiny_classifier]) as asking:
        until(lambda: len(asking.versions) > 20)
        victim = workers[0]
        victim.kill()
        victim.wait(10)
        after = len(asking.versions)
        until(lambda: len(asking.versions) > after + 20)
        until(lambda: len(server_processes(serve_tiny)[1]) == WORKERS)
    assert asking.wrong == []
    # One request a client at most was on the killed worker.
    assert len(asking.broken) <= 4
    assert httpx.get(f"{serve_tiny}/readyz").status_code == 200


def test_reloading_under_load_answers_by_the_old_or_the_new_release(
    serve_tiny: str, tiny_release: Path, tiny_classifier: EventClassifier, tmp_path: Path
) -> None:
    folders = [other_version(tiny_release, tmp_path / version, version) for version in ("1", "2")]
    broken = other_version(tiny_release, tmp_path / "broken", "3")
    (broken / "model.onnx").write_bytes(b"half")
    classifiers = [tiny_classifier, *(EventClassifier.load(folder) for folder in folders)]
    with authorised(serve_tiny) as operator, Asking(serve_tiny, classifiers) as asking:
        until(lambda: len(asking.versions) > 10)
        for folder in folders:
            answer = operator.post("/admin/reload", json={"release": str(folder)})
            assert answer.status_code == 200
            assert answer.json()["model_version"] == f"tiny-{folder.name}"
        refused = operator.post("/admin/reload", json={"release": str(broken)})
        assert refused.status_code == 409
        assert "model.onnx" in refused.json()["error"]
        until(lambda: len(asking.versions) > 100 and set(asking.versions[-60:]) == {"tiny-2"})
    assert asking.wrong == []
    assert asking.broken == []
    assert set(asking.versions) <= {"tiny-0", "tiny-1", "tiny-2"}


def test_beyond_capacity_the_rest_is_served_and_nobody_gets_a_wrong_answer(
    serving_tocsin: ServingTocsin, release: Path, classifier: EventClassifier
) -> None:
    # Much work a request, so that few clients on the same cores are more than it can take.
    texts = [f"{TEXTS[number % len(TEXTS)]} {number}" for number in range(60)]
    expected = classifier.score_batch(texts).predictions(scores=False)

    def ask(first: int) -> int:
        """One request, its texts in another order than every other's."""
        response = client.post("/classify", json={"texts": texts[first:] + texts[:first]})
        if response.status_code == 200:
            answer = [Prediction.model_validate(one) for one in response.json()]
            assert_same_predictions(expected[first:] + expected[:first], answer)
        else:
            assert int(response.headers["Retry-After"]) >= 1
            assert response.headers["Connection"] == "close", "who comes back does so by a fresh one"
        return response.status_code

    with (
        serving_tocsin(release, TOCSIN_MAX_WAIT_MS="100") as url,
        httpx.Client(base_url=url, timeout=300) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        statuses = list(pool.map(ask, range(len(texts))))
    assert set(statuses) == {200, 503}


def test_a_stop_signal_lets_what_was_taken_on_be_answered(serve_tiny: str, tiny_classifier: EventClassifier) -> None:
    supervisor, _ = server_processes(serve_tiny)
    texts = [f"{TEXTS[0]} {number}" for number in range(1000)]
    lines = {"Accept": "application/x-ndjson"}
    with (
        authorised(serve_tiny) as client,
        client.stream("POST", "/classify", json={"texts": texts}, headers=lines) as response,
    ):
        received = response.iter_lines()
        answers = [Prediction.model_validate_json(next(received))]
        supervisor.send_signal(signal.SIGTERM)
        answers += [Prediction.model_validate_json(line) for line in received]
    assert_same_predictions(tiny_classifier.score_batch(texts).predictions(scores=False), answers)
    assert supervisor.wait(30) in (0, None)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{serve_tiny}/readyz")


def test_keys_hold_over_http(serve_tiny: str) -> None:
    assert httpx.post(f"{serve_tiny}/classify", json={"texts": TEXTS}).status_code == 401
    assert httpx.get(f"{serve_tiny}/").status_code == 401
    assert httpx.get(f"{serve_tiny}/healthz").status_code == 200
    with authorised(serve_tiny) as client:
        assert client.post("/classify", json={"texts": TEXTS}).status_code == 200


def test_no_other_origin_is_let_in(live: str) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for response in (httpx.options(f"{live}/classify", headers=asked), httpx.get(f"{live}/model", headers=asked)):
        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_lines_come_back_while_others_are_still_being_sent(live: str, classifier: EventClassifier) -> None:
    host, _, port = live.removeprefix("http://").partition(":")
    head = (
        "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode())
        answers = connection.makefile("rb")
        for text in TEXTS:
            line = json.dumps({"text": text}).encode() + b"\n"
            connection.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            answer = next(line for line in answers if line.startswith(b"{"))
            assert_same_predictions([classifier.classify(text)], [Prediction.model_validate_json(answer)])
        connection.sendall(b"0\r\n\r\n")
        assert b"0\r\n" in iter(answers.readline, b"")


@pytest.mark.parametrize("damage", ["missing", "swapped", "no folder", "name"])
def test_a_release_that_cannot_serve_is_refused_by_name_at_start(
    tiny_release: Path, tmp_path: Path, environment: dict[str, str], free_port: Callable[[], int], damage: str
) -> None:
    folder = other_version(tiny_release, tmp_path / "folder", "第一版" if damage == "name" else "1")
    if damage == "missing":
        (folder / "calibration.json").unlink()
    elif damage == "swapped":
        (folder / "tokenizer.json").write_bytes((tiny_release / "config.json").read_bytes())
    elif damage == "no folder":
        folder.rename(tmp_path / "away")
    command = [sys.executable, "-m", "tocsin.cli.main", "serve", "--port", str(free_port()), "--release", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    told = {
        "missing": "calibration.json",
        "swapped": "tokenizer.json",
        "no folder": str(folder),
        "name": "no name to serve by",
    }
    assert done.returncode != 0
    assert told[damage] in done.stderr
    assert "Traceback" not in done.stderr


def test_the_run_folder_goes_with_its_server(serve_tiny: str) -> None:
    supervisor, workers = server_processes(serve_tiny)
    folders = {worker.environ()["TOCSIN_RUN_FOLDER"] for worker in workers}
    assert len(folders) == 1
    (folder,) = folders
    assert Path(folder).stat().st_mode & 0o077 == 0
    supervisor.terminate()
    supervisor.wait(30)
    assert not os.path.lexists(folder)
