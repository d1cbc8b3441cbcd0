"""Reading on with `latest` by a connection that stops waiting, or ends."""

import orjson
from raw import publish
from waiting import until

SUBJECT = "$mq9.AI.MSG.FETCH.inbox"
FETCH = {"deliver": "latest", "force_deliver": False}
NOW = orjson.dumps({**FETCH, "config": {"num_msgs": 10, "max_wait_ms": 0}})
LATER = orjson.dumps({**FETCH, "config": {"num_msgs": 10, "max_wait_ms": 60_000}})


async def count(raw):
    return len(orjson.loads(await raw.ask(SUBJECT, NOW))["messages"])


async def test_who_stops_waiting_has_missed_nothing(hosted):
    client = await hosted.client()
    await client.mailbox_create(name="inbox")
    raw = await hosted.raw()
    assert await count(raw) == 0

    raw.send(b"SUB in 77\r\n" + publish(SUBJECT, LATER, reply="in") + b"PING\r\n")
    assert await raw.frame() == ("PONG",)
    await until(lambda: hosted.broker.waiting == 1)
    raw.send(b"UNSUB 77\r\nPING\r\n")
    assert await raw.frame() == ("PONG",)
    await until(lambda: hosted.broker.waiting == 0)
    await client.send("inbox", "a")
    await client.send("inbox", "b")

    assert await count(raw) == 2
    assert await count(raw) == 0


class ForgettingBroker:
    """A broker that says of which connections it has been told that they ended."""

    def __init__(self, broker):
        self._broker = broker
        self.forgotten = []

    def forget(self, connection):
        self.forgotten.append(connection)
        self._broker.forget(connection)

    def begin(self, request, answer, *, at_once):
        self.asked_by = request.session.consumer
        return self._broker.begin(request, answer, at_once=at_once)

    def __getattr__(self, name):
        return getattr(self._broker, name)


async def test_the_broker_forgets_a_connection_that_ends(open_hosted):
    hosted = await open_hosted(wrap=ForgettingBroker)
    await (await hosted.client()).mailbox_create(name="inbox")
    raw = await hosted.raw()
    await count(raw)
    asked_by = hosted.broker.asked_by
    assert asked_by not in hosted.broker.forgotten

    await raw.close()

    await until(lambda: asked_by in hosted.broker.forgotten)
