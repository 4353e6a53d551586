"""Texts as people paste them, made plain: markup off, characters in order, formula openings off where wanted."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser

from tocsin.text import replace_lone_surrogates

_BLOCKS = "address article aside blockquote br caption div dd dl dt figure footer h1 h2 h3 h4 h5 h6 header hr li main"
_BLOCKS += " nav ol p section table tbody td tfoot th thead tr ul"
_INLINE = "a abbr b big body center cite code em font head html i img ins del kbd label link mark meta q s script small"
_INLINE += " span strike strong style sub sup title tt u"
_BREAKING = frozenset(_BLOCKS.split())
_TAGS = _BREAKING | frozenset(_INLINE.split())
_AMPERSAND = "\ue000"
_UNREAD = frozenset({"script", "style", "head"})
_TAG = re.compile(r"</?(?:" + "|".join(sorted(_TAGS, key=len, reverse=True)) + r")\b[^<>]*>|<!--", re.I)
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_ESCAPED = re.compile(r"&(?:lt|#60|#x3c);", re.I)
# Control and format characters, joiners excepted: Persian, Hindi and other scripts need those.
_DEBRIS = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)

_MONTH = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
_MONTH += r"|Nov(?:ember)?|Dec(?:ember)?)"
_TO = r"\s*(?:-|–|and|to|until)\s*"
# A number alone is no day but one of people or things, save as the first of two.
_DAYS = rf"\d{{1,2}}(?:st|nd|rd|th)?(?:{_TO}\d{{1,2}}(?:st|nd|rd|th)?)?"
_YEAR = r"(?:,?\s+(?:19|20)\d{2})?"
_DATE = r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?\s+)?(?:the\s+)?(?:"
_DATE += rf"(?:{_DAYS}\s+(?:of\s+)?)?{_MONTH}{_YEAR}|{_MONTH}\s+{_DAYS}{_YEAR}"
_DATE += r"|\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)\d{2}|(?:19|20)\d{2}-\d{2}-\d{2})"
_OPENING = re.compile(
    # "Looting:" and the like, which ACLED sets before some.
    r"(?:[^\W\d_]+(?:[ /-][^\W\d_]+){0,4}:\s+)?"
    r"(?:As reported on|On|Around|Circa|By|Between|From|During|In)\s+"
    r"(?:the (?:night|evening|morning|afternoon|week) of\s+)?"
    rf"{_DATE}(?:{_TO}{_DATE})?(?:\s*\([^()]{{1,60}}\))?"
    # "On 5 August 2024 in Damboa, ...": the place stays.
    r"(?:\s*,\s*|(?<=\d)\s+(?=(?:in|at|near)\s))"
    # GTD's form.
    r"|\d{1,2}/\d{1,2}/(?:19|20)\d{2}:\s*",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text and what was done to it."""

    text: str
    html: bool
    opening: bool


def clean(text: str, *, strip_opening: bool = False) -> Cleaned:
    """A text without markup and debris, in Unicode normal form C, with single spaces.

    :param strip_opening: take off an opening such as "On 5 August 2024," (ACLED's notes have one each), which tells a
        model when a note was written and nothing of what happened.
    """
    plain = _without_html(replace_lone_surrogates(text))
    html = plain is not None
    result = text if plain is None else plain
    result = " ".join(_DEBRIS.sub("", unicodedata.normalize("NFC", replace_lone_surrogates(result))).split())
    if strip_opening and (match := _OPENING.match(result)) and match.end() < len(result):
        return Cleaned(result[match.end()].upper() + result[match.end() + 1 :], html, True)
    return Cleaned(result, html, False)


def _without_html(text: str) -> str | None:
    """The text of a piece of HTML; none where it is none, as "<unknown>" and "a < b" are not."""
    result = _layer_off(text)
    # Feeds carry pages as text: markup that is itself written in entities.
    if _ESCAPED.search(text) and _TAG.search(result):
        result = _layer_off(result)
    return None if result == text else result


def _layer_off(text: str) -> str:
    result = text
    if "<" in text and _TAG.search(text):
        reader = _TextOf()
        # Entities are left to the next step, which leaves "AT&T" alone.
        reader.feed(text.replace("&", _AMPERSAND))
        reader.close()
        result = "".join(reader.parts).replace(_AMPERSAND, "&")
    if "&" in result:
        result = _ENTITY.sub(lambda entity: unescape(entity[0]), result)
    return result


class _TextOf(HTMLParser):
    """Collects what a browser would show. Tags that are none of HTML's stay, for they are the text's own brackets."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unread = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNREAD:
            self._unread += 1
        elif tag in _BREAKING:
            self.parts.append(" ")
        elif tag not in _TAGS:
            self.parts.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNREAD:
            self._unread = max(self._unread - 1, 0)
        elif tag in _BREAKING:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.parts.append(data)
