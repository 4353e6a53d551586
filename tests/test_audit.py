"""The audit of dependencies: what was found is told from what could not be asked."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"
verdict = runpy.run_path(str(AUDIT))["verdict"]

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([SOUND], 0, "1 of 1 packages looked up, 0 flaws found"),
        ([SOUND, FLAWED], 1, "flawed 2.0: PYSEC-1, mended in 2.1"),
        ([SOUND, UNKNOWN], 3, "not looked up"),
        ([UNKNOWN, FLAWED], 1, "1 flaws found"),
        ([UNKNOWN] * 7, 3, "0 of 7 packages looked up"),
        ([], 3, "0 of 0"),
    ],
)
def test_what_is_found_fails_and_what_cannot_be_asked_is_told_apart(
    packages: list[dict[str, Any]], status: int, said: str
) -> None:
    found, lines = verdict(packages)
    assert found == status
    assert said in "\n".join(lines)


def test_an_audit_that_does_not_come_to_an_end_is_none(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(AUDIT), str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode == 3
    assert "audit: not done" in done.stdout
