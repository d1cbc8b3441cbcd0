"""The desk's application: how a page is declared, guarded and rendered.

A screen is a module of ``mq9.desk.pages`` with a list ``ROUTES`` of what ``page`` and ``action``
return, and a template each, which extends ``base.html``::

    async def show(visit: Visit) -> Response:
        return visit.render("agents.html", agents=await visit.client.agent_discover())

    async def drop(visit: Visit) -> str:
        await visit.client.mailbox_drop(visit.form.text("mail_address"))
        return "The mailbox is dropped."

    ROUTES = [page("/agents", show), action("/mailboxes/drop", drop)]

Everybody who has logged in may get a page. An action is a POST: it is refused without the form's
token, from another web page, and for a reader. It returns a notice, and the browser returns to its
page. An error of mq9 is shown there in the same way; on a page it is the page, with its HTTP
status. Templates put parts that change into elements with an ``id`` and ``data-live``; `desk.js`
replaces these.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import jinja2
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mq9.client.client import Mq9Client
from mq9.clock import Clock
from mq9.desk import access, fields, text
from mq9.desk.access import Link, Session, Sessions
from mq9.desk.changes import Changes
from mq9.desk.people import Admission, Clients, Person
from mq9.desk.showing import link
from mq9.errors import (
    AgentNotFound,
    Forbidden,
    InvalidRequest,
    MailboxNotFound,
    MessageNotFound,
    Mq9Error,
    Unauthorized,
    Unreachable,
)
from mq9.http import names_this_server

logger = logging.getLogger("mq9.desk")

PREFIX = "/desk"
SCREENS = (  # the title of each, and its path below the prefix
    ("Desk", ""),
    ("Conversations", "/conversations"),
    ("Agents", "/agents"),
    ("Stuck", "/stuck"),
    ("Mailboxes", "/mailboxes"),
)
_MOST_FIELDS = 2_000
_MOST_BYTES = 4 * 1024 * 1024  # of a form
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_STATUS: dict[type[Mq9Error], int] = {
    Forbidden: 403,
    Unauthorized: 403,
    InvalidRequest: 400,
    MailboxNotFound: 404,
    MessageNotFound: 404,
    AgentNotFound: 404,
    Unreachable: 503,
}


class Form:
    """The fields of a form, checked as they are read."""

    def __init__(self, data: FormData) -> None:
        self._data = data

    def text(self, name: str, default: str | None = None) -> str:
        """Return a field; without a default it must be there."""
        value = self._data.get(name, default)
        if value is None or isinstance(value, UploadFile):
            raise InvalidRequest(f"{name}: the form lacks it; load the page again")
        return value

    def texts(self, name: str) -> list[str]:
        """Return all fields of a name, such as boxes that are ticked."""
        return [one for one in self._data.getlist(name) if isinstance(one, str)]

    def number(self, name: str) -> int:
        """Return a field that is an integer of 0 or more."""
        return fields.whole(name, self.text(name))

    @property
    def fields(self) -> dict[str, str]:
        """The fields by name, of several with one name the last."""
        return {name: one for name, one in self._data.items() if isinstance(one, str)}


@dataclass(slots=True)
class Visit:
    """One request of a person who has logged in."""

    request: Request
    desk: Desk
    session: Session
    client: Mq9Client
    form: Form

    @property
    def person(self) -> Person:
        """The person who visits."""
        return self.session.person

    @property
    def now(self) -> float:
        """The time in Unix seconds, by the client's clock."""
        return self.client.clock.now_ms() / 1000

    def param(self, name: str) -> str | None:
        """Return a parameter of the URL; None if it is absent or empty."""
        return fields.word(self.request.query_params, name)

    def number_param(self, name: str) -> int | None:
        """Return a parameter of the URL that is an integer."""
        return fields.number(self.request.query_params, name)

    def with_params(self, **changed: object) -> str:
        """Return the URL of this page with other parameters; None removes one."""
        params: dict[str, object] = {**self.request.query_params, **changed}
        given = {name: value for name, value in params.items() if value is not None}
        path = self.request.url.path
        return f"{path}?{urlencode(given)}" if given else path

    def refuse_readers(self) -> None:
        """Raise Forbidden where the person may change nothing."""
        if self.person.reads_only:
            raise Forbidden("role: a reader changes nothing; ask an operator")

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        person = self.person
        values |= {"visit": self, "person": person, "csrf": self.session.csrf}
        values["may_act"] = not person.reads_only
        return self.desk.render(self.request, template, status, **values)


PageFunction = Callable[[Visit], Awaitable[Response]]
ActionFunction = Callable[[Visit], Awaitable[str | Response]]


