"""The program ``mq9-mcp``: its options and its commands."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import typer.main
from mcp.server.auth.provider import TokenVerifier

from mcp_server import run
from mcp_server.hosts.doctor import doctor
from mcp_server.hosts.install import DEFAULT_KEY, Plan, make_entry, plan_install, plan_undo
from mcp_server.hosts.known import HOSTS, Host, Scope, host_named
from mcp_server.hosts.machine import Machine
from mcp_server.http.claimed_names import check_apart
from mcp_server.http.routes import KnownTokens, verifier_named
from mcp_server.http.trusted_urls import host_of
from mcp_server.naming import refuse_auto
from mcp_server.settings import AUTO, HOST_LEASE_S, PREFIX, Settings, settings_from
from mcp_server.startup.front import Front
from mq9.cli.call import register
from mq9.cli.output import harmless
from mq9.cli.program import Program, new_app
from mq9.errors import InvalidRequest
from mq9.http.loopback import is_loopback
from mq9.operations.limits import DEFAULT_MAX_CHARS, DEFAULT_REGISTRATION_TTL_S
from mq9.server.users import Users
from mq9.transport.open import default_url

_HELP = """A mailbox for an MCP host, such as Claude Desktop, Claude Code, Codex, Cursor or VS Code.

Without a command it serves MCP on standard input and output, which is how hosts start it:
`mq9-mcp install HOST` writes that into a host's configuration. With --http it serves streamable
HTTP instead.

