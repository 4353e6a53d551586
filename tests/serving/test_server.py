"""The service as a real process over HTTP."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from support import assert_same_predictions

from tocsin import EventClassifier, Prediction

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
