"""Open pages learn that something has changed."""

from contextlib import asynccontextmanager

import hosted
import httpx

from mq9 import Mq9Client
from mq9.clock import SystemClock
from mq9.desk.app import Desk, make_routes, standalone
from mq9.desk.people import OnePerson, Person
from mq9.desk.screens import ROUTES
from mq9.http.port import listening, serving
from mq9.questions import TAG, MailedQuestion


@asynccontextmanager
async def on_a_port(url):
    """Serve a desk; a browser that was let in."""
    desk = Desk(OnePerson(lambda: Mq9Client(url)), SystemClock(), only=Person.named("boss"))
    with await listening("port", "127.0.0.1", 0) as listener:
        at = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with (
            desk.clients.running(),
            serving(standalone(make_routes(desk, ROUTES)), listener),
            httpx.AsyncClient(base_url=at, timeout=30) as browser,
        ):
            await browser.get(f"/desk/enter?link={desk.link.renew()}")
            yield browser


async def events(stream):
    """Yield the names of the events of a stream."""
    async for line in stream.aiter_lines():
        if line.startswith("event: "):
            yield line.removeprefix("event: ")


async def test_a_page_is_told_of_a_question(tmp_path):
    url = f"sqlite:///{tmp_path / 'mq9.db'}"
    async with Mq9Client(url) as client, on_a_port(url) as browser:
        await client.mailbox_create(name="boss")
        async with browser.stream("GET", "/desk/events") as stream:
            told = events(stream)
            assert await anext(told) == "hello"
            await client.send("boss", MailedQuestion(text="Send it?").to_json(), tags=[TAG])
            assert await anext(told) == "changed"
        assert "Send it?" in (await browser.get("/desk")).text


async def test_a_server_without_users_tells_of_ones_own_mailbox():
    async with (
        hosted.running() as server,
        Mq9Client(server.url) as client,
        on_a_port(server.url) as browser,
        browser.stream("GET", "/desk/events") as stream,
    ):
        await client.mailbox_create(name="boss")
        told = events(stream)
        assert await anext(told) == "hello"
        await client.send("boss", MailedQuestion(text="Send it?").to_json(), tags=[TAG])
        assert await anext(told) == "changed"


async def test_a_stranger_is_told_nothing(tmp_path):
    async with on_a_port(f"sqlite:///{tmp_path / 'mq9.db'}") as browser:
        browser.cookies.clear()
        assert (await browser.get("/desk/events")).status_code == 403


async def test_streams_of_one_person_are_bounded(tmp_path):
    async with on_a_port(f"sqlite:///{tmp_path / 'mq9.db'}") as browser:
        open_ = [browser.build_request("GET", "/desk/events") for _ in range(21)]
        answers = [await browser.send(one, stream=True) for one in open_]
        try:
            assert [one.status_code for one in answers].count(429) == 1
        finally:
            for one in answers:
                await one.aclose()
