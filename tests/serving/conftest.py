"""A classifier to compare with, the service in process, and the service as a real process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from tocsin import EventClassifier
from tocsin.release import default_release_folder


def pytest_configure(config: pytest.Config) -> None:
    """A slow machine's patience, and third parties' warnings that nobody here can mend."""
    # Read when the service is imported. Tests of overload set a limit of their own.
    os.environ.setdefault("TOCSIN_MAX_WAIT_MS", "60000")
    # bentoml 1.4 still uses the old name of a pathspec class.
    config.addinivalue_line("filterwarnings", "ignore:GitWildMatchPattern:DeprecationWarning")
    # ... reads a model's fields from an instance
    config.addinivalue_line("filterwarnings", "ignore:Accessing the 'model_fields' attribute:DeprecationWarning")
    # ... and overrides a pydantic hook that pydantic 2.11 deprecates.
    config.addinivalue_line("filterwarnings", "ignore:The .__get_pydantic_core_schema__:DeprecationWarning")


@pytest.fixture(scope="session")
def release() -> Path:
    """What users get."""
    return default_release_folder()


@pytest.fixture(scope="session")
def classifier(release: Path) -> EventClassifier:
    return EventClassifier.load(release)


@pytest.fixture(scope="session")
def environment(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For processes that serve; BentoML's folder is a fresh one, so that nothing on this machine is touched."""
    home = str(tmp_path_factory.mktemp("bentoml"))
    return {**os.environ, "BENTOML_HOME": home, "TOCSIN_RELEASE": str(release), "TOCSIN_WORKERS": "1"}


@pytest.fixture(scope="session")
def client(environment: dict[str, str]) -> Iterator[TestClient]:
    """The service in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BENTOML_HOME", "TOCSIN_RELEASE", "TOCSIN_WORKERS"):
            patch.setenv(name, environment[name])
        from tocsin_serving.service import Tocsin

        with TestClient(Tocsin.to_asgi()) as client:
            yield client


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives ports of this machine that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


TOCSIN = [sys.executable, "-m", "tocsin.cli.main"]

Serving = Callable[[list[str], int, dict[str, str]], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """Runs a command that serves on a port in an environment; gives the server's address while it lives."""

    @contextmanager
    def serve(command: list[str], port: int, environment: dict[str, str]) -> Iterator[str]:
        folder = tmp_path_factory.mktemp("server")
        url, log = f"http://127.0.0.1:{port}", folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
        try:
            _wait_until_ready(process, url, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=120)

    return serve


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"not ready after {seconds} s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def log_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives what the server at an address has written."""

    def read(url: str) -> str:
        # A link to the newest folder lies among them.
        files = {log.resolve() for log in tmp_path_factory.getbasetemp().glob("server*/log")}
        (found,) = (log for log in (file.read_text() for file in files) if url in log)
        return found

    return read


ServingTocsin = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serving_tocsin(serving: Serving, free_port: Callable[[], int], environment: dict[str, str]) -> ServingTocsin:
    """Runs `tocsin serve` on a release as a user starts it; gives the server's address while it lives."""

    def serve(release: Path, *, workers: int = 1, **variables: str) -> AbstractContextManager[str]:
        port = free_port()
        options = ["--port", str(port), "--workers", str(workers), "--release", str(release)]
        return serving([*TOCSIN, "serve", *options], port, environment | variables)

    return serve


@pytest.fixture(scope="session")
def live(serving_tocsin: ServingTocsin, release: Path) -> Iterator[str]:
    """Address of `tocsin serve` as a user starts it."""
    with serving_tocsin(release) as url:
        yield url
