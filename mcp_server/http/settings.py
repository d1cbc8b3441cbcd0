"""The settings of HTTP, from the options of ``mq9-mcp``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError

from mcp_server.options import DECLARED, Options, flag
from mcp_server.settings import Settings, refuse_auto
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.clock import Clock
from mq9.http import is_loopback
from mq9.server.users import Users

if TYPE_CHECKING:
    from mcp.server.auth.provider import TokenVerifier

    from mcp_server.http.access_tokens import AccessTokens
    from mcp_server.http.authentication import KnownTokens


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where HTTP is served, and who may call.

    Attributes:
        host: The address to listen on.
        port: The port; 0 lets the system choose.
        verifier: Knows the bearer tokens; without one anybody on this machine may call.
        hosts: Names, beside those of loopback, by which clients may call this machine.
        origins: Origins of web pages that may call, beside those on loopback.
        stateless: Whether to keep no sessions.
        agents: The agents that have a token, as far as they are known, with the mailboxes that each
            may send to; None for all.
        state_key: See ``make_server``.
        authorization_server: The URL of the server that issues access tokens; None for none.
        resource: The URL by which clients call, which those tokens name as their audience; None for
            the address that is listened on.
        agent_claim: The claim of theirs that names the agent.
        scopes: The scopes that they must have.
    """

    host: str
    port: int
    verifier: TokenVerifier | None = None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    stateless: bool = False
    agents: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    state_key: str | None = None
    authorization_server: str | None = None
    resource: str | None = None
    agent_claim: str = "sub"
    scopes: Sequence[str] = ()

    @property
    def is_open(self) -> bool:
        """Whether anybody may call."""
        return self.verifier is None and self.authorization_server is None

    def authorization(self, url: str, clock: Clock) -> AccessTokens | None:
        """Return what verifies access tokens; None without an authorization server.

        Args:
            url: Where HTTP is served.
            clock: See ``AccessTokens``.

        Raises:
            InvalidRequest: A URL, the claim or a scope is none.
        """
        if self.authorization_server is None:
            return None
        from mcp_server.http.access_tokens import AccessTokens  # noqa: PLC0415  # see above

        return AccessTokens(
            self.authorization_server,
            self.resource or url,
            clock,
            claim=self.agent_claim,
            scopes=self.scopes,
        )


def http_settings(options: Options, settings: Settings) -> HttpSettings:
    """Return the settings of HTTP.

    Args:
        options: The options of the program.
        settings: What the server offers; its agents must be possible.

    Raises:
        InvalidRequest: An option cannot be used, or two of them not together.
    """
    tokens, verifier = _verifiers(options, settings)
    resource = options.resource
    http = HttpSettings(
        host=options.host,
        port=options.port,
        verifier=tokens or verifier,
        agents={} if tokens is None else tokens.agents,
        state_key=options.state_key,
        hosts=(*(options.allow_host or ()), *(() if resource is None else (host_of(resource),))),
        origins=options.allow_origin or (),
        stateless=options.stateless,
        authorization_server=options.authorization_server,
        resource=resource,
        agent_claim="sub" if options.agent_claim is None else options.agent_claim,
        scopes=options.scope or (),
    )
    _check_authorization(options, http)
    if http.is_open:
        agent = options.known_agent()
        refuse_auto("agent", agent)
        if not is_loopback(http.host):
            raise InvalidRequest(
                f"host: other machines reach {http.host}, and anybody could act as {agent!r}; give "
                "--tokens, --authorization-server or --verifier"
            )
    elif options.agent is not None or options.mail_address is not None:
        raise InvalidRequest(
            f"agent: {options.agent or options.mail_address!r} is given, but the token says who "
            "asks"
        )
    check_names("allow_host", http.host, http.hosts)
    return http


def refuse_http_options(options: Options) -> None:
    """Refuse what means nothing on standard input and output.

    What a variable gives may be meant for other servers, and is not refused.

    Raises:
        InvalidRequest: Such an option is given.
    """
    for name, one in DECLARED.items():
        if one.is_for_http and one.variable is None and getattr(options, name):
            raise InvalidRequest(f"{name}: it is for --http, which is not given")


def check_names(option: str, host: str, names: Sequence[str]) -> None:
    """Check that clients can call a server that listens on an address.

    Raises:
        InvalidRequest: It listens on all addresses, and no name is known to call it by.
    """
    if host in {"", "0.0.0.0", "::"} and not names:  # noqa: S104  # nothing is bound here
        raise InvalidRequest(
            f"{option}: {host!r} is no name to call by; give those by which clients call this "
            "machine"
        )


def _verifiers(
    options: Options, settings: Settings
) -> tuple[KnownTokens | None, TokenVerifier | None]:
    """Return what verifies bearer tokens: those of a file, or what an option names."""
    from mcp_server.http.authentication import (  # noqa: PLC0415  # as above
        KnownTokens,
        verifier_named,
    )

    tokens, verifier = options.tokens, options.verifier
    if tokens is not None and verifier is not None:
        raise InvalidRequest("verifier: give either --tokens or --verifier")
    if verifier is not None:
        return None, verifier_named(verifier)
    if tokens is None:
        return None, None
    users = Users.from_file(tokens)
    for agent in users.agents_with_tokens:
        settings.identity(agent)  # one that has no mailbox is told now
    return KnownTokens(users), None


def _check_authorization(options: Options, http: HttpSettings) -> None:
    """Check that access tokens can be verified, and told from the other tokens."""
    if http.authorization_server is None:
        for name, one in DECLARED.items():
            if one.is_for_authorization and getattr(options, name):
                raise InvalidRequest(
                    f"{name}: it is for {flag('authorization_server')}, which is not given"
                )
        return
    if options.verifier is not None:
        raise InvalidRequest("verifier: it would have to know the access tokens, too; give one")
    if http.resource is None and not is_loopback(http.host):
        raise InvalidRequest(
            f"resource: access tokens name this server; say by which URL, since {http.host} is "
            "reached by other machines"
        )
    from mcp_server.http.access_tokens import check_apart  # noqa: PLC0415  # as above

    check_apart(http.agents)


# Issuers and audiences are compared as text, to which no slash must come.
URL = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))


def check_url(name: str, url: Any) -> None:
    """Check such a URL.

    Args:
        name: What it is called, for the error.
        url: The URL.

    Raises:
        InvalidRequest: It is neither HTTPS nor HTTP on loopback, has a user, a query or a fragment,
            or is not in its usual spelling.
    """
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


def host_of(resource: str) -> str:
    """Return the host in the URL of a resource.

    Raises:
        InvalidRequest: It is no URL of one.
    """
    check_url("resource", resource)
    return URL.validate_python(resource).host or ""
