"""Where releases are kept besides folders: stores that installed extras register, named ``STORE:NAME``.

An entry point of the group ``tocsin.stores`` names a ``ReleaseStore``, so that the library imports no room.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from tocsin.errors import ReleaseError, how_to_install
from tocsin.release import Release


class ReleaseStore(Protocol):
    """A place that keeps releases by name."""

    def folder(self, name: str) -> Path:
        """Folder of a release that is kept.

        :raises ReleaseError: there is none by that name.
        """

    def save(self, release: Release, name: str) -> str:
        """Keep a copy of a release, whole or not at all.

        :return: the name with its version, by which ``folder`` finds it again.
        :raises ReleaseError: the name is taken or is not one the store allows.
        """


def resolve_release(release: str | Path | None) -> str | Path | None:
    """A path as it is; ``STORE:NAME`` as the folder that the store keeps it in.

    :raises ReleaseError: there is no such store, it has no such release, or no path can be such.
    """
    if not isinstance(release, str) or ":" not in release or _exists(release):
        return release
    store, name = find_store(release)
    return store.folder(name)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError as error:
        raise ReleaseError(f"{path}: no path to look up: {error.strerror}. Give a release folder's.") from error


def find_store(address: str) -> tuple[ReleaseStore, str]:
    """The store of ``STORE:NAME`` and the name in it.

    :raises ReleaseError: there is no such store.
    """
    kind, _, name = address.partition(":")
    for entry_point in entry_points(group="tocsin.stores", name=kind):
        store: ReleaseStore = entry_point.load()
        return store, name
    raise ReleaseError(f"{address}: neither a folder nor a known store; for bentoml:NAME {how_to_install('serve')}")
