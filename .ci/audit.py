"""Published flaws in the pinned packages; tells "found" from "could not be asked".

    python .ci/audit.py [REQUIREMENTS]          (make audit)

pip-audit asks PyPI's own index of advisories about every line of constraints.txt. A mirror does not have it and says of
each package that there is none, which pip-audit alone would pass over, or take for a failure like any other.

Exit status: 0, every package was looked up and none has a flaw; 1, flaws were found; 3, packages could not be looked up
and the others have none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOUND, NOT_ASKED = 1, 3
_NAMES_TOLD = 5


def main() -> int:
    """Ask, say what came of it, and give the exit status."""
    requirements = sys.argv[1] if len(sys.argv) > 1 else "constraints.txt"
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "audit.json"
        # No resolving: every dependency is a line of its own, with its version.
        command = [sys.executable, "-m", "pip_audit", "--requirement", requirements, "--no-deps", "--disable-pip"]
        command += ["--progress-spinner", "off", "--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            packages = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
        except (OSError, ValueError):
            # No report: it did not get as far as that.
            print(f"audit: not done: {(done.stderr.strip() or 'pip-audit said nothing').splitlines()[-1]}")
            return NOT_ASKED
    status, lines = verdict(packages)
    print("\n".join(lines))
    return status


def verdict(packages: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """The exit status, and what to say, of the packages that pip-audit reports."""
    lines = [
        f"audit: {package['name']} {package['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    found = len(lines)
    skipped = [str(package["name"]) for package in packages if "skip_reason" in package]
    lines.append(f"audit: {len(packages) - len(skipped)} of {len(packages)} packages looked up, {found} flaws found")
    if skipped:
        names = ", ".join(skipped[:_NAMES_TOLD]) + (", ..." if len(skipped) > _NAMES_TOLD else "")
        lines.append(f"audit: not looked up, for the index has no advisories on them or is not PyPI's own: {names}")
    if found:
        return FOUND, lines
    return (NOT_ASKED if skipped or not packages else 0), lines


if __name__ == "__main__":
    sys.exit(main())
