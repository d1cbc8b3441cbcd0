"""A desk in this process, and browsers that keep cookies and send forms."""

import re
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx

from mq9.desk.app import Desk, make_routes, standalone
from mq9.desk.people import OnePerson, Person
from mq9.desk.screens import ROUTES

ORIGIN = "http://127.0.0.1:9095"


@asynccontextmanager
async def opened(broker, name="boss", **options):
    """Open the desk of a person on a broker; a browser that its link has let in."""
    person = Person.named(name)
    desk = Desk(OnePerson(broker.client), broker.clock, only=person, **options)
    async with desk.clients.running(), browser(desk) as one:
        await one.enter()
        yield one


@asynccontextmanager
async def browser(desk):
    """A browser that was not let in."""
    app = standalone(make_routes(desk, ROUTES))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield Browser(desk, client)


class Browser:
    """Shows pages, and sends their forms."""

    def __init__(self, desk, client):
        self.desk = desk
        self.client = client

    async def enter(self):
        """Follow the link of the desk."""
        answer = await self.client.get(f"/desk/enter?link={self.desk.link.renew()}")
        assert answer.status_code == 303, answer.text

    async def get(self, path, status=200, **headers):
        """Show a page."""
        answer = await self.client.get(path, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.text

    async def send(self, path, action, *, then=303, headers=None, **fields):
        """Fill in the form of a page that goes to an action and has these fields, and send it.

        Returns the page that follows.
        """
        form = next(
            one
            for one in forms(await self.get(path))
            if one.action == action
            and all(one.fields.get(k) == v for k, v in fields.items() if k in one.hidden)
        )
        return await self.post(action, {**form.fields, **fields}, then=then, headers=headers)

    async def post(self, action, fields, *, then=303, headers=None):
        """Send a form as it is given."""
        own = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded"}
        answer = await self.client.post(
            action, content=urlencode(fields, doseq=True), headers={**own, **(headers or {})}
        )
        assert answer.status_code == then, answer.text
        if then != 303:
            return answer.text
        return await self.get(answer.headers["location"])


class Form:
    def __init__(self, action):
        self.action, self.fields, self.hidden = action, {}, set()


def forms(html):
    """Return the forms of a page, with what they hold."""
    found = []

    class Reader(HTMLParser):
        name = None

        def handle_starttag(self, tag, attrs):
            given = dict(attrs)
            if tag == "form":
                found.append(Form(given.get("action")))
            elif tag == "input" and found and given.get("name") and given.get("type") != "checkbox":
                found[-1].fields[given["name"]] = given.get("value", "")
                if given.get("type") == "hidden":
                    found[-1].hidden.add(given["name"])
            elif tag == "textarea" and found:
                self.name = given["name"]
                found[-1].fields[self.name] = ""

        def handle_data(self, data):
            if self.name is not None:
                found[-1].fields[self.name] += data.removeprefix("\n")

        def handle_endtag(self, tag):
            if tag == "textarea":
                self.name = None

    Reader().feed(html)
    return found


def text_of(html):
    """Return what a page says, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", html.split("<main", 1)[1]).split())
