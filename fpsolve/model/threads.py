"""How many threads may work."""

from __future__ import annotations

import os


def threads_allowed() -> int:
    """How many threads the environment allows by FPSOLVE_THREADS; one unless it says otherwise."""
    given = os.environ.get("FPSOLVE_THREADS", "1")
    return int(given) if given.isdecimal() and int(given) > 0 else 1
