"""The alerts, the dashboard and the page about them, against promtool, a real Prometheus and a server's /metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support import ROOT, other_version

from tocsin import EventClassifier, Release
from tocsin.drift import Profile
from tocsin.release import LAYOUT, read_manifest, write_manifest

Serving = Callable[[list[str], int, dict[str, str]], AbstractContextManager[str]]
RULES = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "tocsin.json"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
PAGE = ROOT / "docs" / "watching.md"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool: apt-get install prometheus")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="needs Prometheus: apt-get install prometheus")
TEXTS = ["An airstrike on a town.", "The minister spoke of a town."]


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([str(PROMTOOL), *map(str, arguments)], cwd=RULES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> list[str]:
    """What the dashboard asks, with Grafana's variables filled in."""
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    filled = {"$__rate_interval": "1m", "$__range": "6h", "$instance": ".*"}
    return [re.sub(r"\$\w+", lambda name: filled[name.group()], query) for query in asked]


def names(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in re.findall(r"\b(?:tocsin|bentoml)_\w+", expression)}


@needs_promtool
def test_the_configuration_and_the_rules_are_prometheus() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", "alerts.yml")


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_has_a_test_and_tells_people_what_it_means() -> None:
    tested = yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}
    page = PAGE.read_text()
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"`{rule['alert']}`" in page


@needs_promtool
def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", path)


def test_the_dashboard_is_whole() -> None:
    content = json.loads(DASHBOARD.read_text())
    assert content["uid"] == "tocsin"
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["targets"]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    source = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert source["type"] == "prometheus"
    assert yaml.safe_load((PROVISIONING / "dashboards" / "tocsin.yml").read_text())["providers"]


@pytest.fixture(scope="module")
def releases(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A release with a profile, and a shadow that gives no label at all."""
    folder = tmp_path_factory.mktemp("releases")
    served, shadow = other_version(tiny_release, folder / "served", "1"), other_version(tiny_release, folder / "x", "2")
    classifier = EventClassifier.load(served)
    Profile.of(classifier.score_batch(TEXTS * 100)).save(served / LAYOUT.profile)
    calibration = Release.open(shadow).calibration
    mute = calibration.model_copy(update={"thresholds": (0.9999,) * len(calibration.thresholds)})
    mute.save(shadow / LAYOUT.calibration)
    for release in (served, shadow):
        write_manifest(release, read_manifest(release))
    return served, shadow


@pytest.fixture(scope="module")
def server(
    serving: Serving, free_port: Callable[[], int], releases: tuple[Path, Path], environment: dict[str, str]
) -> Iterator[str]:
    """A server with a shadow, which has had texts."""
    served, shadow = releases
    port = free_port()
    command = [sys.executable, "-m", "tocsin.cli.main", "serve", "--port", str(port), "--release", str(served)]
    shadowed = environment | {"TOCSIN_SHADOW_RELEASE": str(shadow), "TOCSIN_SHADOW_SHARE": "1"}
    with serving(command, port, shadowed) as url:
        httpx.post(f"{url}/classify", json={"texts": TEXTS * 5}, timeout=60).raise_for_status()
        deadline = time.monotonic() + 60
        while "tocsin_shadow_label" not in httpx.get(f"{url}/metrics").text and time.monotonic() < deadline:
            time.sleep(0.2)
        yield url


def samples(url: str) -> set[str]:
    text = httpx.get(f"{url}/metrics").text
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_every_metric_that_is_asked_for_is_on_the_servers_page(server: str) -> None:
    asked = names([rule["expr"] for rule in alerts()] + queries())
    assert {"tocsin_drift_alarm", "tocsin_events_total", "bentoml_service_request_total"} <= asked
    assert asked - samples(server) == set()


def test_every_metric_of_answers_is_explained(server: str) -> None:
    text = httpx.get(f"{server}/metrics").text
    families = {family.name for family in text_string_to_metric_families(text) if family.name.startswith("tocsin_")}
    explained = set(re.findall(r"`(tocsin_\w+?)(?:_total)?`", PAGE.read_text()))
    assert families - explained == set()


@needs_prometheus
def test_a_real_prometheus_reads_the_server_and_answers_the_dashboard(
    server: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    port = free_port()
    with prometheus(server.removeprefix("http://"), port, tmp_path):
        url = f"http://127.0.0.1:{port}/api/v1"
        assert _eventually(lambda: _values(url, 'up{job="tocsin"}') == [1.0])
        httpx.post(f"{server}/classify", json={"texts": TEXTS}, timeout=60).raise_for_status()
        assert _eventually(lambda: sum(_values(url, "tocsin_texts_total")) >= 12)
        assert _values(url, "tocsin_model_info == 1") == [1.0]
        assert len(_values(url, "tocsin_events_total")) == len(Release.open().taxonomy.names)
        for query in queries():
            _values(url, query)
        rules = httpx.get(f"{url}/rules").json()["data"]["groups"]
        assert all(rule["health"] in ("ok", "unknown") for group in rules for rule in group["rules"])


def prometheus(target: str, port: int, folder: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Prometheus with the shipped configuration, but for the server's address and a shorter interval."""
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES / "alerts.yml", folder)
    command = [
        str(PROMETHEUS),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    return _Ended(command)


class _Ended(subprocess.Popen[bytes]):
    """A process that ends with its block."""

    def __exit__(self, *reason: object) -> None:
        self.terminate()
        self.wait(timeout=60)


def _values(url: str, query: str) -> list[float]:
    answer = httpx.get(f"{url}/query", params={"query": query}, timeout=30).json()
    assert answer["status"] == "success", (query, answer)
    return [float(row["value"][1]) for row in answer["data"]["result"]]


def _eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    return False
