"""The header by which every answer tells which release gave it."""

from __future__ import annotations

from tocsin import Release, ReleaseError
from tocsin.release import LAYOUT

MODEL_HEADER = "X-Tocsin-Model-Version"


def check_name(release: Release) -> None:
    """See that a release's name can stand in the header, or not one of its answers could be sent.

    :raises ReleaseError: it cannot (RFC 9110, section 5.5: visible ASCII, blanks between).
    """
    name = release.name
    if not (name.isascii() and name.isprintable() and name == name.strip()):
        raise ReleaseError(
            f"{release.folder / LAYOUT.manifest}: {name!r} is no name to serve by: the header {MODEL_HEADER} takes "
            "printable ASCII only, and no blank at either end. Change name and version there, or in the recipe."
        )
