"""The names and addresses that belong to configured agents before these first connect."""

from __future__ import annotations

from collections.abc import Iterable

from mq9 import address as addresses
from mq9.errors import InvalidRequest


def _slug(name: str) -> str | None:
    try:
        return addresses.slug(name)
    except InvalidRequest:
        return None  # a name without a letter a-z or digit has no address of its own


class Reserved:
    """Tells which configured agent a name or an address belongs to.

    An agent has its own name, every name with the same slug (``ADA`` where ``ada`` is configured),
    and the slug as an address.

    Args:
        agents: The configured agents; one may be named more than once.

    Raises:
        InvalidRequest: Two different names have the same slug.
    """

    def __init__(self, agents: Iterable[str]) -> None:
        self._slugs = {name: _slug(name) for name in agents}
        self._by_address: dict[str, str] = {}
        for name, slug in self._slugs.items():
            if slug is None:
                continue
            other = self._by_address.setdefault(slug, name)
            if other != name:
                raise InvalidRequest(
                    f"agent: {other!r} and {name!r} both have the mailbox {slug}; rename one"
                )

    def owner_of_address(self, address: str) -> str | None:
        """Return the agent whose slug an address is; None when it is nobody's."""
        return self._by_address.get(address)

    def owner_of_name(self, name: str) -> str | None:
        """Return the agent that a name, in whatever spelling, belongs to; None for nobody."""
        if name in self._slugs:
            return name
        slug = _slug(name)
        return None if slug is None else self._by_address.get(slug)

    def own(self, agent: str) -> tuple[str, ...]:
        """Return the name and the address that are an agent's own; empty for an unknown one."""
        if agent not in self._slugs:
            return ()
        slug = self._slugs[agent]
        return (agent,) if slug is None else (agent, slug)

    @property
    def names(self) -> tuple[str, ...]:
        """The configured agents, each once."""
        return tuple(self._slugs)

    @property
    def addresses(self) -> dict[str, str]:
        """The agent of each reserved address."""
        return dict(self._by_address)
