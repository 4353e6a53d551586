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
# Two figures are a year behind points and strokes only: 24-08-05 may begin with it.
_NUMERIC = re.compile(r"(\d{1,2})(?:[/.-](\d{1,2})[/.-](\d{4})|[/.](\d{1,2})[/.](\d{2}))")
_TIME = re.compile(r"[T ]\d{1,2}:\d{2}.*$")
_WEEKDAY = re.compile(r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\.?,?\s+", re.I)
_ORDINAL = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)\b(?: of\b)?", re.I)
_MONTH_CUT = re.compile(r"\b([A-Z][a-z]{2})(?:t?\.|t\b)", re.I)
"""Aug., Sep., Sept. and Sept; Oct and August are left as they are."""
_CENTURY = 1900, 2000
_PIVOT = 69
"""Two figures from here upwards are years of the last century, as in POSIX."""
# Days since 30 December 1899, as Excel counts them: 1954 to 2064.
_EXCEL = re.compile(r"[2-5]\d{4}(?:\.0)?")
_EXCEL_ZERO = date(1899, 12, 30)
_FIGURES = len("20240825")


@lru_cache(maxsize=100_000)
def parse_date(text: str, order: Order | None = None) -> str | None:
    """The day as YYYY-MM-DD; none where it is no date, or may be two.

    :param order: how 05/08/2024 is meant; 25/08/2024 is read by itself.
    """
    text = _plain(text)
    if numbers := _numbers(text):
        return _numeric(*numbers, order)
    if _EXCEL.fullmatch(text):
        return (_EXCEL_ZERO + timedelta(days=int(float(text)))).isoformat()
    # %m and %d take one figure as well, so that 202411, a month, would be a day in January.
    if text.isdigit() and len(text) != _FIGURES:
        return None
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    return None


def _plain(text: str) -> str:
    """A date without the time, the weekday and what people put behind a day or a shortened month."""
    text = _WEEKDAY.sub("", _TIME.sub("", text.strip()))
    return _MONTH_CUT.sub(r"\1", _ORDINAL.sub(r"\1", text))


def _numbers(text: str) -> tuple[int, int, int] | None:
    """First, second and year of a date that is three numbers with the year last."""
    match = _NUMERIC.fullmatch(text)
    if match is None:
        return None
    first, second, year = (int(part) for part in match.groups() if part is not None)
    return first, second, year if match[3] else year + _CENTURY[year < _PIVOT]


def _numeric(first: int, second: int, year: int, order: Order | None) -> str | None:
    if proved := _proved(first, second):
        order = proved
    elif first == second:
        order = "day-first"
    if order is None:
        return None
    day, month = (first, second) if order == "day-first" else (second, first)
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def _proved(first: int, second: int) -> Order | None:
    """The order that a date tells by itself: there are twelve months."""
    return "day-first" if first > 12 else "month-first" if second > 12 else None


def order_of(dates: Iterable[str]) -> set[Order]:
    """Which orders the dates of a file prove: 25/08/2024 is day first. None, one or, where they contradict, both."""
    proved: set[Order] = set()
    for text in dates:
        if numbers := _numbers(_plain(text)):
            first, second, _ = numbers
            if order := _proved(first, second):
                proved.add(order)
    return proved


def may_be_two(text: str) -> bool:
    """Whether a date alone does not tell which of its numbers is the day."""
    numbers = _numbers(_plain(text))
    return numbers is not None and _proved(*numbers[:2]) is None


def is_numeric(text: str) -> bool:
    """Whether a date is three numbers with the year last, the only kind whose order must be known."""
    return _numbers(_plain(text)) is not None
