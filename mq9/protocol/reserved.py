"""Configuration of agents: their names, addresses and permitted receivers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mq9 import address as addresses
from mq9.errors import InvalidRequest
from mq9.protocol import checks
from mq9.protocol.address_patterns import AddressPatterns

# The consumer group by which dead letters are redriven. What waits for it waits for nobody.
REDRIVE_GROUP = "mq9.redrive"
# The reason of a move that only makes a message wait: it is no dead letter.
MOVED_ASIDE = "its conversation waits for the answer to a question"


def _slug(name: str) -> str | None:
    try:
        return addresses.slug(name)
    except InvalidRequest:
        return None  # a name without a letter a-z or digit has no address of its own


class Reserved:
    """Tells which configured agent a name or an address belongs to, before it first connects.

    An agent has its own name, every name with the same slug (``ADA`` where ``ada`` is configured),
    the slug as an address, and every address below it (``ada.questions``). Where the slug of
    another agent is below that one (``ada.code``), what is below it belongs to the other agent.

    ``agents`` are their names, where one may stand more than once; or each with patterns of the
    mailboxes that it may send to (its allow-list), None for all. InvalidRequest is raised where two
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
        """Return the agent whose slug an address is, or is below; None when it is nobody's."""
        for one in addresses.upwards(address):
            agent = self._by_address.get(one)
            if agent is not None:
                return agent
        return None

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

    def slug(self, agent: str) -> str | None:
        """Return the address that is an agent's own, with all below it; None for an unknown one."""
        return self._slugs.get(agent)

    def apart(self, address: str) -> tuple[str, ...]:
        """Return the addresses below one that are the slugs of agents."""
        return tuple(self._apart.get(address, ()))

    def may_send(self, agent: str, mail_address: str) -> bool:
        """Tell whether an agent's allow-list names a mailbox; one that has none may send to all."""
        allowed = self._allow_send.get(agent)
        return allowed is None or allowed.match(mail_address)

    def has_allow_list(self, agent: str) -> bool:
        """Tell whether an agent may send to some mailboxes only."""
        return agent in self._allow_send

    @property
    def names(self) -> tuple[str, ...]:
        """The configured agents, each once."""
        return tuple(self._slugs)

    @property
    def addresses(self) -> dict[str, str]:
        """The agent of each slug."""
        return dict(self._by_address)
