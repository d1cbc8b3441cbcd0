"""The program ``mq9-mcp`` with its commands."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

import typer
import typer.main

from mcp_server.delivery.hook import run as run_hook
from mcp_server.delivery.permission import run as run_permission
from mcp_server.delivery.shapes import EVENTS, PERMISSIONS, WAKEABLE
from mcp_server.delivery.watch import run as run_watch
from mcp_server.hosts.delivery import (
    MOST_WAIT_S,
    Asking,
    delivery_of,
    plan_delivery,
    plan_delivery_undo,
)
from mcp_server.hosts.doctor import doctor
from mcp_server.hosts.entry import DEFAULT_KEY, make_entry, make_remote_entry
from mcp_server.hosts.host import Host, Machine, Remote, Scope
from mcp_server.hosts.known import HOSTS, host_named
from mcp_server.hosts.plan import Plan, plan_install, plan_undo
from mcp_server.http.settings import checked_access, refuse_http_options
from mcp_server.options import DECLARED, FIELDS, LOG_LEVELS, Options, flag
from mcp_server.settings import AUTO
from mcp_server.startup.begin import StdinReader
from mq9 import logs
from mq9.cli import plugins
from mq9.cli.program import Program, is_typed, new_app, register, taking
from mq9.errors import InvalidRequest
from mq9.printable import harmless
from mq9.transport.open import default_url

_HELP = f"""{plugins.SUMMARIES["mcp"]}

Without a command it serves MCP on standard input and output, as hosts start it. With --http it
serves streamable HTTP. `mq9-mcp install HOST` configures a host.

