"""The clients that may call over HTTP, by the options of ``mq9-mcp``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError

from mcp_server.options import DECLARED, Options, flag
from mcp_server.settings import Settings, refuse_auto
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.http import is_loopback
from mq9.server.users import Users

if TYPE_CHECKING:
    from mcp.server.auth.provider import TokenVerifier


@dataclass(frozen=True, slots=True)
class Access:
    """The clients that may call over HTTP."""

    hosts: Sequence[str]  # beside loopback
    verifier: TokenVerifier | None
    agents: Mapping[str, Sequence[str] | None]  # may send to these mailboxes; None: to all
    is_open: bool  # to all on this machine


def checked_access(options: Options, settings: Settings) -> Access:
    """Return who may call, by options that can be used together."""
    verifier, agents = _verifier(options, settings)
    hosts = list(options.allow_host or ())
    if options.resource is not None:
        check_url("resource", options.resource)
        hosts.append(URL.validate_python(options.resource).host or "")
    _check_authorization(options, agents)
    is_open = verifier is None and options.authorization_server is None
    if is_open:
        agent = options.known_agent()
        refuse_auto("agent", agent)
        if not is_loopback(options.host):
            raise InvalidRequest(
                f"host: other machines reach {options.host}, and anybody could act as {agent!r}; "
                "give --tokens, --authorization-server or --verifier"
            )
    elif options.agent is not None or options.mail_address is not None:
        raise InvalidRequest(
            f"agent: {options.agent or options.mail_address!r} is given, but the token says who "
            "asks"
        )
    check_names("allow_host", options.host, hosts)
    return Access(hosts, verifier, agents, is_open)


def refuse_http_options(options: Options) -> None:
    """Refuse options of HTTP; those of variables may be meant for other servers."""
    for name, one in DECLARED.items():
        if one.is_for_http and one.variable is None and getattr(options, name):
            raise InvalidRequest(f"{name}: it is for --http, which is not given")


def check_names(option: str, host: str, names: Sequence[str]) -> None:
    """Check that clients can call a server that listens on an address."""
    if host in {"", "0.0.0.0", "::"} and not names:  # noqa: S104  # nothing is bound here
        raise InvalidRequest(
            f"{option}: {host!r} is not a host name; give the names by which clients call this "
            "machine"
        )


def _verifier(
    options: Options, settings: Settings
) -> tuple[TokenVerifier | None, Mapping[str, Sequence[str] | None]]:
    """Return what verifies bearer tokens, and the agents that are known to have one."""
    from mcp_server.http.authentication import (  # noqa: PLC0415  # the SDK takes a second
        KnownTokens,
        verifier_named,
    )

    if options.verifier is not None:
        if options.tokens is not None:
            raise InvalidRequest("verifier: give either --tokens or --verifier")
        return verifier_named(options.verifier), {}
    if options.tokens is None:
        return None, {}
    tokens = KnownTokens(Users.from_file(options.tokens))
    for agent in tokens.agents:
        settings.identity(agent)  # one that has no mailbox is told now
    return tokens, tokens.agents


def _check_authorization(options: Options, agents: Iterable[str]) -> None:
    """Check that access tokens can be verified, and told from the other tokens."""
    if options.authorization_server is None:
        for name, one in DECLARED.items():
            if one.is_for_authorization and getattr(options, name):
                raise InvalidRequest(
                    f"{name}: it is for {flag('authorization_server')}, which is not given"
                )
        return
    if options.verifier is not None:
        raise InvalidRequest("verifier: it would have to know the access tokens, too; give one")
    if options.resource is None and not is_loopback(options.host):
        raise InvalidRequest(
            f"resource: access tokens name this server; say by which URL, since {options.host} is "
            "reached by other machines"
        )
    from mcp_server.http.access_tokens import check_apart  # noqa: PLC0415  # as above

    check_apart(agents)


# Issuers and audiences are compared as text, to which no slash must come.
URL = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))


def check_url(name: str, url: Any) -> None:
    """Refuse a URL that is neither HTTPS nor on loopback, or not in its usual spelling."""
    try:
        known = URL.validate_python(url)
    except ValidationError:
        known = None
    if (
        known is None
        or not (known.scheme == "https" or is_loopback(known.host or ""))
        or (known.username, known.password, known.query, known.fragment) != (None,) * 4
    ):
        raise InvalidRequest(
            f"{name}: {shown(url)} is not an https:// URL (or http:// on loopback) without a user, "
            "a query and a fragment"
        )
    if str(known) != url:
        raise InvalidRequest(f"{name}: {shown(url)} is usually written {known}")
