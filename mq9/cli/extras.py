"""What to tell a user whose installation lacks the extra that a program needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mq9.errors import InvalidRequest

# What is installed without any extra, so that no extra is to blame where it is missing.
_ALWAYS = {"mq9", "mcp_server", "langchain_mq9"} | {
    *("langchain_core", "langgraph", "nats", "orjson", "platformdirs", "pydantic")
}


class MissingExtra(InvalidRequest):
    """A module is not installed; the text names it and the extra that installs it."""


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Blame a module that is missing while inside on an extra.

    Args:
        extra: The extra that installs what is imported.
        what: What needs it, as the error is to say.

    Raises:
        MissingExtra: A module is missing that no installation has by itself.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _ALWAYS:
            raise
        raise MissingExtra(
            f"{what} needs {error.name}, which the extra `{extra}` of this package installs; "
            f"in a clone of it: pip install '.[{extra}]'"
        ) from error