The broker is --server, or MQ9_SERVER, or the file that all programs of your user share. With that
file, two hosts on one machine can write to each other without a server.
"""


class _Mq9Mcp(Program):
    """The program ``mq9-mcp``."""

    examples: ClassVar = {
        "install": ("mq9-mcp install cursor", "mq9-mcp install claude-code --deliver --approve"),
        "doctor": ("mq9-mcp doctor",),
    }


_EPILOG = "\b\nExamples:\n  mq9-mcp install cursor\n  mq9-mcp --agent desk --read-only"

app = new_app(cls=_Mq9Mcp, help=_HELP, epilog=_EPILOG)


def _serve(context: typer.Context, **given: Any) -> None:
    if find_spec("mcp") is None:  # what needs it is loaded when it is used
        raise ModuleNotFoundError("No module named 'mcp'", name="mcp")
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return
    options = Options(**given)
    check_log_level(options)
    logs.configure_logging(options.log_level, os.environ.get("MQ9_LOG_FORMAT") or "text")
    settings = options.settings()
    if options.http:
        access = checked_access(options, settings)
        from mcp_server.http.serving import serve_http  # noqa: PLC0415  # the SDK takes a second

        asyncio.run(serve_http(options, settings, access))
        return
    refuse_http_options(options)
    if options.agent == AUTO and options.mail_address is not None:
        raise InvalidRequest(
            f"mail_address: {options.mail_address!r} is one mailbox, and agents that are named "
            "automatically have one each; leave it out, or give the agent a name"
        )
    reader = context.obj if isinstance(context.obj, StdinReader) else None
    agent = options.known_agent()
    from mcp_server.stdio import serve_stdio  # noqa: PLC0415  # the SDK takes a second

    asyncio.run(serve_stdio(settings, agent, options.mail_address, options.server, reader))


def check_log_level(options: Options) -> None:
    """Refuse a level of the log that is none."""
    level = options.log_level
    if level.lower() not in LOG_LEVELS:
        raise InvalidRequest(f"log_level: {level!r} is not debug, info, warning or error")


def _refuse_options(context: typer.Context, command: str) -> None:
    """Refuse what stands before a command, which would not heed it."""
    for name, value in context.params.items():
        if is_typed(context, name):
            raise InvalidRequest(
                f"{name}: {value!r} is for serving; what {command} takes stands behind it"
            )


_types = get_type_hints(Options)
_parameters = [
    inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=FIELDS[name].default,
        annotation=Annotated[
            _types[name],
            typer.Option(
                flag(name),
                help=one.help,
                envvar=one.variable,
                metavar=one.metavar,
                min=one.least,
                max=one.most,
                dir_okay=_types[name] != Path | None,
            ),
        ],
    )
    for name, one in DECLARED.items()
]
_context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
app.callback(invoke_without_command=True)(taking([_context, *_parameters], _serve, None))


@app.command()
def install(
    *,
    host: str = typer.Argument(..., metavar="HOST", help=f"One of {', '.join(HOSTS)}."),
    agent: str | None = typer.Option(
        None,
        help="The agent's name. auto: derived from host and project.  "
        "[default: HOST; auto with --project]",
    ),
    mail_address: str | None = typer.Option(None, help=DECLARED["mail_address"].help),
    server: str | None = typer.Option(
        None, metavar="URL", help="Broker.  [default: MQ9_SERVER, else one file per user]"
    ),
    option: list[str] | None = typer.Option(
        None, "--with", help="Another option of mq9-mcp, such as --read-only. Repeatable."
    ),
    url: str | None = typer.Option(
        None, metavar="URL", help="Connect to a server over HTTP instead of starting one."
    ),
    token_variable: str | None = typer.Option(
        None, metavar="NAME", help="Variable with the bearer token for --url."
    ),
    key: str = typer.Option(DEFAULT_KEY, help="Name of the server in the host."),
    project: bool = typer.Option(
        False, "--project", help="Configure the project in this directory only."
    ),
    show: bool = typer.Option(False, "--print", help="Print the entry, and change nothing."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the change, and write nothing."),
    deliver: bool = typer.Option(
        False, "--deliver", help="Write hooks that deliver mail by themselves."
    ),
    approve: bool = typer.Option(
        False, "--approve", help="Let the host call these tools without asking."
    ),
    approvals: str | None = typer.Option(
        None, metavar="NAME", help="Ask NAME by mail for permissions."
    ),
    approvals_wait: int | None = typer.Option(
        None,
        min=1,
        max=MOST_WAIT_S,
        metavar="SECONDS",
        help="Seconds to wait for NAME.  [default: 3600 in Claude Code, else 300]",
    ),
    undo: bool = typer.Option(False, "--undo", help="Restore the former configuration."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask for confirmation."),
) -> None:
    """Write this server into a host's configuration.

    The command shows the change and asks first. Nothing else changes. Restart the host afterwards.
    """
    found, machine = host_named(host), Machine.here()
    asking = _asking(approvals, approvals_wait)
    scope: Scope = "project" if project else "user"
    if undo:
        settings = partial(plan_delivery_undo, found.name, machine, key=key, scope=scope)
        entry_undone = partial(plan_undo, found, machine, key=key, scope=scope)
        plans: list[Plan] = [*settings()]
        steps: list[_Step] = [settings]
        try:
            plans.append(entry_undone())
            steps.append(lambda: [entry_undone()])
        except InvalidRequest:
            if not plans:
                raise
        _carry_out(found, plans, steps, yes, dry_run)
        return
    if url is not None:
        _refuse_beside_url(
            agent=agent,
            mail_address=mail_address,
            server=server,
            with_=option,
            deliver=deliver,
            approvals=approvals,
        )
        entry = make_remote_entry(
            found, machine, url=url, scope=scope, variable=token_variable, key=key
        )
    elif token_variable is not None:
        raise InvalidRequest(f"token_variable: {token_variable!r} is for --url")
    else:
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
    plan = plan_install(entry, machine)
    delivery = partial(
        plan_delivery, entry, machine, deliver=deliver, approve=approve, asking=asking
    )
    settings_plans = delivery(planned=plan.config)
    if show:
        typer.echo("\n".join([entry.text, *(harmless(one.diff) for one in settings_plans)]))
        return
    _carry_out(found, [plan, *settings_plans], [lambda: [plan], delivery], yes, dry_run)
    if not dry_run:
        _say_what_follows(found, scope, deliver=deliver, asking=asking)


def _asking(approvals: str | None, wait_s: int | None) -> Asking | None:
    """Return the person who decides about permissions; None for none."""
    if approvals is not None:
        return Asking(approvals, wait_s)
    if wait_s is not None:
        raise InvalidRequest(f"approvals_wait: {wait_s} is for --approvals")
    return None


def _say_what_follows(host: Host, scope: Scope, *, deliver: bool, asking: Asking | None) -> None:
    """Explain the hooks, and the next step for the host to run them."""
    if deliver:
        typer.echo(f"A session is told of mail {delivery_of(host.name).when}.")
    if asking is not None:
        typer.echo(asking.described(host.name))
    if deliver or asking is not None:
        for line in delivery_of(host.name).left_to_do(scope, deliver=deliver):
            typer.echo(f"- {line}")


def _refuse_beside_url(**given: object) -> None:
    """Refuse options of a server that the host would start."""
    for name, one in given.items():
        if one:
            raise InvalidRequest(
                f"{name.rstrip('_')}: {one!r} is for a server that the host starts; who is behind "
                "--url knows its agents by their tokens"
            )


def _check(agent: str, words: Sequence[str]) -> None:
    """See that a host could start the server with these options."""
    command = typer.main.get_command(app)
    with command.make_context("mq9-mcp", ["--agent", agent, *words]) as context:
        options = Options(**context.params)
        rest = [*context._protected_args, *context.args]  # noqa: SLF001  # what is no option
    if rest:
        raise InvalidRequest(f"with: {rest[0]!r} is not an option")
    if options.http:
        raise InvalidRequest(
            "with: hosts start the server on standard input and output, not --http"
        )
    refuse_http_options(options)
    for name, given in (("agent", options.agent), ("server", options.server)):
        if any(one.split("=")[0] == flag(name) for one in words):
            raise InvalidRequest(f"with: {given!r} is what {flag(name)} of install is for")
    options.settings().identity(options.known_agent(), options.mail_address)
    check_log_level(options)


_Step = Callable[[], Sequence[Plan]]


def _carry_out(
    host: Host,
    plans: Sequence[Plan],
    steps: Sequence[_Step],
    yes: bool,
    dry_run: bool,
) -> None:
    """Show what plans change, ask, and take the steps; each is planned when that before is done."""
    changes = [one for one in plans if one.is_change]
    if not changes:
        typer.echo(f"{plans[0].path} is as it should be; nothing to do")
        return
    for plan in changes:
        if plan.config.closes:
            typer.echo(f"{plan.path} holds a password or token: only you can read it afterwards")
        typer.echo(harmless(plan.diff) or "only what is remembered of an earlier install goes")
    if dry_run:
        return
    if not yes:
        paths = dict.fromkeys(str(one.path) for one in changes)
        typer.confirm(f"\nChange {' and '.join(paths)}?", abort=True, err=True)
    for step in steps:
        for plan in step():
            if plan.is_change:
                plan.apply()
    typer.echo(f"done; start {host.title} anew{_where_the_token_is(host, plans)}")


def _where_the_token_is(host: Host, plans: Sequence[Plan]) -> str:
    for plan in plans:
        remote = None if plan.entry is None else plan.entry.launch
        if isinstance(remote, Remote) and remote.variable is not None:
            title = host.title
            if remote.token is None:
                return f", where {remote.variable} is set to the token"
            return f"; its file holds the token itself, since {title} reads no variables there"
    return ""


# The program runs these three before this is loaded. Here they are for their help, and `mq9 mcp`.


@app.command("hook")
def _hook(
    host: str = typer.Argument(..., metavar="HOST", help=f"One of {', '.join(EVENTS)}."),
    event: str = typer.Argument(..., metavar="EVENT", help="As the host calls it, such as Stop."),
    agent: str = typer.Option(..., metavar="NAME", envvar="MQ9_AGENT", help="The agent's name."),
) -> None:
    """Tell a host's session of new mail.

    It reads the host's event from standard input, and asks the server that the host runs.
    If there is no new mail, it prints nothing.
    """
    raise typer.Exit(run_hook([host, event, "--agent", agent]))


@app.command("watch")
def _watch(
    host: str = typer.Argument(..., metavar="HOST", help=f"One of {', '.join(WAKEABLE)}."),
    agent: str = typer.Option(..., metavar="NAME", envvar="MQ9_AGENT", help="The agent's name."),
    session: str | None = typer.Option(
        None, metavar="ID", help="The session.  [default: from the host, on standard input]"
    ),
) -> None:
    """Wake a host's idle session when mail comes.

    It ends with the server that the host runs, and when a newer one watches the session.
    """
    named = [] if session is None else ["--session", session]
    raise typer.Exit(run_watch([host, "--agent", agent, *named]))


@app.command("permission")
def _permission(
    host: str = typer.Argument(..., metavar="HOST", help=f"One of {', '.join(PERMISSIONS)}."),
    event: str = typer.Argument(
        ..., metavar="EVENT", help="As the host calls it, such as PermissionRequest."
    ),
    agent: str = typer.Option(..., metavar="NAME", envvar="MQ9_AGENT", help="The agent's name."),
    approvals: str | None = typer.Option(None, metavar="NAME", help="The person to ask."),
    wait: int | None = typer.Option(
        None, min=1, metavar="SECONDS", help="Time to wait for the person."
    ),
) -> None:
    """Ask a person by mail for a permission that a host needs.

    It reads what the host says on standard input, and prints the decision in the host's shape.
    Without an answer in time it prints nothing, and the host asks by itself.
    """
    person = [] if approvals is None else ["--approvals", approvals]
    seconds = [] if wait is None else ["--wait", str(wait)]
    raise typer.Exit(run_permission([host, event, "--agent", agent, *person, *seconds]))


register(app, "doctor", doctor)