Without --server the broker is the one that MQ9_SERVER names, else the file that this user's
programs share: two hosts on one machine can write to each other with nothing else running.
"""
_PORT = 8765
_OF_ACCESS_TOKENS = ("resource", "agent_claim", "scope")
_OVER_HTTP = (
    *("tokens", "verifier", "allow_host", "allow_origin", "stateless"),
    *("authorization_server", *_OF_ACCESS_TOKENS),
)

app = new_app(cls=Program, help=_HELP)


@app.callback(invoke_without_command=True)
def serve(  # noqa: D103, PLR0917  # the help is above; typer passes every option by name
    context: typer.Context,
    agent: Annotated[
        str | None,
        typer.Option(
            envvar="MQ9_AGENT",
            help="Who the host is among the agents: its name; auto: that of host and project.",
        ),
    ] = None,
    mail_address: Annotated[
        str | None, typer.Option(help="Its mailbox.  [default: its name in a-z, 0-9 and dots]")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            envvar="MQ9_SERVER",
            metavar="URL",
            help="Broker: nats://host:port, tls://host:port or sqlite:///path. Others on this "
            "machine see the command line: put a password in the variable.",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer only what changes nothing.")
    ] = False,
    tools: Annotated[
        str | None, typer.Option(help="Offer only these, separated by commas.")
    ] = None,
    allow_send: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Where agents may send to. May be repeated."),
    ] = None,
    allow_read: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="What they may read beside their own mail. Repeatable."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="What the names of the tools begin with.")] = PREFIX,
    lease: Annotated[
        int, typer.Option(min=1, max=86_400, help="Seconds that fetched mail stays theirs.")
    ] = HOST_LEASE_S,
    max_chars: Annotated[
        int, typer.Option(min=100, help="Characters of mail in one result.")
    ] = DEFAULT_MAX_CHARS,
    registration: Annotated[
        int,
        typer.Option(
            min=0, metavar="DAYS", help="Days without a sign of life until it is unlisted; 0: none."
        ),
    ] = DEFAULT_REGISTRATION_TTL_S // 86_400,
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP, at /mcp.")] = False,
    host: Annotated[
        str, typer.Option(envvar="MQ9_MCP_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(envvar="MQ9_MCP_PORT", min=0, max=65535, help="Port; 0: any free one."),
    ] = _PORT,
    tokens: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="TOML file of bearer tokens: who may come in, as whom."),
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="What verifies bearer tokens, instead of a file."),
    ] = None,
    authorization_server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Who issues access tokens (OAuth) for this server."),
    ] = None,
    resource: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Its URL, which tokens name as audience.  [default: where it listens]",
        ),
    ] = None,
    agent_claim: Annotated[
        str | None,
        typer.Option(metavar="CLAIM", help="What in a token names the agent.  [default: sub]"),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="What a token has to be good for. May be repeated."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which clients call this machine. Repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Web pages that may call. May be repeated."),
    ] = None,
    stateless: Annotated[
        bool, typer.Option("--stateless", help="Keep no sessions, for several servers in a row.")
    ] = False,
    state_key: Annotated[
        str | None,
        typer.Option(
            envvar="MQ9_MCP_STATE_KEY",
            help="A secret that several servers in a row share. Prefer the variable.",
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error, on standard error.")
    ] = "warning",
) -> None:
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return
    logging.basicConfig(
        level=_level(log_level),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    settings = settings_from(
        prefix, tools, read_only, allow_read, allow_send, lease, max_chars, registration
    )
    if not http:
        _only_over_http(**{name: context.params[name] for name in _OVER_HTTP})
        if agent == AUTO and mail_address is not None:
            raise InvalidRequest(
                f"mail_address: {mail_address!r} is one mailbox, and agents that are named "
                "automatically have one each; leave it out, or give the agent a name"
            )
        front = context.obj if isinstance(context.obj, Front) else None
        asyncio.run(run.over_stdio(settings, _named(agent), mail_address, server, front))
        return
    known, verifier_given = _verifiers(tokens, verifier, settings)
    door = run.Door(
        host=host,
        port=port,
        verifier=known or verifier_given,
        agents=() if known is None else known.agents,
        state_key=state_key,
        hosts=(*(allow_host or ()), *(() if resource is None else (host_of(resource),))),
        origins=allow_origin or (),
        stateless=stateless,
        authorization_server=authorization_server,
        resource=resource,
        agent_claim="sub" if agent_claim is None else agent_claim,
        scopes=scope or (),
    )
    if authorization_server is not None:
        _check_authorization(door, verifier)
    else:
        for name in _OF_ACCESS_TOKENS:
            if context.params[name]:
                raise InvalidRequest(
                    f"{name}: it is for --authorization-server, which is not given"
                )
    if door.is_open:
        agent = _named(agent)
        refuse_auto("agent", agent)
        if not is_loopback(host):
            raise InvalidRequest(
                f"host: other machines reach {host}, and anybody could act as {agent!r}; give "
                "--tokens, --authorization-server or --verifier"
            )
    elif agent is not None or mail_address is not None:
        raise InvalidRequest(
            f"agent: {agent or mail_address!r} is given, but the token says who asks"
        )
    run.check_names("allow_host", host, door.hosts)
    asyncio.run(run.over_http(settings, agent, mail_address, server, door))


def _refuse_options(context: typer.Context, command: str) -> None:
    """Refuse what stands before a command, which would not heed it."""
    for name, value in context.params.items():
        if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE":
            raise InvalidRequest(
                f"{name}: {value!r} is for serving; what {command} takes stands behind it"
            )


def _named(agent: str | None) -> str:
    if agent is None:
        raise InvalidRequest("agent: say who the host is among the agents, with --agent NAME")
    return agent


def _only_over_http(**given: object) -> None:
    for name, value in given.items():
        if value:
            raise InvalidRequest(f"{name}: it is for --http, which is not given")


def _verifiers(
    tokens: Path | None, verifier: str | None, settings: Settings
) -> tuple[KnownTokens | None, TokenVerifier | None]:
    """Return what verifies tokens, be it a file or something else."""
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


def _check_authorization(door: run.Door, verifier: str | None) -> None:
    """See whether access tokens can be told from the others, and what they are good for."""
    if verifier is not None:
        raise InvalidRequest("verifier: it would have to know the access tokens, too; give one")
    if door.resource is None and not is_loopback(door.host):
        raise InvalidRequest(
            f"resource: access tokens name this server; say by which URL, since {door.host} is "
            "reached by other machines"
        )
    check_apart(door.agents)


def _level(level: str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or level.lower() not in {"debug", "info", "warning", "error"}:
        raise InvalidRequest(f"log_level: {level!r} is not debug, info, warning or error")
    return number


@app.command()
def install(  # noqa: PLR0917  # typer passes every option by name
    host: Annotated[str, typer.Argument(metavar="HOST", help=f"One of {', '.join(HOSTS)}.")],
    agent: Annotated[
        str | None,
        typer.Option(
            help="Who the host is among the agents; auto: that of host and project.  "
            "[default: HOST; auto with --project]"
        ),
    ] = None,
    mail_address: Annotated[
        str | None, typer.Option(help="Its mailbox.  [default: its name in a-z, 0-9 and dots]")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Broker.  [default: MQ9_SERVER, else one file per user]"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="A further option of mq9-mcp, such as --read-only. Repeatable."
        ),
    ] = None,
    key: Annotated[str, typer.Option(help="What the host calls the server.")] = DEFAULT_KEY,
    project: Annotated[
        bool, typer.Option("--project", help="For the project in this directory only.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--print", help="Print the entry, and change nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    edit: Annotated[
        bool, typer.Option("--edit", help="Edit the file, though the host has its own command.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put back what was there before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Write this server into a host's configuration, after showing what changes.

    The rest of the configuration stays as it is. Start the host anew afterwards.
    """
    found, machine = host_named(host), Machine.here()
    scope: Scope = "project" if project else "user"
    if undo:
        plan = plan_undo(found, machine, key=key, scope=scope, edit=edit)
        _carry_out(found, plan, yes=yes, dry_run=dry_run)
        return
    own = [] if mail_address is None else ["--mail-address", mail_address]
    _check(agent or found.name, [*own, *(option or ())])
    entry = make_entry(
        found,
        machine,
        server=server if server is not None or project else default_url(),
        scope=scope,
        agent=agent,
        mail_address=mail_address,
        options=option or (),
        key=key,
    )
    if show:
        typer.echo(entry.text)
        return
    _carry_out(found, plan_install(entry, machine, edit=edit), yes=yes, dry_run=dry_run)


