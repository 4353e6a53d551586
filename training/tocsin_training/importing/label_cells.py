"""Labels as cells hold them: one name, a list in JSON or Python, names with a mark between, Label Studio's choices."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from tocsin_training.importing.tables import as_text

_MARKS = re.compile(r"[;|]")


def names_in(value: Any, separator: str | None = None) -> list[str]:  # noqa: ANN401  a cell of any format
    """The names in a cell, each once.

    :param separator: what stands between several; none: `;` or `|`.
    """
    return list(dict.fromkeys(filter(None, (name.strip() for name in _raw_names(value, separator)))))


def _raw_names(value: Any, separator: str | None) -> list[str]:  # noqa: ANN401
    if isinstance(value, dict) and "choices" in value:
        value = value["choices"]
    if isinstance(value, list | tuple):
        # A path in a tree of choices is a list itself; its end is the label.
        return [as_text(each[-1] if isinstance(each, list) and each else each) for each in value]
    text = as_text(value)
    if text[:1] in ("[", "{") and (parsed := _parsed(text)) is not None:
        return _raw_names(parsed, separator)
    return _MARKS.split(text) if separator is None else text.split(separator)


def _parsed(text: str) -> list[Any] | dict[str, Any] | None:
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) or (isinstance(found, dict) and "choices" in found):
            return found
    return None
