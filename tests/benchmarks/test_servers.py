"""Servers of a few lines: all that is started is ended, and only what was started is measured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
import servers
from servers import ServerError, members, running, server, stop, wait_until_ready

# Starts a worker that heeds no SIGTERM, and says so.
_PARENT = """
import subprocess, sys, time
worker = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", worker])
{then}
"""
_WAITS = "time.sleep(60)"
_DIES = "time.sleep(0.5); sys.exit(3)"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_STOP_SECONDS", 1)


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("then", [_WAITS, _DIES])
def test_a_server_leaves_no_worker_behind_even_where_it_died_before_them(then: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running([sys.executable, "-c", _PARENT.format(then=then)], log) as process:
        until(lambda: "up" in log.read_text())
        if then == _DIES:
            process.wait(20)
        left = members(process.pid)
        assert left
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in left)


def test_a_server_is_ended_where_the_benchmark_is_told_to_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), running([sys.executable, "-c", _WAITS_ALONE], tmp_path / "log") as process:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    assert process.poll() is not None


_WAITS_ALONE = f"import time; {_WAITS}"


def test_ending_what_has_ended_is_no_error() -> None:
    process = psutil.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    stop(process)


def test_a_service_that_has_ended_is_not_waited_for_and_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("starting\nno such release\n\n")
    process = psutil.Popen([sys.executable, "-c", "raise SystemExit(2)"], stderr=subprocess.DEVNULL)
    process.wait()
    with httpx.Client(base_url="http://127.0.0.1:9") as client, pytest.raises(ServerError, match="2: no such release"):
        wait_until_ready(process, client, log)


def test_whoever_listens_already_is_not_measured_in_the_service_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(servers, "PORT", other.getsockname()[1])
        with pytest.raises(SystemExit, match="another program listens"), server(workers=1):
            pass
