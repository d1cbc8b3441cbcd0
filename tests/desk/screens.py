"""A desk of somebody on a broker with some mail, for the tests of screens."""

import contextlib
import re
from html.parser import HTMLParser
from types import SimpleNamespace

from mq9.desk.app import Desk as Served
from mq9.desk.people import OnePerson, Person
from tests.desk.desks import ORIGIN, browser


class Desk:
    """The desk of one person, in a browser that was let in."""

    def __init__(self, http, csrf):
        self._http = http
        self._csrf = csrf

    async def get(self, path, **query):
        """Get a page: its `status`, its `text`, and what is `seen` of it."""
        url = path if path.startswith("/desk") else f"/desk/{path}"
        return _seen(await self._http.get(url, params=query or None))

    async def ok(self, path, **query):
        """Get a page that is there."""
        page = await self.get(path, **query)
        assert page.status == 200, page.text
        return page

    async def post(self, path, **form):
        """Send a form as one of the desk's pages would; `told` is what the next page says of it."""
        reply = await self._http.post(
            f"/desk/{path}", data={"csrf": self._csrf, **form}, headers={"origin": ORIGIN}
        )
        assert reply.status_code in {303, 400}, reply.text
        page = _seen(reply)
        if reply.status_code == 303:
            page = await self.ok(reply.headers["location"])
        return SimpleNamespace(told=page.notice, is_problem=page.is_problem, page=page)


def _seen(reply):
    parser = Page()
    parser.feed(reply.text)
    return SimpleNamespace(
        status=reply.status_code,
        headers=reply.headers,
        text=reply.text,
        seen=_joined(parser.words),
        notice=_joined(parser.notice),
        is_problem=parser.is_problem,
        csrf=parser.csrf,
        tags=parser.tags,
        links=[values.get("href") or "" for tag, values in parser.tags if tag == "a"],
        buttons=[tag for tag, _ in parser.tags if tag in {"button", "textarea"}],
    )


def _joined(words):
    return re.sub(r"\s+", " ", "".join(words)).strip()


_INLINE = {"a", "small", "strong", "time", "span", "code", "i"}


class Page(HTMLParser):
    """The elements of the page inside `main`, or of one without it, and its words."""

    def __init__(self):
        super().__init__()
        self.tags = []
        self.words = []
        self.notice = []
        self.is_problem = False
        self.csrf = ""
        self._in_notice = False
        self._is_over = False

    def handle_starttag(self, tag, attrs):
        if self._is_over:
            return
        values = dict(attrs)
        if values.get("name") == "csrf":
            self.csrf = values["value"]
        if tag == "main":
            self.tags, self.words = [], []  # the head is of all pages
        self.tags.append((tag, values))
        if tag not in _INLINE:
            self.words.append(" ")
        if tag == "p" and "notice" in (values.get("class") or "").split():
            self._in_notice = True
            self.is_problem = values.get("role") == "alert"

    def handle_endtag(self, tag):
        if tag == "p":
            self._in_notice = False
        if tag == "main":
            self._is_over = True  # the list of keys follows

    def handle_data(self, data):
        if self._is_over:
            return
        self.words.append(data)
        if self._in_notice:
            self.notice.append(data)


@contextlib.asynccontextmanager
async def desk_of(client, name="boss", *, reads_only=False, connect=None):
    """The desk of somebody whose requests a client makes."""
    person = Person.named(name, reads_only=reads_only)
    served = Served(OnePerson(connect or (lambda: client)), client.clock, only=person)
    async with browser(served) as one:
        await one.enter()
        page = _seen(await one.client.get("/desk/stuck"))
        yield Desk(one.client, page.csrf)
