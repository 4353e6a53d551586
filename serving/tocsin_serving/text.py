"""Text that came from outside, made fit for UTF-8."""

from __future__ import annotations


def replace_lone_surrogates(text: str) -> str:
    """Put U+FFFD where JSON escapes such as ``\\ud800`` left half a character, which no UTF-8 can carry.

    Offsets stay as they are; the library does the same to texts it is given.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        # surrogateescape and surrogatepass would keep them; a round trip through UTF-16 replaces exactly these.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
