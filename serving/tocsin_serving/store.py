"""Releases kept in BentoML's model store, named ``bentoml:NAME:VERSION`` wherever a release can be given."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import ModuleType

from tocsin import Release, ReleaseError


class BentoStore:
    """BentoML's model store, in $BENTOML_HOME."""

    def folder(self, name: str) -> Path:
        """Folder of a release in the store.

        :raises ReleaseError: the store has no such model, cannot be read, or allows no such name.
        """
        bentoml = _bentoml()
        try:
            return Path(bentoml.models.get(name).path)
        except bentoml.exceptions.NotFound as error:
            raise ReleaseError(
                f"BentoML's model store has no {name}; `bentoml models list` tells what it has"
            ) from error
        except (bentoml.exceptions.BentoMLException, ValueError, OSError) as error:
            raise ReleaseError(f"bentoml:{name}: {error}") from error

    def save(self, release: Release, name: str) -> str:
        """Copy a release into the store as NAME:VERSION; BentoML makes a version up where none is given.

        :raises ReleaseError: the store has this version already, or the name is not one it allows.
        """
        bentoml = _bentoml()
        labels = {"release": release.manifest.name, "version": release.manifest.version}
        try:
            with bentoml.models.create(name, labels=labels) as model:
                for file in release.files:
                    shutil.copyfile(release.folder / file, Path(model.path) / file)
            return str(model.tag)
        except (bentoml.exceptions.BentoMLException, ValueError) as error:
            raise ReleaseError(f"bentoml:{name}: {error}") from error


def _bentoml() -> ModuleType:
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    import bentoml  # takes seconds

    module: ModuleType = bentoml
    return module


STORE = BentoStore()
