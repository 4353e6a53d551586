"""The service as a real process over HTTP."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support import ROOT, assert_same_predictions

from tocsin import EventClassifier, Prediction

TOCSIN = [sys.executable, "-m", "tocsin.cli.main"]
TEXTS = ["An airstrike hit the market.", "A peaceful protest in the capital.", "Rates were left unchanged."]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


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


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium browser on the PATH")
def test_the_page_shows_events_and_runs_nothing_from_the_text(live: str, classifier: EventClassifier) -> None:
    from playwright.sync_api import sync_playwright

    document = "An airstrike hit <img src=x onerror=document.title='owned'> the market.\n\nRates were left unchanged."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(live)
        page.get_by_label("Article or report").fill(document)
        page.get_by_role("button", name="Find events").click()
        page.wait_for_selector("#sentences li")
        shown = page.locator("#sentences li > p").all_inner_texts()
        tags = page.locator("#sentences .tag:not(.note)").count()
        assert page.title() != "owned"
        assert complaints == []
        browser.close()
    expected = classifier.classify_document(document)
    assert shown == [sentence.text for sentence in expected.sentences]
    assert tags == sum(len(sentence.events) for sentence in expected.sentences)


def test_the_readmes_client_prints_what_the_readme_says(live: str, tmp_path: Path, environment: dict[str, str]) -> None:
    readme = (ROOT / "README.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "SyncHTTPClient" in block)
    (printed,) = re.findall(r"prints `(\[\[.*?)`", readme)
    script = code.replace("http://127.0.0.1:3000", live)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == printed, done.stderr
