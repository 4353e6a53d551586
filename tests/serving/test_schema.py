"""The served OpenAPI document and the service say the same, whatever is sent, with a fixed seed for CI to repeat."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    ("POST", "/classify"),
    ("POST", "/classify_document"),
    ("POST", "/admin/reload"),
    ("GET", "/taxonomy"),
    ("GET", "/model"),
    ("GET", "/profile"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
]
CLIENT_GENERATOR = shutil.which("openapi-python-client")


@pytest.fixture(scope="module")
def document(live: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{live}/docs.json").json()
    return answer


def test_every_documented_operation_is_tried(document: dict[str, Any]) -> None:
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert documented == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_whatever_is_sent_is_answered_as_documented(
    live: str, document: dict[str, Any], method: str, path: str
) -> None:
    operation = schemathesis.openapi.from_dict(document)[path][method]
    right = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

    @seed(20260101)
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(right, wrong) if method == "POST" else right)
    def try_one(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=live)
        case.validate_response(response, checks=CHECKS)

    try_one()


@pytest.mark.skipif(CLIENT_GENERATOR is None, reason="needs openapi-python-client on the PATH, as `make test` has it")
def test_a_generated_client_classifies(live: str, document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    command = [str(CLIENT_GENERATOR), "generate", "--path", "openapi.json", "--meta", "none", "--output-path", "made"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout
    script = f"""
from made import Client
from made.api.tocsin import classify
from made.models import ClassifyRequest
answer = classify.sync(client=Client("{live}"), body=ClassifyRequest(texts=["An airstrike hit the market."]))
print(answer[0].events[0].label)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.strip() == "air_drone_strike", ran.stderr
