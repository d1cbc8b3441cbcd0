"""The options of ``mq9-mcp``: declared once, for the command line and for what reads it early.

Nothing here needs typer or the MCP SDK, which take long to load.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.settings import (
    HOST_KEEP_S,
    HOST_LEASE_S,
    PREFIX,
    UNRENEWED_LEASE_S,
    Settings,
    WakePolicy,
)
from mq9.errors import InvalidRequest
from mq9.operations.identity import (
    DEFAULT_MAX_CHARS,
    DEFAULT_REGISTRATION_TTL_S,
    DEFAULT_STRANGER_CLAIMS,
    MAX_WAIT_S,
)

_WAKE = WakePolicy()
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class DeclaredOption:
    """An option, without its name, type and default."""

    help: str
    variable: str | None = None
    metavar: str | None = None  # None for its type
    least: int | None = None
    most: int | None = None
    is_for_http: bool = False
    is_for_authorization: bool = False


def _option(default: Any, help_: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"option": DeclaredOption(help_, **more)})


def _http_option(default: Any, help_: str, **more: Any) -> Any:
    return _option(default, help_, is_for_http=True, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options that ``mq9-mcp`` is started with; see the help of each."""

    agent: str | None = _option(
        None,
        "The agent's name. auto: derived from host and project.",
        variable="MQ9_AGENT",
    )
    mail_address: str | None = _option(None, "Its mailbox.  [default: derived from its name]")
    server: str | None = _option(
        None,
        "Broker: nats://host:port, tls://host:port or sqlite:///path. Put a password in the "
        "variable: other users of this machine see the command line.",
        variable="MQ9_SERVER",
        metavar="URL",
    )
    read_only: bool = _option(False, "Offer only tools that change nothing.")
    tools: str | None = _option(None, "Offer only these tools, separated by commas.")
    allow_send: list[str] | None = _option(
        None, "Addresses to which it may send. Repeatable.", metavar="GLOB"
    )
    allow_read: list[str] | None = _option(
        None, "Addresses that it may read, in addition to its own. Repeatable.", metavar="GLOB"
    )
    prefix: str = _option(PREFIX, "Prefix of the tools' names.")
    lease: int | None = _option(
        None,
        "Duration of leases without a renewal.  [default: 30; 300 without sessions]",
        least=1,
        most=86_400,
    )
    max_wait: int | None = _option(
        None,
        "Longest wait of one call.  [default: 45; 600 for patient hosts]",
        least=0,
        most=MAX_WAIT_S,
    )
    stranger_claims: int = _option(
        DEFAULT_STRANGER_CLAIMS,
        "Urgent messages of a stranger that come first.",
        least=0,
        most=1_000,
    )
    max_chars: int = _option(DEFAULT_MAX_CHARS, "Most characters of mail in one result.", least=100)
    registration: int = _option(
        DEFAULT_REGISTRATION_TTL_S // 86_400,
        "Days without activity until its registration ends. 0: none.",
        metavar="DAYS",
        least=0,
    )
    wake_from: list[str] | None = _option(
        None,
        "Senders whose mail may wake it: everyone, known, nobody or an agent. Repeatable.  "
        "[default: known]",
        metavar="WHO",
    )
    wake_in_a_row: int = _option(
        _WAKE.in_a_row, "Automatic turns between two prompts.", least=0, most=100
    )
    wake_per_hour: int = _option(_WAKE.per_hour, "Automatic turns in an hour.", least=0, most=100)
    wake_cooldown: int = _option(
        _WAKE.cooldown_s, "Time between two automatic turns.", least=0, most=3_600
    )
    http: bool = _http_option(False, "Serve streamable HTTP at /mcp.")
    host: str = _http_option("127.0.0.1", "Address to listen on.", variable="MQ9_MCP_HOST")
    port: int = _http_option(
        8765, "Port to listen on. 0: any free port.", variable="MQ9_MCP_PORT", least=0, most=65535
    )
    tokens: Path | None = _http_option(None, "TOML file of bearer tokens and their agents.")
    verifier: str | None = _http_option(
        None, "Verifier of bearer tokens, instead of a file.", metavar="MODULE:NAME"
    )
    authorization_server: str | None = _http_option(
        None, "Issuer of OAuth access tokens for this server.", metavar="URL"
    )
    resource: str | None = _http_option(
        None,
        "Its URL, the audience of tokens.  [default: its address]",
        metavar="URL",
        is_for_authorization=True,
    )
    agent_claim: str | None = _http_option(
        None,
        "Claim that names the agent.  [default: sub]",
        metavar="CLAIM",
        is_for_authorization=True,
    )
    scope: list[str] | None = _http_option(
        None,
        "Scope that a token needs. Repeatable.",
        metavar="SCOPE",
        is_for_authorization=True,
    )
    allow_host: list[str] | None = _http_option(
        None, "Host name under which it may be called. Repeatable.", metavar="NAME"
    )
    allow_origin: list[str] | None = _http_option(
        None, "Web origin that may call it. Repeatable.", metavar="ORIGIN"
    )
    stateless: bool = _http_option(
        False, "Keep no sessions, for several servers behind one address."
    )
    state_key: str | None = _http_option(
        None,
        "Secret that these servers share. Use the variable.",
        variable="MQ9_MCP_STATE_KEY",
    )
    log_level: str = _option("warning", "debug, info, warning or error, on standard error.")

    def settings(self) -> Settings:
        """Return the offers to the agents."""
        tools = self.tools
        return Settings(
            prefix=self.prefix,
            tools=None if tools is None else [one.strip() for one in tools.split(",")],
            read_only=self.read_only,
            allow_read=self.allow_read or (),
            allow_send=self.allow_send or None,
            lease_ms=(HOST_LEASE_S if self.lease is None else self.lease) * 1000,
            unrenewed_lease_ms=(UNRENEWED_LEASE_S if self.lease is None else self.lease) * 1000,
            keep_ms=HOST_KEEP_S * 1000,
            max_wait_s=self.max_wait,
            stranger_claims=self.stranger_claims,
            max_chars=self.max_chars,
            registration_ttl=self.registration * 86_400,
            wake=WakePolicy.of_senders(
                self.wake_from,
                in_a_row=self.wake_in_a_row,
                per_hour=self.wake_per_hour,
                cooldown_s=self.wake_cooldown,
            ),
        )

    def known_agent(self) -> str:
        """Return the agent's name."""
        if self.agent is None:
            raise InvalidRequest("agent: say who the host is among the agents, with --agent NAME")
        return self.agent


# By the name of the field, in the order in which the help lists them.
FIELDS: Mapping[str, dataclasses.Field[Any]] = {
    one.name: one for one in dataclasses.fields(Options)
}
DECLARED: Mapping[str, DeclaredOption] = {
    name: one.metadata["option"] for name, one in FIELDS.items()
}
FOR_STDIO = tuple(name for name, one in DECLARED.items() if not one.is_for_http)


def flag(name: str) -> str:
    """Return how an option is written on the command line."""
    return f"--{name.replace('_', '-')}"


def takes_value(name: str) -> bool:
    """Return whether an option takes a value."""
    return FIELDS[name].type != "bool"
