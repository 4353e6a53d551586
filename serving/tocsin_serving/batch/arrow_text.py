"""Text in Arrow columns, whatever string type holds it and whatever a careless writer stored there."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tocsin_serving.batch.chunks import text_problem

NO_PYTHON_VALUE = (ValueError, OverflowError, KeyError, pa.ArrowException)
"""What `to_pylist` raises of a value that Arrow can hold and Python cannot: a time past the year 9999, a time zone
that is not known, a struct with two fields of one name, text that is no UTF-8."""


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of a type may hold the texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    # A column without a single value has the type null.
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def texts_of(column: pa.Array | pa.ChunkedArray) -> list[str | bytes | None]:
    """Values of a text column; bytes where a careless writer stored no UTF-8."""
    column = pc.cast(column, pa.large_string())
    try:
        values: list[str | bytes | None] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_decoded(value) for value in pc.cast(column, pa.large_binary()).to_pylist()]
    return values


def value_problem(value: str | bytes | None) -> str | None:
    """Why a value of `texts_of` cannot be scored, or none."""
    return "not valid UTF-8" if isinstance(value, bytes) else text_problem(value)


def good_texts(values: Sequence[str | bytes | None], problems: Sequence[str | None]) -> list[str]:
    """The values of `texts_of` that can be scored.

    :param problems: what `value_problem` says of each.
    """
    pairs = zip(values, problems, strict=True)
    return [value for value, problem in pairs if problem is None and isinstance(value, str)]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return value.decode() if value is not None else None
    except UnicodeDecodeError:
        return value