def _check(agent: str, options: Sequence[str]) -> None:
    """See whether a host could start the server with some options."""
    command = typer.main.get_command(app)
    with command.make_context("mq9-mcp", ["--agent", agent, *options]) as context:
        given = context.params
        rest = [*context._protected_args, *context.args]  # noqa: SLF001  # what is no option
    if rest:
        raise InvalidRequest(f"with: {rest[0]!r} is no option")
    if given["http"]:
        raise InvalidRequest(
            "with: hosts start the server on standard input and output, not --http"
        )
    _only_over_http(**{name: given[name] for name in _OVER_HTTP})
    for name, option in (("agent", "--agent"), ("server", "--server")):
        if any(one.split("=")[0] == option for one in options):
            raise InvalidRequest(f"with: {given[name]!r} is what {option} of install is for")
    settings = settings_from(
        **{name: given[name] for name in inspect.signature(settings_from).parameters}
    )
    settings.identity(given["agent"], given["mail_address"])
    _level(given["log_level"])


def _carry_out(host: Host, plan: Plan, *, yes: bool, dry_run: bool) -> None:
    if not plan.is_change:
        typer.echo(f"{plan.path} is as it should be; nothing to do")
        return
    if plan.command:
        typer.echo(f"runs: {harmless(plan.command)}")
    if plan.config.closes:
        typer.echo(f"{plan.path} holds a password or token: only you can read it afterwards")
    typer.echo(harmless(plan.diff) or "only what is remembered of an earlier install goes")
    if dry_run:
        return
    if not yes:
        typer.confirm(f"\nChange {plan.path}?", abort=True, err=True)
    plan.apply()
    typer.echo(f"done; start {host.title} anew")


register(app, "doctor", doctor)
