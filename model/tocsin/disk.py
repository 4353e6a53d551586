"""Where files that can be made again are kept, and what has been written, made to survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$TOCSIN_CACHE, or ``tocsin`` in the user's cache folder; it need not be there yet."""
    if chosen := os.environ.get("TOCSIN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tocsin"


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
