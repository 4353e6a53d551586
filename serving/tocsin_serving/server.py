"""Starting the service so that what can go wrong is said before the first worker starts."""

from __future__ import annotations

import os
import socket

from tocsin import EventClassifier, TocsinError, UsageError
from tocsin.cli.console import err
from tocsin_serving.drift import References
from tocsin_serving.keys import ADDRESS_VARIABLE, Keyring
from tocsin_serving.model_header import check_name
from tocsin_serving.settings import PREFIX, RELEASE_VARIABLE, Settings
from tocsin_serving.shadow import ShadowSettings


def run(*, host: str, port: int, workers: int | None, release: str | None) -> None:
    """Serve until stopped.

    :raises UsageError: the host is unknown, a TOCSIN_ variable is wrong, or a file that one names.
    :raises ReleaseError: the release is incomplete or altered, or its name cannot be told.
    :raises TocsinError: the port is taken.
    """
    address = resolve(host)
    check_port_is_free(address, port)
    classifier = EventClassifier.load(release)
    check_name(classifier.release)
    os.environ[RELEASE_VARIABLE] = str(classifier.release.folder.resolve())
    if workers is not None:
        os.environ[f"{PREFIX}WORKERS"] = str(workers)
    # Fails here by name rather than in every worker.
    count = Settings.from_environment().worker_processes
    shadow = ShadowSettings.from_environment()
    if shadow is not None:
        beside = EventClassifier.load(shadow.release).version
        err.print(f"{beside} reads {shadow.share:.0%} of the texts of /classify beside it; /metrics compares them.")
    problem = References.from_environment().problem(classifier.release)
    if problem:
        err.print(f"/metrics will tell no drift: {problem} (docs/watching.md).", markup=False)
    Keyring.from_environment()
    os.environ[ADDRESS_VARIABLE] = address

    from tocsin_serving.service import Tocsin  # bentoml takes seconds to import and reads the environment when it is

    shown = f"[{address}]" if ":" in address else address
    err.print(f"Serving {classifier.version} on http://{shown}:{port}, worker processes: {count}. Ctrl-C stops it.")
    Tocsin.serve_http(host=address, port=port)


def resolve(host: str) -> str:
    """A host name's IP address: BentoML takes addresses only."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise UsageError(f"--host {host}: not an address of this machine ({error.strerror or error})") from error


def check_port_is_free(address: str, port: int) -> None:
    """Try the port, for BentoML would restart failing workers for ever.

    :raises TocsinError: it is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            raise TocsinError(
                f"Cannot listen on {address}:{port}: {error.strerror}. Choose another with --port."
            ) from error
