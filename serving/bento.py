"""Entry point of a built bento, whose sources hold the rooms as the repository does and where nothing is installed."""

from __future__ import annotations

import sys
from pathlib import Path

_SOURCES = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_SOURCES / "model"), str(_SOURCES / "serving")]

from tocsin_serving.service import Tocsin  # noqa: E402  only importable from here on

__all__ = ["Tocsin"]
