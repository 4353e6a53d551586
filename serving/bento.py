"""Entry point of a built bento, whose sources hold the rooms as the repository does and where nothing is installed.

Also what its container image is made of; `serving/bentofile.yaml` adds the packages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bentoml.images import Image

_SOURCES = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_SOURCES / "model"), str(_SOURCES / "serving")]

from tocsin_serving.service import Tocsin  # noqa: E402  only importable from here on

__all__ = ["Tocsin"]

_PYTHON = "3.12"
# No distribution is named: for those that BentoML knows it adds a compiler and git, which nothing here needs. It gives
# the image an unprivileged user of its own (uid 1034). The versions come from constraints.txt, through UV_CONSTRAINT.
Tocsin.image = Image(base_image=f"python:{_PYTHON}-slim", distro="", python_version=_PYTHON).build_include(
    "constraints.txt"
)
