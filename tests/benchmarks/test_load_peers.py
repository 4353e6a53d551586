"""The comparison under load, with servers made on the spot in place of the real ones, which are gigabytes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import load
import load_peers
import peer_servers
import peers
import pytest
import servers
from load import Checked, Outcome
from load_peers import Measured, NotMeasured, Plan, measure_peer, overload_line, rows
from peer_servers import PLAIN_APP, SERVERS, PeerServer, why_it_ended
from peers import Environment
from servers import ServerError, check_port_is_free

_TEXTS = (
    "Warplanes struck the market in the town centre on Tuesday, killing nine people.",
    "Thousands marched peacefully through the capital on Friday to demand elections.",
    "The national team won its second match of the tournament by two goals to one.",
    "Gunmen kidnapped three aid workers near the border on Sunday.",
)
_PLAN = Plan(seconds=0.1, overload_seconds=0.1, patience=20)

# Answers from the file beside it as transformers' pipeline would, and says what uvicorn says once it listens.
_APP = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["texts"]
        body = json.dumps([FIRST[text] for text in texts]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer.request_queue_size = 100
server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
print("Application startup complete.", flush=True)
server.serve_forever()
"""
_A_WORKER_DIES = (
    "self.wfile.write(body)",
    "self.wfile.write(body); print('MemoryError: no more\\nINFO: Child process [7] died\\n', end='', flush=True)",
)
_ANY_BODY = ("json.dumps([FIRST[text] for text in texts]).encode()", "b'<html>'")


@pytest.fixture(scope="module")
def checked() -> Checked:
    return Checked(_TEXTS)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, for clients and servers alike."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    monkeypatch.setattr(load, "PORT", free)
    monkeypatch.setattr(peer_servers, "PORT", free)
    monkeypatch.setattr(servers, "PORT", free)
    return free


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """One that counts as installed."""
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / ".installed").write_text("nothing", encoding="utf-8")
    return Environment("made", ("nothing",))


@pytest.fixture
def few_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_peers, "LOADS", ((1, 1), (2, 4)))
    monkeypatch.setattr(load_peers, "OVERLOAD", (4, 4))


def server(environment: Environment, app: str) -> PeerServer:
    return PeerServer(
        name="a server",
        environment=environment,
        command=lambda python, model: [sys.executable, "app.py"],
        question=lambda texts: {"texts": list(texts)},
        scored=lambda answer: list(answer),
        app=app,
    )


def app(port: int, first: dict[str, list[dict[str, Any]]]) -> str:
    return f"PORT = {port}\nFIRST = {json.dumps(first)}\n{_APP}"


def as_the_pipeline(label: str | None) -> list[dict[str, Any]]:
    """The named label holds; none of them does for none."""
    return [{"label": "some_other", "score": 0.4}, {"label": label or "looting", "score": 0.9 if label else 0.1}]


@pytest.mark.usefixtures("few_loads")
def test_a_server_of_the_same_model_is_measured_under_every_load_and_ended(
    checked: Checked, environment: Environment, port: int, tmp_path: Path
) -> None:
    alike = app(port, {text: as_the_pipeline(checked.first(text)) for text in _TEXTS})
    found = measure_peer(server(environment, alike), tmp_path, checked, _PLAN)
    assert isinstance(found, Measured), found
    assert set(found.outcomes) == {(1, 1), (2, 4), (4, 4)}
    assert [outcome.others for outcome in found.outcomes.values()] == [Counter()] * 3
    assert all(outcome.texts for outcome in found.outcomes.values())
    assert "is ours for 100.0%" in found.agreement
    check_port_is_free()


@pytest.mark.usefixtures("few_loads")
def test_a_server_of_another_model_is_not_measured(
    checked: Checked, environment: Environment, port: int, tmp_path: Path
) -> None:
    other = app(port, {text: as_the_pipeline("some_label") for text in _TEXTS})
    found = measure_peer(server(environment, other), tmp_path, checked, _PLAN)
    assert isinstance(found, NotMeasured)
    assert "not the same model" in found.why
    check_port_is_free()


@pytest.mark.usefixtures("few_loads")
def test_a_server_that_answers_in_another_shape_is_not_measured(
    checked: Checked, environment: Environment, port: int, tmp_path: Path
) -> None:
    strange = app(port, {text: [{"name": "x"}] for text in _TEXTS})
    found = measure_peer(server(environment, strange), tmp_path, checked, _PLAN)
    assert isinstance(found, NotMeasured)
    assert "cannot be read" in found.why


