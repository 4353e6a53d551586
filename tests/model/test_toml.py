from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.errors import InputError, UsageError
from tocsin.toml import read_toml


def test_a_mark_that_windows_puts_in_front_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("a = 1\n", encoding="utf-8-sig")
    assert read_toml(path, "the recipe") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb 2\n", r"a\.toml:2: the recipe is not a TOML file: Expected '=' .*, column 3; mend this line$"),
        (b"a = [", r"a\.toml: the recipe is not a TOML file: Invalid value at its end; mend what stands last$"),
        (b"a = '\xe9'\n", r"a\.toml: the recipe is not a TOML file: it is not in UTF-8; save it so$"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_toml(path, "the recipe")


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_what_cannot_be_read_is_told_as_the_error_that_is_asked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot read the recipe"):
        read_toml(tmp_path / name, "the recipe", error=UsageError)
