"""Makes directories for files that only their owner may read."""

from __future__ import annotations

import itertools
from pathlib import Path


def make_private(path: Path) -> None:
    """Make a directory, and those above it, where missing: open to their owner only."""
    missing = itertools.takewhile(lambda one: not one.exists(), [path, *path.parents])
    for one in reversed(list(missing)):
        one.mkdir(0o700, exist_ok=True)
