"""TOML files: read in one place, so that a mistake in any of them is told alike."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from tocsin.errors import InputError, TocsinError

# Before Python 3.14 the message alone has the place.
_PLACE = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)


def read_toml(path: Path, what: str, *, error: type[TocsinError] = InputError) -> dict[str, Any]:
    """The tables of a TOML file.

    :param what: the file is to whoever wrote it, such as "the recipe".
    :param error: raised if it is missing, cannot be read or is not TOML; the message has file, line and remedy.
    """
    try:
        # utf-8-sig: some editors on Windows begin a file with a mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as fault:
        raise error(f"{path}: cannot read {what}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise error(f"{path}: {what} is not a TOML file: it is not in UTF-8; save it so") from fault
    except tomllib.TOMLDecodeError as fault:
        raise error(_told(path, what, str(fault))) from fault


def _told(path: Path, what: str, message: str) -> str:
    found = _PLACE.fullmatch(message)
    told = f"{what} is not a TOML file: {found['what'] if found else message}"
    if found is None:
        return f"{path}: {told}"
    if found["line"] is None:
        return f"{path}: {told} at its end; mend what stands last"
    return f"{path}:{found['line']}: {told}, column {found['column']}; mend this line"
