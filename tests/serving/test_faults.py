"""A real server with two workers, and what can happen to it."""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from support import assert_same_predictions, other_version

from tocsin import EventClassifier, Prediction
from tocsin_serving.keys import VARIABLE, new_key
from tocsin_serving.request_log import CLIENT_GONE

TEXTS = ["An airstrike hit the market.", "A peaceful protest in the capital.", "Rates were left unchanged."]
Serving = Callable[[list[str], int, dict[str, str]], AbstractContextManager[str]]
ServingTocsin = Callable[..., AbstractContextManager[str]]
KEY, STORED = new_key("operator", admin=True)
AUTHORISATION = f"Authorization: Bearer {KEY}\r\n"
WORKERS = 2
CLIENTS = 4
BODY_SECONDS = 4
FEW_OPEN_FILES = 128
# How often the supervisor looks for the dead (service.py), and what a busy machine may add to it.
RESPAWN_SECONDS = 10 + 10


def authorised(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {KEY}"})


def tiny_command(release: Path, port: int) -> list[str]:
    """Two workers."""
    options = ["--port", str(port), "--workers", str(WORKERS), "--release", str(release)]
    return [sys.executable, "-m", "tocsin.cli.main", "serve", *options]


@pytest.fixture
def serve_tiny(serving_tocsin: ServingTocsin, tiny_release: Path) -> Iterator[str]:
    """Two workers on the tiny release, with an admin key."""
    with serving_tocsin(tiny_release, workers=WORKERS, **{VARIABLE: STORED.model_dump_json()}) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lasting` serves; who damages it mends it."""
    return shutil.copytree(tiny_release, tmp_path_factory.mktemp("lasting") / "release")


@pytest.fixture(scope="module")
def lasting(serving: Serving, free_port: Callable[[], int], environment: dict[str, str], folder: Path) -> Iterator[str]:
    """As `serve_tiny`, for tests that leave it serving: in what BentoML takes for a container, with few open files."""
    port = free_port()
    variables = {
        VARIABLE: STORED.model_dump_json(),
        "BENTOML_CONTAINERIZED": "true",
        "TOCSIN_BODY_SECONDS": str(BODY_SECONDS),
    }
    allowed = ["sh", "-c", f'ulimit -S -n {FEW_OPEN_FILES} && exec "$@"', "sh"]
    with serving([*allowed, *tiny_command(folder, port)], port, environment | variables) as url:
        yield url


def server_processes(url: str) -> tuple[psutil.Process, list[psutil.Process]]:
    """The supervisor that listens on a port and its worker processes, the oldest first."""
    port = url.rpartition(":")[2]
    me = psutil.Process()
    (supervisor,) = (child for child in me.children() if port in child.cmdline())
    workers = [child for child in supervisor.children(recursive=True) if is_worker(child)]
    return supervisor, sorted(workers, key=psutil.Process.create_time)


def is_worker(process: psutil.Process) -> bool:
    try:
        return "--worker-id" in process.cmdline()
    except psutil.NoSuchProcess:  # it ended, and the supervisor has not yet noticed
        return False


def workers_started(log: str) -> int:
    return log.count("Completed async startup hook: start")


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class Health:
    """Asks for readiness all the time, by a new connection each time, as probes do."""

    def __init__(self, port: int, *, patience: float = 30) -> None:
        """Not yet asking.

        :param patience: seconds after which a probe that has no answer gives up.
        """
        self._port = port
        self._patience = patience
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.told: list[int | None] = []
        """Statuses; none for no answer."""

    def __enter__(self) -> Health:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._patience)
            try:
                connection.request("GET", "/readyz")
                self.told.append(connection.getresponse().status)
            except (OSError, http.client.HTTPException):
                self.told.append(None)
            finally:
                connection.close()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(url)), timeout=60)


@contextmanager
def open_stream(url: str) -> Iterator[Callable[[str], Prediction]]:
    """A stream that stays open: gives the answer to one more line at a time, and wants a proper end."""
    with connected(url) as connection:
        head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        answers = connection.makefile("rb")

        def ask(text: str) -> Prediction:
            line = json.dumps({"text": text}).encode() + b"\n"
            connection.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            return Prediction.model_validate_json(next(line for line in answers if line.startswith(b"{")))

        yield ask
        connection.sendall(b"0\r\n\r\n")
        assert b"0\r\n" in iter(answers.readline, b"")


class Asking:
    """Clients that ask all the time, each answer checked against the library's."""

    def __init__(self, url: str, classifiers: list[EventClassifier]) -> None:
        self._url = url
        self._expected = {each.version: each.score_batch(TEXTS).predictions(scores=False) for each in classifiers}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
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


def test_a_killed_worker_takes_only_its_own_requests_along_and_another_is_there_within_ten_seconds(
    lasting: str, tiny_classifier: EventClassifier, log_of: Callable[[str], str]
) -> None:
    _, workers = server_processes(lasting)
    assert len(workers) == WORKERS
    victim = workers[0]
    with Asking(lasting, [tiny_classifier]) as asking, Health(port_of(lasting)) as health:
        until(lambda: len(asking.versions) > 20)
        started, killed = workers_started(log_of(lasting)), time.time()
        victim.kill()
        after = len(asking.versions)
        until(lambda: len(asking.versions) > after + 20)
        until(lambda: workers_started(log_of(lasting)) > started, seconds=60)
    (replacement,) = set(server_processes(lasting)[1]) - set(workers)
    assert replacement.create_time() - killed < RESPAWN_SECONDS
    assert asking.wrong == []
    # One request a client at most was on the killed worker.
    assert len(asking.broken) <= CLIENTS
    # So with readiness: it is told by whoever is there.
    assert set(health.told) <= {200, None}
    assert health.told.count(None) <= 1


def test_a_release_damaged_while_it_serves_is_refused_by_name_and_those_who_ask_notice_nothing(
    lasting: str, folder: Path, tiny_classifier: EventClassifier, log_of: Callable[[str], str]
) -> None:
    model, away = folder / "model.onnx", folder.with_name("away")
    whole = model.read_bytes()
    with authorised(lasting) as operator, Asking(lasting, [tiny_classifier]) as asking:
        until(lambda: len(asking.versions) > 10)
        model.write_bytes(whole[:-1] + b"x")
        altered = operator.post("/admin/reload", json={})
        folder.rename(away)
        missing = operator.post("/admin/reload", json={})
        _, workers = server_processes(lasting)
        assert len(workers) == WORKERS
        # The oldest: those that took a dead one's place are to go on alone.
        workers[0].kill()
        until(lambda: "This worker cannot start" in log_of(lasting), seconds=60)
        after = len(asking.versions)
        until(lambda: len(asking.versions) > after + 20)
        started = workers_started(log_of(lasting))
        (away / model.name).write_bytes(whole)
        away.rename(folder)
        until(lambda: workers_started(log_of(lasting)) > started, seconds=60)
        assert operator.post("/admin/reload", json={}).status_code == 200
    for refused, named in ((altered, "model.onnx"), (missing, str(folder))):
        assert refused.status_code == 409
        assert named in refused.json()["error"]
        assert refused.headers["X-Tocsin-Model-Version"] == tiny_classifier.version
    assert asking.wrong == []
    assert len(asking.broken) <= CLIENTS
    told = [line for line in log_of(lasting).splitlines() if "This worker cannot start" in line]
    assert all(str(folder) in line for line in told)
    assert "Traceback" not in log_of(lasting)


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
        Health(port_of(url)) as health,
        httpx.Client(base_url=url, timeout=300) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        statuses = list(pool.map(ask, range(len(texts))))
    assert set(statuses) == {200, 503}
    # Busy is not broken: a server taken out of a balancer would leave its load to the others.
    assert set(health.told) == {200}


def test_readiness_is_told_while_requests_are_taken_and_a_stop_signal_lets_what_was_taken_on_be_answered(
    serving: Serving,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tiny_release: Path,
    tiny_classifier: EventClassifier,
) -> None:
    port = free_port()
    texts = [f"{TEXTS[0]} {number}" for number in range(1000)]
    in_lines = {"Accept": "application/x-ndjson"}
    with (
        Health(port, patience=3) as health,
        serving(tiny_command(tiny_release, port), port, environment) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        until(lambda: 200 in health.told)
        assert client.post("/classify", json={"texts": TEXTS}).status_code == 200
        ready = health.told.index(200)
        assert set(health.told[:ready]) == {None}
        assert set(health.told[ready:]) == {200}
        supervisor, _ = server_processes(url)
        with (
            open_stream(url) as ask,
            client.stream("POST", "/classify", json={"texts": texts}, headers=in_lines) as long,
        ):
            received = long.iter_lines()
            answers = [Prediction.model_validate_json(next(received)), ask(TEXTS[0])]
            supervisor.send_signal(signal.SIGTERM)
            until(lambda: health.told[-1] is None)
            stopping = len(health.told)
            until(lambda: len(health.told) > stopping)
            answers += [ask(TEXTS[1]), *(Prediction.model_validate_json(line) for line in received)]
        assert set(health.told[stopping:]) == {None}
        expected = tiny_classifier.score_batch([texts[0], TEXTS[0], TEXTS[1], *texts[1:]]).predictions(scores=False)
        assert_same_predictions(expected, answers)
        assert supervisor.wait(30) in (0, None)


def test_keys_hold_over_http(lasting: str) -> None:
    assert httpx.post(f"{lasting}/classify", json={"texts": TEXTS}).status_code == 401
    assert httpx.get(f"{lasting}/").status_code == 401
    assert httpx.get(f"{lasting}/healthz").status_code == 200
    with authorised(lasting) as client:
        assert client.post("/classify", json={"texts": TEXTS}).status_code == 200


def test_no_other_origin_is_let_in(live: str) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for response in (httpx.options(f"{live}/classify", headers=asked), httpx.get(f"{live}/model", headers=asked)):
        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_lines_come_back_while_others_are_still_being_sent(live: str, classifier: EventClassifier) -> None:
    with open_stream(live) as ask:
        for text in TEXTS:
            assert_same_predictions([classifier.classify(text)], [ask(text)])


def test_a_client_who_closes_its_half_of_the_connection_is_taken_for_gone(
    lasting: str, log_of: Callable[[str], str]
) -> None:
    body = json.dumps({"texts": [f"{TEXTS[0]} {number}" for number in range(1000)]})
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\n{AUTHORISATION}X-Request-ID: half-closed\r\n"
    with connected(lasting) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    until(lambda: '"half-closed"' in log_of(lasting), seconds=20)
    (line,) = (line for line in log_of(lasting).splitlines() if '"half-closed"' in line)
    assert f'"status": {CLIENT_GONE}' in line


def test_bodies_that_do_not_come_get_408_and_hold_nobody_up(lasting: str) -> None:
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\n{AUTHORISATION}Content-Length: 100\r\n\r\n".encode()
    with ExitStack() as stack, authorised(lasting) as client:
        slow = [stack.enter_context(connected(lasting)) for _ in range(20)]
        for connection in slow:
            connection.sendall(head + b'{"texts"')
        assert client.post("/classify", json={"texts": TEXTS}).status_code == 200
        assert select.select(slow, [], [], 0)[0] == [], "they are still being waited for"
        answers = [connection.makefile("rb").readline() for connection in slow]
    assert {answer.split()[1] for answer in answers} == {b"408"}


def test_more_silent_connections_than_the_usual_open_files_keep_nobody_out(lasting: str) -> None:
    _, workers = server_processes(lasting)
    with ExitStack() as stack:
        for _ in range(FEW_OPEN_FILES * (WORKERS + 1)):
            stack.enter_context(connected(lasting))
        with authorised(lasting) as client:
            assert client.post("/classify", json={"texts": TEXTS}).status_code == 200
        # They are really held, and not waiting to be.
        assert sum(len(worker.net_connections()) for worker in workers) > FEW_OPEN_FILES * WORKERS


def test_a_worker_computes_in_one_thread(live: str) -> None:
    _, (worker,) = server_processes(live)

    def used() -> dict[int, float]:
        """Processor seconds of each thread but the event loop's."""
        return {one.id: one.user_time + one.system_time for one in worker.threads() if one.id != worker.pid}

    def spent() -> list[float]:
        """Those since the beginning, most first."""
        return sorted((seconds - before.get(one, 0) for one, seconds in used().items()), reverse=True)

    before = used()

    with httpx.Client(base_url=live, timeout=60) as client:
        while spent()[0] < 1:
            assert client.post("/classify", json={"texts": TEXTS * 50}).status_code == 200
    # Lengths are counted and metrics are told in others.
    computing, *others = spent()
    assert sum(others) < 0.25 * computing


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
