"""Programs in Python that a test runs to their end."""

import subprocess
import sys


def run_python(*arguments, timeout=60, **options):
    """Run the interpreter with arguments and without input; what ended, and what it said."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
