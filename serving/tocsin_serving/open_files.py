"""How many connections a worker may hold: each is an open file, and the usual limit of those is 1,024."""

from __future__ import annotations

import sys
from contextlib import suppress

ENOUGH = 65_536
"""Beyond it no use is known, and some systems refuse what they themselves name as the most."""


def raise_limit_of_open_files() -> None:
    """Allow this process, and those it starts, as many open files as its user may have, up to `ENOUGH`.

    The limit that applies (the soft one) is low for programs that call select(2), which takes no number above 1,023;
    the others are to raise it themselves (https://0pointer.net/blog/file-descriptor-limits.html). Neither uvicorn's
    event loop nor the supervisor's calls it where there is something better.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        # A sandbox may forbid it; the service works without.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
