"""What a worker holds for its callers at once, places and bytes, of which no caller gets more than a share.

A rate bounds how often a caller comes and not how long it stays: a few requests that are never finished would
otherwise take all the room there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

from tocsin_serving.keys import ApiKey
from tocsin_serving.refusal import RefusedError, overloaded

# A network that one customer is given (RFC 6177): an address of it costs nothing.
_IPV6_PREFIX = 64


class Room:
    """So much of something, for all callers together; belongs to one event loop."""

    def __init__(
        self, size: int, *, share: int | None = None, seconds_to_wait: Callable[[], float] = lambda: 1.0
    ) -> None:
        """All of it is free.

        :param share: most that one caller may have; none for all.
        :param seconds_to_wait: after which those who find none free may come back.
        """
        self._size = size
        self._share = size if share is None else share
        self._seconds_to_wait = seconds_to_wait
        self._held_by: Counter[str] = Counter()
        self.held = 0

    def of(self, caller: str | None) -> Account:
        """A caller's account.

        :param caller: none for callers that cannot be told apart, who have no share.
        """
        return Account(self, caller)

    def take(self, caller: str | None, size: int) -> None:
        """Count what a caller takes.

        :raises RefusedError: 429, it would have more than its share; 503, nobody may have so much now.
        """
        if caller is not None and self._held_by[caller] + size > self._share:
            message = "You already hold your share of what the service can hold at once; wait for answers, then go on."
            raise RefusedError(429, message, headers={"Retry-After": "1"})
        if self.held + size > self._size:
            raise overloaded(self._seconds_to_wait())
        self._count(caller, size)

    def release(self, caller: str | None, size: int) -> None:
        """Count what a caller gives back."""
        self._count(caller, -size)

    def _count(self, caller: str | None, size: int) -> None:
        self.held += size
        if caller is None:
            return
        self._held_by[caller] += size
        if not self._held_by[caller]:
            # Nothing stays of those who left.
            del self._held_by[caller]


@dataclass(frozen=True)
class Account:
    """One caller's part of a room."""

    room: Room
    caller: str | None

    def take(self, size: int) -> None:
        """Count what is held from now on; see `Room.take`."""
        self.room.take(self.caller, size)

    def release(self, size: int) -> None:
        """Count what is no longer held."""
        self.room.release(self.caller, size)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold something for the time of a block; see `Room.take`."""
        self.take(size)
        try:
            yield
        finally:
            self.release(size)


def caller_of(scope: Scope, key: ApiKey | None) -> str | None:
    """To whose share a request counts: its key's, or without keys its address's; none where that tells nobody apart.

    The machine's own address is that of all who use it here, and of everybody where a proxy here names nobody.
    """
    if key is not None:
        return key.id
    try:
        address = ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        # A Unix socket, or what a proxy calls unknown.
        return None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), _IPV6_PREFIX), strict=False))
    return str(address)
