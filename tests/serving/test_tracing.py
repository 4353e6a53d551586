"""Traces by BentoML's own switch, as docs/watching.md writes it, into a collector that this test is."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from support import ROOT

collector_messages = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="needs tocsin[trace]"
)

Serving = Callable[[list[str], int, dict[str, str]], AbstractContextManager[str]]


class Collector(HTTPServer):
    """Keeps the spans that are sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.arrived = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector: Collector = self.server  # type: ignore[assignment]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            collector.bodies.append(body)
            if b"/classify" in body:
                collector.arrived.set()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def documented_configuration() -> str:
    (found,) = re.findall(
        r"```yaml\n(services:\n  tracing:.*?)```", (ROOT / "docs" / "watching.md").read_text(), re.DOTALL
    )
    return str(found)


def test_requests_become_spans_and_texts_do_not(
    serving: Serving, free_port: Callable[[], int], tiny_release: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    collector = Collector()
    config = yaml.safe_load(documented_configuration())
    exporter = config["services"]["tracing"]["otlp"]
    assert exporter["endpoint"].endswith("/v1/traces")
    exporter["endpoint"] = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    path = tmp_path / "bentoml.yml"
    path.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [sys.executable, "-m", "tocsin.cli.main", "serve", "--port", str(port), "--release", str(tiny_release)]
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with serving(command, port, environment | {"BENTOML_CONFIG": str(path)}) as url:
        httpx.post(
            f"{url}/classify",
            json={"texts": ["hiddensource told of an airstrike."]},
            headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
            timeout=60,
        ).raise_for_status()
        assert collector.arrived.wait(60)
    spans = [
        span
        for body in collector.bodies
        for resource in collector_messages.ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    asked = [span for span in spans if span.trace_id.hex() == trace]
    assert any("/classify" in span.name for span in asked)
    assert not any("/metrics" in span.name or "readyz" in span.name for span in spans)
    assert not any(b"hiddensource" in body for body in collector.bodies)
    collector.shutdown()
    collector.server_close()
