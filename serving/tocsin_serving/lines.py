"""Cutting a body that comes in parts into lines, in bounded memory and in time that grows with the body's length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive

from tocsin_serving.body import body_parts
from tocsin_serving.refusal import RefusedError
from tocsin_serving.shares import Account


class LineCutter:
    """Holds the line that is not complete yet, and counts it as held."""

    def __init__(self, longest: int, memory: Account) -> None:
        """Nothing is held yet; see `close`.

        :param longest: longest line in bytes; of a longer one nothing is held.
        """
        self._longest = longest
        self._memory = memory
        self._begun = bytearray()
        self._too_long = False

    def cut(self, part: bytes) -> list[bytes | None]:
        """The lines that a part completes, without their ends; none stands for one that is too long.

        :raises RefusedError: 429 or 503, too many bytes are held.
        """
        *ends, begun = part.split(b"\n")
        lines = [self._completed(end) for end in ends]
        self._begin(begun)
        return lines

    def last(self) -> list[bytes | None]:
        """The line that the end of the body completes, if there is one."""
        return [self._completed(b"")] if self._begun or self._too_long else []

    def close(self) -> None:
        """Hold nothing any more."""
        self._memory.release(len(self._begun))
        self._begun.clear()

    def _completed(self, end: bytes) -> bytes | None:
        too_long = self._too_long or len(self._begun) + len(end) > self._longest
        line = None if too_long else bytes(self._begun) + end
        self.close()
        self._too_long = False
        return line

    def _begin(self, part: bytes) -> None:
        if self._too_long or len(self._begun) + len(part) > self._longest:
            self.close()
            self._too_long = True
        else:
            self._memory.take(len(part))
            self._begun += part


async def line_groups(receive: Receive, cutter: LineCutter, seconds: float) -> AsyncIterator[list[bytes | None]]:
    """The lines of a body, grouped as they come in.

    :param seconds: longest wait for a line to be complete: a byte now and then keeps no stream alive.
    :raises ClientGoneError: the client hung up.
    :raises RefusedError: 408, no line came in time; 429 or 503, too many bytes are held.
    """
    parts = body_parts(receive, seconds)
    while True:
        try:
            async with asyncio.timeout(seconds):
                lines = await _next_lines(parts, cutter)
        except TimeoutError:
            raise RefusedError(408, f"No line was complete after {seconds:.0f} s.") from None
        if lines is None:
            break
        yield lines
    yield cutter.last()


async def _next_lines(parts: AsyncIterator[bytes], cutter: LineCutter) -> list[bytes | None] | None:
    """The lines that the next parts complete, at least one; none when there are no more parts."""
    async for part in parts:
        if lines := cutter.cut(part):
            return lines
    return None
