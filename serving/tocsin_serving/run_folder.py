"""The folder that the worker processes of one server share: rate counts, metrics and the release to serve.

Whoever imports the service first, the supervisor, makes it; workers inherit its name through the environment. A server
has its own, so that two on one machine never mix.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

RUN_FOLDER_VARIABLE = "TOCSIN_RUN_FOLDER"


def run_folder() -> Path:
    """This server's folder, readable by its user alone; made on the first call, removed when its maker ends."""
    given = os.environ.get(RUN_FOLDER_VARIABLE)
    if given:
        return Path(given)
    folder = tempfile.mkdtemp(prefix="tocsin-")
    os.environ[RUN_FOLDER_VARIABLE] = folder
    atexit.register(_remove, folder, os.getpid())
    return Path(folder)


def _remove(folder: str, maker: int) -> None:
    # A forked child runs the same exit handlers.
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)
