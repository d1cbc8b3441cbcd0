"""The path of a conversation: whom a message has passed through, and when that is to stop.

The path of a message names the agents that the conversation passed through, the sender last. Read
as a walk it tells whose questions are open: who comes up again has been answered by those after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mq9.protocol import checks

DEFAULT_MAX_HOPS = 32
HIGHEST_MAX_HOPS = checks.MAX_TAGS - 1  # what such a message leads to has one more

_LONGEST_NAME = 40  # characters of a name that a reason shows; a reason may have 1 024
_SHOWN_AT_AN_END = 10  # names of a longer path


def extended(path: Sequence[str], agent: str) -> tuple[str, ...]:
    """Return the path of what an agent sends.

    Args:
        path: The path of the message that it sends this for; empty for none.
        agent: The agent that sends.

    Returns:
        The names with the agent's as the last; of a path that is full already, the newest ones.
    """
    return (*path[-HIGHEST_MAX_HOPS:], _written(agent))


def reason_to_stop(
    path: Sequence[str],
    agent: str,
    *,
    max_hops: int = DEFAULT_MAX_HOPS,
    is_answer: bool = False,
) -> str | None:
    """Return why an agent is not to deal with a message; None when it may.

    It is not when the path is longer than ``max_hops``, or when the message goes in a circle: when
    a question of the agent is open which led, through others, to this message. What comes directly
    from whoever the agent asked is no circle, nor is what it sent itself.

    Args:
        path: The path of the message.
        agent: The agent that took it.
        max_hops: How many names the path may have, 1 to 63.
        is_answer: Whether the message is known to answer what the agent asked; then it is no
            circle, however many it passed through.

    Returns:
        A line of at most 1 024 characters, with the path in it: names, which are words of others.
    """
    if len(path) > max_hops:
        return f"too many hops, {len(path)} of at most {max_hops}: {_shown(path)}"
    name = _written(agent)
    if not is_answer and name in _open(path)[:-2]:
        return f"a circle: {_shown([*path, name])}"
    return None


def is_return(path: Sequence[str], agent: str) -> bool:
    """Tell whether a message comes directly from whoever the agent asked last."""
    return _written(agent) in _open(path)[-2:-1]


def _open(path: Sequence[str]) -> list[str]:
    """Return the agents whose questions are open, in the order in which they asked."""
    asking: list[str] = []
    for name in path:
        if name in asking:
            del asking[asking.index(name) + 1 :]
        else:
            asking.append(name)
    return asking


def _written(agent: str) -> str:
    """Return an agent's name as it stands in a path, in which commas separate names."""
    return agent.replace(",", ";")


def _shown(path: Sequence[str]) -> str:
    names = [
        name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in path
    ]
    if len(names) > 2 * _SHOWN_AT_AN_END:
        names[_SHOWN_AT_AN_END:-_SHOWN_AT_AN_END] = ["…"]
    return ", ".join(names)
