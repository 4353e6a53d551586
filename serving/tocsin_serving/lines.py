"""Cutting a body that comes in parts into lines, in bounded memory and in time that grows with the body's length.

A part of a few hundred kilobytes may hold tens of thousands of lines, so they are cut one by one as they are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

from starlette.types import Receive

from tocsin_serving.body import body_parts
from tocsin_serving.refusal import RefusedError
from tocsin_serving.shares import Account


class LineCutter:
    """Holds the part at hand and the line that is not complete yet, and counts them as held."""

    def __init__(self, longest: int, memory: Account) -> None:
        """Nothing is held yet; see `close`.

        :param longest: longest line in bytes; of a longer one nothing is held.
        """
        self._longest = longest
        self._memory = memory
        self._begun = bytearray()
        self._too_long = False
        self._given = 0
        """Bytes of lines that were given out and are not done with."""

    def cut(self, part: bytes) -> Iterator[bytes | None]:
        """The lines that a part completes, without their ends; none stands for one that is too long.

        All of them are to be taken before the next part's; they count as held until `done`.

        :raises RefusedError: 429 or 503, too many bytes are held.
        """
        self._memory.take(len(part))
        self._given += len(part)
        begin = 0
        while (end := part.find(b"\n", begin)) >= 0:
            yield self._completed(part[begin:end])
            begin = end + 1
        rest = part[begin:]
        self._give_back(len(rest))
        self.begin(rest)

    def begin(self, part: bytes) -> None:
        """Hold a part that completes no line.

        :raises RefusedError: 429 or 503, too many bytes are held.
        """
        if self._too_long or len(self._begun) + len(part) > self._longest:
            self._drop_begun()
            self._too_long = True
        else:
            self._memory.take(len(part))
            self._begun += part

    def last(self) -> list[bytes | None]:
        """The line that the end of the body completes, if there is one."""
        return [self._completed(b"")] if self._begun or self._too_long else []

    def done(self) -> None:
        """The lines given out so far are answered."""
        self._give_back(self._given)

    def close(self) -> None:
        """Hold nothing any more."""
        self.done()
        self._drop_begun()

    def _give_back(self, size: int) -> None:
        self._memory.release(size)
        self._given -= size

    def _completed(self, end: bytes) -> bytes | None:
        too_long = self._too_long or len(self._begun) + len(end) > self._longest
        line = None if too_long else bytes(self._begun) + end
        self._given += len(self._begun)
        self._begun.clear()
        self._too_long = False
        return line

    def _drop_begun(self) -> None:
        self._memory.release(len(self._begun))
        self._begun.clear()


async def line_groups(receive: Receive, cutter: LineCutter, seconds: float) -> AsyncIterator[Iterable[bytes | None]]:
    """The lines of a body, grouped as they come in; the next group is to be asked for when one is answered.

    :param seconds: longest wait for a line to be complete: a byte now and then keeps no stream alive.
    :raises ClientGoneError: the client hung up.
    :raises RefusedError: 408, no line came in time; 429 or 503, too many bytes are held.
    """
    parts = body_parts(receive, seconds)
    while True:
        try:
            async with asyncio.timeout(seconds):
                part = await _next_end(parts, cutter)
        except TimeoutError:
            raise RefusedError(408, f"No line was complete after {seconds:.0f} s.") from None
        if part is None:
            break
        yield cutter.cut(part)
        cutter.done()
    yield cutter.last()


async def _next_end(parts: AsyncIterator[bytes], cutter: LineCutter) -> bytes | None:
    """The next part that completes a line, those before it having begun one; none when there are no more parts."""
    async for part in parts:
        if b"\n" in part:
            return part
        cutter.begin(part)
    return None
