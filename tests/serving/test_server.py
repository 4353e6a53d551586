"""The service as a real process over HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from support import assert_same_predictions

from tocsin import EventClassifier, Prediction
from tocsin_serving import keys

Serving = Callable[[list[str], int, dict[str, str]], AbstractContextManager[str]]
TOCSIN = [sys.executable, "-m", "tocsin.cli.main"]
TEXTS = ["An airstrike hit the market.", "A peaceful protest in the capital.", "Rates were left unchanged."]


def test_a_served_answer_is_the_librarys(live: str, classifier: EventClassifier) -> None:
    def ask(count: int) -> None:
        texts = [f"{text} {count}" for text in TEXTS]
        response = httpx.post(f"{live}/classify", json={"texts": texts, "scores": True}, timeout=60)
        assert response.status_code == 200
        answer = [Prediction.model_validate(one) for one in response.json()]
        assert_same_predictions(classifier.classify_batch(texts), answer)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(16)))


def test_bad_input_leaves_the_server_serving(live: str) -> None:
    for body in (b"{", b'{"texts": [""]}', b'{"texts": ["' + b"a" * 5_000_000 + b'"]}'):
        assert 400 <= httpx.post(f"{live}/classify", content=body).status_code < 500
    assert httpx.post(f"{live}/classify", json={"texts": ["one"]}).status_code == 200


def test_metrics_count_requests(live: str) -> None:
    httpx.post(f"{live}/classify", json={"texts": ["one"]})
    assert 'endpoint="/classify",http_response_code="200"' in httpx.get(f"{live}/metrics").text


def test_each_request_has_one_line_in_the_log_and_cannot_make_more(live: str, log_of: Callable[[str], str]) -> None:
    httpx.get(f"{live}/x%0A[INFO] forged")
    told = [line for line in log_of(live).splitlines() if "forged" in line]
    assert len(told) == 1
    # BentoML puts the time before it, and the trace behind.
    line, _ = json.JSONDecoder().raw_decode(told[0], told[0].index("{"))
    assert (line["status"], line["client"]) == (404, "127.0.0.1")


def test_a_service_that_is_open_to_others_says_so_once_whatever_started_it(
    live: str,
    serving: Serving,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tiny_release: Path,
    log_of: Callable[[str], str],
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "tocsin_serving.service:Tocsin", "--host", "127.0.0.1"]
    two_workers = environment | {"TOCSIN_WORKERS": "2", "TOCSIN_RELEASE": str(tiny_release)}
    # BentoML does not tell its workers where they listen, and its default is everywhere.
    with serving([*command, "--port", str(port)], port, two_workers) as url:
        assert log_of(url).count("No API keys are set") == 1
    assert "No API keys are set" not in log_of(live)


@pytest.mark.parametrize("variable", [keys.VARIABLE, keys.FILE_VARIABLE])
def test_an_empty_variable_of_keys_stops_the_start(
    environment: dict[str, str], free_port: Callable[[], int], tiny_release: Path, variable: str
) -> None:
    command = [*TOCSIN, "serve", "--port", str(free_port()), "--release", str(tiny_release)]
    done = subprocess.run(command, env=environment | {variable: ""}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_a_busy_port_is_one_plain_message(live: str, environment: dict[str, str]) -> None:
    port = live.rpartition(":")[2]
    done = subprocess.run([*TOCSIN, "serve", "--port", port], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_broken_release_is_refused_before_serving(
    tiny_release: Path, tmp_path: Path, environment: dict[str, str], free_port: Callable[[], int]
) -> None:
    broken = shutil.copytree(tiny_release, tmp_path / "broken")
    with (broken / "model.onnx").open("ab") as model:
        model.write(b"x")
    command = [*TOCSIN, "serve", "--port", str(free_port()), "--release", str(broken)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "model.onnx" in done.stderr
    assert "Traceback" not in done.stderr