def page(path: str, show: PageFunction) -> Route:
    """Declare a page."""

    async def answer(request: Request) -> Response:
        desk = _desk(request)
        visit = await desk.visit(request)
        if visit is None:
            return desk.refuse_stranger(request)
        try:
            return await show(visit)
        except Mq9Error as error:
            return visit.render("problem.html", _status(error), problem=str(error))

    return Route(PREFIX + path, answer, methods=["GET"])


def action(path: str, act: ActionFunction, *, readers: bool = False) -> Route:
    """Declare an action; readers may do it only if it is declared so."""

    async def answer(request: Request) -> Response:
        desk = _desk(request)
        visit = await desk.visit(request)
        if visit is None:
            return desk.refuse_stranger(request)
        if not access.is_own_origin(request):
            return PlainTextResponse("the form is not one of the desk's own pages\n", 403)
        if not access.is_genuine(visit.session, visit.form.text("csrf", "")):
            return PlainTextResponse("the form is too old; load its page again\n", 403)
        try:
            if not readers:
                visit.refuse_readers()
            done = await act(visit)
        except Mq9Error as error:
            logger.info("refused", extra=_logged(visit, path) | {"why": str(error)})
            return _back(desk, visit, str(error), is_problem=True)
        logger.info("done", extra=_logged(visit, path))
        return done if isinstance(done, Response) else _back(desk, visit, done)

    return Route(PREFIX + path, answer, methods=["POST"])


def _logged(visit: Visit, path: str) -> dict[str, Any]:
    form = visit.form
    about = {one: form.text(one)[:200] for one in ("mail_address", "msg_id") if form.texts(one)}
    return {"who": visit.person.name, "action": path.strip("/"), **about}


def _status(error: Mq9Error) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def own_path(given: str) -> str | None:
    """Return a page of the desk that a form names, to go back to; None for any other."""
    to = urlsplit(given)
    if to.path != PREFIX and not to.path.startswith(f"{PREFIX}/"):
        return None
    return f"{to.path}?{to.query}" if to.query else to.path


def _back(desk: Desk, visit: Visit, notice: str, *, is_problem: bool = False) -> Response:
    """Return to the page that a form was on, with a notice."""
    visit.session.notices.append((notice, is_problem))
    del visit.session.notices[:-5]
    return RedirectResponse(own_path(visit.form.text("back", "")) or PREFIX, 303)


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


