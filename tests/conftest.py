"""Fixtures of all three rooms."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import make_tiny_release

from tocsin import EventClassifier


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A room's tests stay in one process (`--dist loadgroup`), for they share toy models and servers."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.relative_to(Path(__file__).parent).parts[0]))


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keyword model as a complete release folder; do not change its files (copy it first)."""
    return make_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture(scope="session")
def tiny_classifier(tiny_release: Path) -> EventClassifier:
    return EventClassifier.load(tiny_release)


@pytest.fixture(scope="session")
def shipped_classifier() -> EventClassifier:
    """The release users get."""
    return EventClassifier.load()
