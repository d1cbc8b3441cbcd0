"""Points in time as a model sees and says them: UTC, such as 2026-11-21T07:09:00Z."""

from __future__ import annotations

from datetime import UTC, datetime

from mq9.address import shown
from mq9.errors import InvalidRequest
from mq9.protocol.checks import MAX_UNIX_SECONDS


def time_at(unix_seconds: int) -> str:
    """Return a point in time as a text."""
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def unix_seconds(argument: str, text: str) -> int:
    """Return the Unix second of a time in ISO 8601; UTC unless it says otherwise.

    Raises:
        InvalidRequest: It is no such time, or before 1970.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{argument}: {shown(text)} is not a time such as 2026-11-21T07:09:00Z"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    second = int(time.timestamp())
    if not 0 <= second <= MAX_UNIX_SECONDS:
        raise InvalidRequest(f"{argument}: {shown(text)} is not from 1970 to 9999")
    return second
