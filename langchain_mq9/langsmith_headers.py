"""The LangSmith run that a tool is called in, as headers for what the tool sends."""

from __future__ import annotations

import sys

from mq9.protocol import checks


def run_headers() -> dict[str, str]:
    """Return the headers by which whoever reads a message continues the current run.

    They are those of LangSmith's distributed tracing, ``langsmith-trace`` and ``baggage``; one that
    is longer than a header of a message may be is left out. Outside of a traced run there are none.
    """
    if "langsmith.run_helpers" not in sys.modules:
        return {}  # nothing is traced, and importing it takes its time
    from langsmith.run_helpers import get_current_run_tree  # noqa: PLC0415  # see above

    run = get_current_run_tree()
    if run is None:
        return {}
    found = run.to_headers()
    return {name: value for name, value in found.items() if _fits(value)}


def _fits(value: str) -> bool:
    return 1 <= len(value) <= checks.HEADER_VALUE_LENGTH and value.isprintable()