@pytest.mark.usefixtures("few_loads")
def test_a_server_whose_answer_is_no_json_is_not_measured(
    checked: Checked, environment: Environment, port: int, tmp_path: Path
) -> None:
    found = measure_peer(server(environment, app(port, {}).replace(*_ANY_BODY)), tmp_path, checked, _PLAN)
    assert isinstance(found, NotMeasured)
    assert "JSONDecodeError" in found.why


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no more files"), KeyError("x")])
def test_nothing_that_befalls_a_peer_ends_the_run(
    error: BaseException, checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(peer: PeerServer, model: Path) -> None:
        raise error

    monkeypatch.setattr(PeerServer, "running", fails)
    found = measure_peer(SERVERS[0], tmp_path, checked, _PLAN)
    assert isinstance(found, NotMeasured)
    assert found.why


@pytest.mark.usefixtures("port")
def test_a_server_that_does_not_start_is_named_with_its_reason(
    checked: Checked, environment: Environment, tmp_path: Path
) -> None:
    broken = server(environment, "raise RuntimeError('no weights here')")
    found = measure_peer(broken, tmp_path, checked, _PLAN)
    assert found == NotMeasured("a server", "does not start: RuntimeError: no weights here")


@pytest.mark.usefixtures("port")
def test_a_server_that_cannot_be_installed_is_named_with_what_pip_said(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], seconds: float, stdin: str = "") -> str:
        raise subprocess.CalledProcessError(1, command, stderr="Looking up\nERROR: No matching distribution found\n")

    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(peers, "output", fails)
    found = measure_peer(server(Environment("none", ("nothing",)), ""), tmp_path, checked, _PLAN)
    assert found == NotMeasured("a server", "cannot be installed: ERROR: No matching distribution found")


@pytest.mark.usefixtures("few_loads")
def test_a_server_that_loses_a_worker_while_it_is_measured_is_not_measured(
    checked: Checked, environment: Environment, port: int, tmp_path: Path
) -> None:
    alike = app(port, {text: as_the_pipeline(checked.first(text)) for text in _TEXTS})
    dying = alike.replace(*_A_WORKER_DIES)
    found = measure_peer(server(environment, dying), tmp_path, checked, _PLAN)
    assert found == NotMeasured("a server", "a worker died while it was measured: MemoryError: no more")


def test_a_cold_worker_has_longer_than_it_takes_to_import_torch() -> None:
    command = list(SERVERS[0].command(Path("python"), Path("model")))
    assert int(str(command[command.index("--timeout-worker-healthcheck") + 1])) >= 60


def test_whoever_else_listens_on_the_port_is_not_taken_for_a_peer(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ServerError, match=f"listens on port {port}"):
        check_port_is_free()


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("INFO: up\nTraceback:\n  ...\nOSError: no such model\nINFO: Exiting.\n", "OSError: no such model"),
        ("INFO: up\n\nKilled\n\n", "Killed"),
        ("", "it ended without a word"),
    ],
)
def test_the_reason_is_the_error_that_the_log_names(log: str, why: str) -> None:
    assert why_it_ended(log) == why


def test_each_peer_is_read_in_its_own_words() -> None:
    plain, infinity = SERVERS
    answer = [[{"label": "attack", "score": 0.2}, {"label": "grenade", "score": 0.7}], [{"label": "a", "score": 0.4}]]
    assert plain.first(answer) == ["grenade", None]
    assert infinity.first({"data": answer}) == ["grenade", None]
    with pytest.raises(ServerError, match="cannot be read"):
        infinity.first(answer)


def test_the_plain_application_is_python() -> None:
    compile(PLAIN_APP, "app.py", "exec")


def outcome(seconds: list[float], *, size: int, refused: int = 0, others: dict[str, int] | None = None) -> Outcome:
    return Outcome(seconds, [0.5] * refused, Counter(others or {}), len(seconds) * size, seconds=2.0)


def measured(name: str, each: Outcome) -> Measured:
    return Measured(name, dict.fromkeys((*load.LOADS, load_peers.OVERLOAD), each), "agrees")


def test_ratios_are_ours_to_theirs() -> None:
    ours, theirs = measured("ours", outcome([0.1] * 20, size=1)), measured("theirs", outcome([0.4] * 5, size=1))
    found = rows(ours, [theirs])
    assert len(found) == 2 * len(load.LOADS)
    assert found[0] == ("1 client, 1 text a request", "ours", "10.0 / 10", "100 / 100 ms", "", "", "none")
    assert found[1] == ("1 client, 1 text a request", "theirs", "2.5 / 2", "400 / 400 ms", "4.0x", "0.25x", "none")


def test_a_server_that_answered_nothing_under_a_load_has_no_ratio_there() -> None:
    ours, theirs = measured("ours", outcome([0.1] * 20, size=1)), measured("theirs", outcome([], size=1))
    assert rows(ours, [theirs])[1][2:6] == ("0.0 / 0", "-", "-", "-")


def test_what_is_not_measured_has_a_row_with_the_reason() -> None:
    found = rows(measured("ours", outcome([0.1] * 2, size=1)), [NotMeasured("theirs", "does not start: why")])
    assert found[-1][:3] == ("any", "theirs", "not measured: does not start: why")
    assert len({len(row) for row in found}) == 1


def test_the_line_about_overload_counts_every_request() -> None:
    each = outcome([1.0] * 3, size=64, refused=4, others={"ReadTimeout": 2, "500": 1})
    line = overload_line(measured("theirs", each), _PLAN)
    assert "of 10 requests it answered 3" in line
    assert "told 4 when to ask again" in line
    assert "2 x none within 20 s, 1 x 500" in line
