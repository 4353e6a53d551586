"""Lines of a body: whole whatever its parts are, and no more held than is counted."""

from __future__ import annotations

import json
from typing import Any

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
        cutter.done()
        assert memory.held <= LONGEST
    found += cutter.last()
    cutter.done()

    *lines, rest = b"".join(parts).split(b"\n")
    expected = [*lines, rest] if rest else lines
    assert found == [line if len(line) <= LONGEST else None for line in expected]
    assert memory.held == 0


class CountedBytes(bytes):
    """Counts the bytes that are searched for the ends of lines."""

    searched = 0

    def find(self, end: Any, begin: Any = None, *_: Any) -> int:  # noqa: ANN401  as bytes has it
        found = super().find(end, begin)
        CountedBytes.searched += (found + 1 if found >= 0 else len(self)) - begin
        return found


def test_each_byte_is_looked_at_once() -> None:
    CountedBytes.searched = 0
    cutter = LineCutter(10**6, Room(10**6).of(None))
    for _ in range(1_000):
        assert list(cutter.cut(CountedBytes(b"x"))) == []
    assert list(cutter.cut(CountedBytes(b"\n" * 1_000))) == [b"x" * 1_000] + [b""] * 999
    assert CountedBytes.searched == 2_000


def test_lines_are_held_until_they_are_answered() -> None:
    memory = Room(10**6)
    cutter = LineCutter(100, memory.of(None))
    cutter.begin(b"1234")
    lines = cutter.cut(b"5\nabc\n67")
    assert next(lines) == b"12345"
    assert memory.held == 4 + 8
    assert list(lines) == [b"abc"]
    assert memory.held == 4 + 8
    cutter.done()
    assert memory.held == 2


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_nothing_is_held_of_a_stream_that_ended_whatever_was_taken_of_it(taken: int) -> None:
    memory = Room(10**6)
    cutter = LineCutter(100, memory.of(None))
    lines = cutter.cut(b"a\nb\nc")
    for _ in range(taken):
        next(lines)
    cutter.close()
    assert memory.held == 0


def test_an_unfinished_line_is_counted_until_the_stream_ends() -> None:
    memory = Room(10)
    cutter = LineCutter(100, memory.of(None))
    cutter.begin(b"12345678")
    assert memory.held == 8
    with pytest.raises(RefusedError) as refused:
        LineCutter(100, memory.of(None)).begin(b"123")
    assert refused.value.status == 503
    cutter.close()
    assert memory.held == 0


@pytest.mark.parametrize("character", ["a", "\n", "🙂"])
def test_the_longest_text_fits_into_the_longest_line_however_it_is_written(character: str) -> None:
    limits = Settings(max_text_characters=5_000)
    assert len(json.dumps({"text": character * 5_000})) <= limits.max_line_bytes < limits.max_body_bytes
