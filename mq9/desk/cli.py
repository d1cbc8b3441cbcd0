"""``mq9 desk``: the desk of one person, on a port of this machine."""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
import webbrowser
from typing import Annotated

import typer

from mq9 import logs
from mq9.cli.agent_options import option, parameters
from mq9.cli.program import new_app, taking
from mq9.client.client import Mq9Client
from mq9.clock import SystemClock
from mq9.desk.app import PREFIX, Desk, make_routes, standalone
from mq9.desk.people import OnePerson, Person
from mq9.desk.screens import ROUTES
from mq9.errors import InvalidRequest, Unreachable
from mq9.http.port import listening, serving
from mq9.protocol import checks
from mq9.signals import stop_on_signals
from mq9.transport.open import default_url, shown_url

_HOST = "127.0.0.1"
_PORT = 9095

_OPTIONS = {
    "name": Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Whose desk.  [default: your own name]"),
    ],
    "url": option(str | None, "Broker.  [default: one file per user]", "URL", envvar="MQ9_SERVER"),
    "port": option(
        int | None, f"Port.  [default: {_PORT}, or any if that is taken]", "PORT", min=0
    ),
    "opens": Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")],
}


def _serve(*, name: str | None, url: str | None, port: int | None, opens: bool) -> None:
    """Open the desk in a browser: your questions and your agents.

    The desk is a page on this machine. The printed link works once, for one browser.

    Example: mq9 desk --as boss
    """
    logs.configure_by_variables("warning")
    asyncio.run(_run(name, url or default_url(), port, opens=opens))


app = new_app()
app.command("desk")(taking(parameters(_OPTIONS, {"opens": True}), _serve, _serve.__doc__))


async def _run(name: str | None, url: str, port: int | None, *, opens: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop.set)
    person = await _person(name, url)
    admission = OnePerson(lambda: Mq9Client(url))
    desk = Desk(admission, SystemClock(), only=person)
    with await _listener(port) as listener:
        at = f"http://{_HOST}:{listener.getsockname()[1]}{PREFIX}"
        link = f"{at}/enter?link={desk.link.renew()}"
        async with (
            desk.clients.running(),
            serving(standalone(make_routes(desk, ROUTES)), listener),
        ):
            typer.echo(link)
            typer.echo(f"The desk of {person.name} on {shown_url(url)}, until Ctrl-C.")
            if opens and not await asyncio.to_thread(webbrowser.open, link):
                typer.echo("No browser was found. Open the link yourself.")
            await stop.wait()


async def _person(name: str | None, url: str) -> Person:
    """Return who uses the desk: whom the broker knows, else a name that is claimed."""
    async with Mq9Client(url) as client:
        known = await client.whoami()
    if known is None:
        try:
            claimed = name or getpass.getuser()
        except (KeyError, OSError) as error:
            raise InvalidRequest(f"as: this user has no name ({error}); give --as NAME") from None
        return Person.named(checks.agent_name("as", claimed))
    if name not in {None, known}:
        raise InvalidRequest(
            f"as: the server knows you as {known!r}; leave out --as, or connect as {name!r}"
        )
    return Person.named(known, is_verified=True)


async def _listener(port: int | None) -> socket.socket:
    if port is not None:
        return await listening("port", _HOST, port)
    try:
        return await listening("port", _HOST, _PORT)
    except Unreachable as error:
        logging.getLogger("mq9.desk").info("%s; another port is used", error)
        return await listening("port", _HOST, 0)
