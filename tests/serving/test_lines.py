"""Lines of a body: whole whatever its parts are, and no more held than is counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin_serving.lines import LineCutter
from tocsin_serving.refusal import RefusedError
from tocsin_serving.settings import Settings
from tocsin_serving.shares import Room

LONGEST = 5


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12).map(lambda part: part.replace(b"\x00", b"\n"))))
def test_lines_do_not_depend_on_the_parts_a_body_comes_in(parts: list[bytes]) -> None:
    memory = Room(10**6)
    cutter = LineCutter(LONGEST, memory.of(None))
    found: list[bytes | None] = []
    for part in parts:
        found += cutter.cut(part)
        assert memory.held <= LONGEST
    found += cutter.last()

    *lines, rest = b"".join(parts).split(b"\n")
    expected = [*lines, rest] if rest else lines
    assert found == [line if len(line) <= LONGEST else None for line in expected]
    assert memory.held == 0


class CountedBytes(bytes):
    """Counts the bytes that are searched for the ends of lines."""

    searched = 0

    def split(self, *arguments: object) -> list[bytes]:
        CountedBytes.searched += len(self)
        return bytes(self).split(*arguments)  # type: ignore[arg-type]


def test_each_byte_of_a_line_that_trickles_is_looked_at_once() -> None:
    CountedBytes.searched = 0
    cutter = LineCutter(10**6, Room(10**6).of(None))
    for _ in range(1_000):
        assert cutter.cut(CountedBytes(b"x")) == []
    assert cutter.cut(CountedBytes(b"\n")) == [b"x" * 1_000]
    assert CountedBytes.searched == 1_001


def test_an_unfinished_line_is_counted_until_the_stream_ends() -> None:
    memory = Room(10)
    cutter = LineCutter(100, memory.of(None))
    cutter.cut(b"done\n12345678")
    assert memory.held == 8
    with pytest.raises(RefusedError) as refused:
        LineCutter(100, memory.of(None)).cut(b"123")
    assert refused.value.status == 503
    cutter.close()
    assert memory.held == 0


@pytest.mark.parametrize("character", ["a", "\n", "🙂"])
def test_the_longest_text_fits_into_the_longest_line_however_it_is_written(character: str) -> None:
    limits = Settings(max_text_characters=5_000)
    assert len(json.dumps({"text": character * 5_000})) <= limits.max_line_bytes < limits.max_body_bytes
