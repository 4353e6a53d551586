"""Releases kept in BentoML's model store, named ``bentoml:NAME:VERSION`` wherever a release can be given."""

from __future__ import annotations

import os
from pathlib import Path

from tocsin import ReleaseError


def release_folder(tag: str) -> Path:
    """Folder of a release in BentoML's model store.

    :raises ReleaseError: the store has no such model.
    """
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    import bentoml  # takes seconds

    try:
        return Path(bentoml.models.get(tag).path)
    except bentoml.exceptions.NotFound as error:
        raise ReleaseError(f"BentoML's model store has no {tag}; `bentoml models list` tells what it has") from error
