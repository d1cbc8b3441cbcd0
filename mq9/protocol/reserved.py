"""Configuration of agents: their names, addresses and permitted receivers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mq9 import address as addresses
from mq9.errors import InvalidRequest
from mq9.protocol import checks
from mq9.protocol.address_patterns import AddressPatterns

# The consumer group that redrives dead letters. Its waiting messages wait for no consumer.
REDRIVE_GROUP = "mq9.redrive"
# The reason of a move that only makes a message wait. The message is not a dead letter.
MOVED_ASIDE = "its conversation waits for the answer to a question"


def _slug(name: str) -> str | None:
    try:
        return addresses.slug(name)
    except InvalidRequest:
        return None  # a name without a letter a-z or digit has no address of its own


class Reserved:
    """The names and addresses that belong to configured agents, even before they first connect.

    An agent owns its name, every name with the same slug (``ADA`` if ``ada`` is configured), the
    slug as an address, and every address below it (``ada.questions``). If the slug of another agent
    is below that one (``ada.code``), the addresses below it belong to the other agent.

    ``agents`` are their names, possibly repeated. A mapping also gives each agent's allow-list:
    patterns of the mailboxes that it may send to, or None for all. Raises InvalidRequest if two
    different names have the same slug.
    """

    def __init__(self, agents: Iterable[str] | Mapping[str, Sequence[str] | None]) -> None:
        allowed = agents if isinstance(agents, Mapping) else dict.fromkeys(agents)
        self._slugs = {checks.agent_name("agents", name): _slug(name) for name in allowed}
        self._allow_send = {
            name: AddressPatterns("allow_send", patterns)
            for name, patterns in allowed.items()
            if patterns is not None
        }
        self._by_address: dict[str, str] = {}
        for name, slug in self._slugs.items():
            if slug is None:
                continue
            other = self._by_address.setdefault(slug, name)
            if other != name:
                raise InvalidRequest(
                    f"agent: {other!r} and {name!r} both have the mailbox {slug}; rename one"
                )
        self._apart: dict[str, list[str]] = {}
        for slug in self._by_address:
            for above in list(addresses.upwards(slug))[1:]:
                self._apart.setdefault(above, []).append(slug)

    def owner_of_address(self, address: str) -> str | None:
        """Return the agent that owns an address; None if there is none."""
        for one in addresses.upwards(address):
            agent = self._by_address.get(one)
            if agent is not None:
                return agent
        return None

    def owner_of_name(self, name: str) -> str | None:
        """Return the agent that owns a name in any spelling; None if there is none."""
        if name in self._slugs:
            return name
        slug = _slug(name)
        return None if slug is None else self._by_address.get(slug)

    def own(self, agent: str) -> tuple[str, ...]:
        """Return the name and the address that an agent owns; empty for an unknown agent."""
        if agent not in self._slugs:
            return ()
        slug = self._slugs[agent]
        return (agent,) if slug is None else (agent, slug)

    def slug(self, agent: str) -> str | None:
        """Return the address that an agent owns with all below it; None for an unknown agent."""
        return self._slugs.get(agent)

    def apart(self, address: str) -> tuple[str, ...]:
        """Return the addresses below one that are the slugs of agents."""
        return tuple(self._apart.get(address, ()))

    def may_send(self, agent: str, mail_address: str) -> bool:
        """Tell whether an agent may send to a mailbox by its allow-list, if it has one."""
        allowed = self._allow_send.get(agent)
        return allowed is None or allowed.match(mail_address)

    def has_allow_list(self, agent: str) -> bool:
        """Tell whether an agent has an allow-list."""
        return agent in self._allow_send

    @property
    def names(self) -> tuple[str, ...]:
        """The configured agents, each once."""
        return tuple(self._slugs)

    @property
    def addresses(self) -> dict[str, str]:
        """The agent of each slug."""
        return dict(self._by_address)
