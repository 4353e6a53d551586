"""Two consoles: answers go to stdout, everything else to stderr, so that pipes stay clean."""

from __future__ import annotations

from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
