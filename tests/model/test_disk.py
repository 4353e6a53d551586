"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tocsin.disk import atomic


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_the_old_one_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"old")
    with atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["journal"]


def test_a_file_whose_writing_breaks_off_stays_the_old_one_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="full"), atomic(path) as file:
        file.write(b"half")
        raise OSError("the disk is full")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["journal"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    named: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda handle: named.append(path.exists()))
    with atomic(path) as file:
        file.write(b"new")
    # The content first, and once it is renamed the folder, which holds the name.
    assert named == [False, True]