class Desk:
    """A running desk: its logins, and the rendering of its pages."""

    def __init__(
        self,
        admission: Admission,
        clock: Clock,
        *,
        only: Person | None = None,
        hosts: Collection[str] = (),
    ) -> None:
        self.admission = admission
        self.clock = clock
        self.sessions = Sessions(clock)
        self.clients = Clients(admission)
        self.changes = Changes()
        self.link = Link(clock)
        self._only = only  # whom the link lets in
        self._hosts = {one.lower() for one in hosts}
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("mq9.desk"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"PREFIX": PREFIX, "SCREENS": SCREENS}
        self._templates.globals |= {"link": link, "item_of": fields.item_of}
        self._templates.filters |= text.FILTERS

    def cookie(self, request: Request) -> str:
        """Return the name of the session's cookie, with the port, since cookies ignore ports."""
        return f"mq9-desk-{request.url.port or 80}"

    def is_known_host(self, request: Request) -> bool:
        """Return whether a request was sent to a name of this server."""
        return names_this_server(request.headers.get("host", ""), self._hosts)

    async def visit(self, request: Request) -> Visit | None:
        """Return the visit of a person who has logged in; None for others."""
        session = self.sessions.find(request.cookies.get(self.cookie(request)))
        if session is None:
            return None
        form = await _form(request) if request.method == "POST" else FormData()
        return Visit(request, self, session, await self.clients.of(session.person), Form(form))

    def refuse_stranger(self, request: Request) -> Response:
        """Redirect to the login form, or explain how to log in."""
        if self.admission.has_login:
            return RedirectResponse(f"{PREFIX}/login", 303)
        return self.render(request, "closed.html", 403)

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page made of a template."""
        visit: Visit | None = values.get("visit")
        notices = []
        if visit is not None and "x-desk-part" not in request.headers:
            notices, visit.session.notices = visit.session.notices, []
        now = self.clock.now_ms() / 1000
        values = {"visit": None, "person": None, "csrf": ""} | values
        html = self._templates.get_template(template).render(
            **values, notices=notices, now=now, path=request.url.path, here=_here(request)
        )
        return HTMLResponse(html, status)

    def let_in(self, request: Request, person: Person, to: str = PREFIX) -> Response:
        """Begin a session, and go to a page."""
        answer = RedirectResponse(to, 303)
        answer.set_cookie(
            self.cookie(request),
            self.sessions.begin(person),
            path=PREFIX,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def enter(self, request: Request) -> Response:
        """Let the browser in that has the link."""
        token = request.query_params.get("link", "")
        if self._only is None or not self.link.redeem(token):
            return self.render(request, "closed.html", 403)
        logger.info("let in by the link", extra={"who": self._only.name})
        return self.let_in(request, self._only)

    async def login_form(self, request: Request) -> Response:
        """Show the form for logging in."""
        if not self.admission.has_login:
            return self.render(request, "closed.html", 403)
        return self.render(request, "login.html", problem="", user="")

    async def log_in(self, request: Request) -> Response:
        """Let somebody in whose credentials are right."""
        if not self.admission.has_login:
            return self.render(request, "closed.html", 403)
        if not access.is_own_origin(request):
            return PlainTextResponse("the form is not one of the desk's own pages\n", 403)
        form = Form(await _form(request))
        user, secret = form.text("user", ""), form.text("secret", "")
        given = {"user": user, "pass": secret} if user else {"auth_token": secret}
        address = request.client.host if request.client else ""
        try:
            # A user alone would be taken for a token, and the user's name is shown and logged.
            person = await self.admission.log_in(given if secret else {}, address)
        except Unauthorized:
            logger.warning("a login was refused", extra={"address": address})
            problem = "Wrong user, password or token."
            return self.render(request, "login.html", 403, problem=problem, user=user)
        logger.info("logged in", extra={"who": person.name, "address": address})
        return self.let_in(request, person)

    async def log_out(self, visit: Visit) -> Response:
        """End the session."""
        self.sessions.end(visit.request.cookies[self.cookie(visit.request)])
        if not self.sessions.has(visit.person):
            await self.clients.close_of(visit.person)
        answer = RedirectResponse(f"{PREFIX}/login" if self.admission.has_login else PREFIX, 303)
        answer.delete_cookie(self.cookie(visit.request), path=PREFIX)
        return answer


async def _form(request: Request) -> FormData:
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > _MOST_BYTES:
        raise InvalidRequest(f"form: it is longer than {_MOST_BYTES} bytes, or of unknown length")
    return await request.form(max_files=0, max_fields=_MOST_FIELDS)


def _here(request: Request) -> str:
    """Return the path of the page with its parameters, to come back to."""
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def make_routes(desk: Desk, screens: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Return the routes of a desk, for an app that may have others."""
    own = [
        Route(f"{PREFIX}/enter", desk.enter, methods=["GET"]),
        Route(f"{PREFIX}/login", desk.login_form, methods=["GET"]),
        Route(f"{PREFIX}/login", desk.log_in, methods=["POST"]),
        action("/logout", desk.log_out, readers=True),
        *screens,
    ]
    inner = Starlette(
        routes=[
            Mount(f"{PREFIX}/static", StaticFiles(packages=[("mq9.desk", "static")])),
            *own,
        ],
        exception_handlers={Mq9Error: _plain},
    )
    inner.router.redirect_slashes = False
    inner.state.desk = desk
    guarded = _Guarded(inner, desk)
    return [Route(PREFIX, guarded), Route(f"{PREFIX}/{{path:path}}", guarded)]


async def _plain(_request: Request, error: Exception) -> Response:
    """Return the error page of a request before any page or action."""
    status = _status(error) if isinstance(error, Mq9Error) else 500
    return PlainTextResponse(f"{error}\n", status)


class _Guarded:
    """Refuses requests to another host, and sets the headers that browsers guard pages by."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                if scope["path"].startswith(f"{PREFIX}/static/"):
                    message["headers"].append((b"cache-control", b"no-cache"))  # it has an ETag
                    given.add(b"cache-control")
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in _HEADERS.items()
                        if name.encode() not in given
                    ),
                ]
            await send(message)

        request = Request(scope)
        app: ASGIApp = self._app
        if not self._desk.is_known_host(request):
            app = PlainTextResponse("that is not a name of this server\n", 421)
        scope = {**scope, "root_path": "", "path_params": {}}
        await app(scope, receive, with_headers)


def standalone(routes: Sequence[BaseRoute]) -> Starlette:
    """Return an app of nothing but a desk."""

    async def to_desk(_request: Request) -> Response:
        return RedirectResponse(PREFIX, 303)

    app = Starlette(routes=[Route("/", to_desk), *routes])
    app.router.redirect_slashes = False
    return app
