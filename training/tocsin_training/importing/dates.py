"""Dates as people write them, as ISO 8601 days."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Literal

Order = Literal["day-first", "month-first"]

# Of which there is one reading only.
_FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d %B %Y", "%d %b %Y", "%d-%b-%Y", "%d-%B-%Y", "%d-%b-%y", "%d/%b/%Y", "%d. %B %Y"),
    *("%B %d, %Y", "%b %d, %Y", "%B %d %Y", "%b %d %Y"),
)
_NUMERIC = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})")
_TIME = re.compile(r"[T ]\d{1,2}:\d{2}.*$")
# Days since 30 December 1899, as Excel counts them: 1954 to 2064.
_EXCEL = re.compile(r"[2-5]\d{4}(?:\.0)?")
_EXCEL_ZERO = date(1899, 12, 30)


@lru_cache(maxsize=100_000)
def parse_date(text: str, order: Order | None = None) -> str | None:
    """The day as YYYY-MM-DD; none where it is no date, or may be two.

    :param order: how 05/08/2024 is meant.
    """
    text = _TIME.sub("", text.strip())
    if match := _NUMERIC.fullmatch(text):
        first, second, year = map(int, match.groups())
        return _numeric(first, second, year, order)
    if _EXCEL.fullmatch(text):
        return (_EXCEL_ZERO + timedelta(days=int(float(text)))).isoformat()
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    return None


def _numeric(first: int, second: int, year: int, order: Order | None) -> str | None:
    if order is None:
        order = "day-first" if first > 12 or first == second else "month-first" if second > 12 else None
    if order is None:
        return None
    day, month = (first, second) if order == "day-first" else (second, first)
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def order_of(dates: Iterable[str]) -> set[Order]:
    """Which orders the dates of a file prove: 25/08/2024 is day first. None, one or, where they contradict, both."""
    proved: set[Order] = set()
    for text in dates:
        if match := _NUMERIC.fullmatch(_TIME.sub("", text.strip())):
            if int(match[1]) > 12:
                proved.add("day-first")
            elif int(match[2]) > 12:
                proved.add("month-first")
    return proved


def is_numeric(text: str) -> bool:
    """Whether a date is three numbers with the year last, the only kind whose order must be known."""
    return _NUMERIC.fullmatch(_TIME.sub("", text.strip())) is not None
