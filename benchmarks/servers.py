"""Starting servers, ours and other people's, and ending them with all that they started.

A figure is of the server that was started here or there is none: the port must be free, whoever answers must be alive,
and nothing is left behind to answer in the next one's place.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tocsin_serving.settings import available_cores

PORT = 3719
_READY_SECONDS = 60.0
_STOP_SECONDS = 10


class ServerError(Exception):
    """A server that cannot be measured; the message is the reason, for the table."""


@contextmanager
def service() -> Iterator[httpx.Client]:
    """The real service, a worker for each core, and a client of it."""
    with server(workers=available_cores()) as (_, client):
        yield client


@contextmanager
def server(*, workers: int) -> Iterator[tuple[psutil.Process, httpx.Client]]:
    """The real service as a process of its own, ready, and a client of it.

    :raises SystemExit: the port is taken, or the service does not start.
    """
    command = [sys.executable, "-m", "tocsin.cli.main", "serve", "--port", str(PORT), "--workers", str(workers)]
    try:
        check_port_is_free()
        with tempfile.TemporaryDirectory() as scratch:
            log = Path(scratch) / "log"
            with (
                running(command, log) as process,
                httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client,
            ):
                wait_until_ready(process, client, log)
                yield process, client
    except ServerError as error:
        raise SystemExit(f"the service cannot be measured: {error}") from error


def check_port_is_free() -> None:
    """Make sure that whoever answers is who is measured.

    :raises ServerError: somebody listens where servers are to be started.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            raise ServerError(f"another program listens on port {PORT}; end it and run this again")


@contextmanager
def running(
    command: Sequence[str], log: Path, *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[psutil.Popen]:
    """A server that is ended, with all that it started, when the block is left, SIGTERM included.

    :param log: the file for what it says.
    :raises OSError: there is no such command.
    """
    # In a group of its own its workers are found when it is gone itself; then a signal to ours does not reach it.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with log.open("wb") as file:
            process = psutil.Popen(
                command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield process
        finally:
            stop(process)
    finally:
        signal.signal(signal.SIGTERM, before)


def wait_until_ready(process: psutil.Popen, client: httpx.Client, log: Path) -> None:
    """Wait for our own service.

    :raises ServerError: it has ended, or takes too long.
    """
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"it ended with status {process.returncode}: {last_line(log)}")
        with suppress(httpx.TransportError):
            if client.get("/readyz").is_success:
                return
        time.sleep(0.3)
    raise ServerError(f"not ready after {_READY_SECONDS:.0f} seconds: {last_line(log)}")


def last_line(log: Path) -> str:
    """What a program said last, in 200 characters at most."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:200] if said else "it said nothing"


def stop(process: psutil.Popen) -> None:
    """End a server of a group of its own and all of its workers, those of one that is itself gone included.

    What they still compute for clients who have gone does not count.
    """
    # The parent first, for it starts workers anew.
    family: list[psutil.Process] = [process]
    with suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)
    family += [member for member in members(process.pid) if member not in family]
    for member in family:
        _signal(member, "terminate")
    _, left = psutil.wait_procs(family, timeout=_STOP_SECONDS)
    # Those too that were started while the others ended.
    left += [member for member in members(process.pid) if member not in left]
    for member in left:
        _signal(member, "kill")
    psutil.wait_procs(left, timeout=_STOP_SECONDS)


def members(group: int) -> list[psutil.Process]:
    """The processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _signal(process: psutil.Process, name: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, name)()
