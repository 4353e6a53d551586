"""The limit of open files: as far up as the system lets it, and never down."""

from __future__ import annotations

import resource

import pytest

from tocsin_serving.open_files import ENOUGH, raise_limit_of_open_files

ANY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, 1_000_000), (ENOUGH, 1_000_000)),
        ((1024, ANY), (ENOUGH, ANY)),
        ((4096, 4096), None),
        ((100_000, 1_000_000), None),
        ((ANY, ANY), None),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int] | None
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    raise_limit_of_open_files()
    assert asked == ([raised] if raised else [])


@pytest.mark.parametrize("error", [ValueError("not allowed"), OSError(1, "Operation not permitted")])
def test_a_system_that_forbids_it_keeps_no_service_from_starting(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def forbid(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", forbid)
    raise_limit_of_open_files()
