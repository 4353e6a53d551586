from __future__ import annotations

from pathlib import Path

import pytest
from support import make_tiny_release

from tocsin import Release
from tocsin.release import LAYOUT
from tocsin_training.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path)
    for folder in (run.release, run.reference):
        make_tiny_release(folder)
    return run


def test_a_release_and_its_twin_change_together_and_stay_sound(run: Run) -> None:
    run.amend(lambda folder: (folder / LAYOUT.card).write_text("# Another card\n"), version="2")
    for folder in (run.release, run.reference):
        release = Release.open(folder)
        assert release.manifest.version == "2"
        assert (release.folder / LAYOUT.card).read_text() == "# Another card\n"


def test_an_amended_release_keeps_what_was_not_amended(run: Run) -> None:
    before = Release.open(run.release).manifest
    run.amend()
    assert Release.open(run.release).manifest == before
