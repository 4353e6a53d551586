"""Shares: nobody gets more than theirs, everybody theirs, and callers are told apart by what costs something."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin_serving.keys import new_key
from tocsin_serving.refusal import RefusedError
from tocsin_serving.settings import Settings
from tocsin_serving.shares import Room, caller_of


def test_a_caller_gets_its_share_whatever_another_holds() -> None:
    room = Room(8, share=2)
    greedy, other = room.of("greedy"), room.of("other")
    greedy.take(2)
    with pytest.raises(RefusedError) as refused:
        greedy.take(1)
    assert refused.value.status == 429
    assert refused.value.response.headers["retry-after"] == "1"
    other.take(2)
    greedy.release(2)
    greedy.take(2)


def test_all_together_get_no_more_than_there_is() -> None:
    room = Room(3, share=2, seconds_to_wait=lambda: 7.0)
    room.of("a").take(2)
    with pytest.raises(RefusedError) as refused, room.of("b").holding(2):
        pass
    assert (refused.value.status, refused.value.response.headers["retry-after"]) == (503, "7")
    assert room.held == 2


def test_those_who_cannot_be_told_apart_share_all_there_is() -> None:
    room = Room(8, share=2)
    with room.of(None).holding(8):
        assert room.held == 8
    assert room.held == 0


@pytest.mark.parametrize(
    ("client", "caller"),
    [
        (("192.0.2.1", 80), "192.0.2.1"),
        (("::ffff:192.0.2.1", 80), "192.0.2.1"),
        (("2001:db8::1", 80), "2001:db8::/64"),
        (("2001:db8::ffff:2", 80), "2001:db8::/64"),
        (("127.0.0.1", 80), None),
        (("::1", 80), None),
        (("::ffff:127.0.0.1", 80), None),
        (("unknown", 0), None),
        (None, None),
    ],
)
def test_without_keys_an_address_is_a_caller(client: Any, caller: str | None) -> None:  # noqa: ANN401  as ASGI gives it
    assert caller_of({"type": "http", "client": client}, None) == caller


def test_with_keys_a_key_is_a_caller_wherever_it_is_used() -> None:
    _, key = new_key("newsroom")
    assert caller_of({"type": "http", "client": ("127.0.0.1", 80)}, key) == key.id


def test_the_share_is_a_quarter_and_never_too_small_for_one_request() -> None:
    usual = Settings()
    assert (usual.caller_places, usual.caller_bytes) == (usual.max_waiting // 4, usual.max_held_bytes // 4)
    small = Settings(max_waiting=2, max_held_bytes=1_000, max_body_bytes=900)
    assert (small.caller_places, small.caller_bytes) == (1, 900)
    whole = Settings(caller_share=1.0)
    assert (whole.caller_places, whole.caller_bytes) == (whole.max_waiting, whole.max_held_bytes)
