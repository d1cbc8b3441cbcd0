"""The official SDKs can work with `mq9 serve`: their requests, byte for byte as they write them.

Each of them decodes every payload from base64, whether or not it is marked.
"""

import base64

import orjson
import pytest

from mq9.clock import SystemClock
from mq9.protocol.headers import PayloadEncoding

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]

BODIES = [b"hello", "雪 ☃".encode(), b"", b"aGVsbG8=", bytes(range(256))]

# What each SDK sends for the same calls; their JSON writers differ in spaces and order.
OTHERS = ("go", "rust", "javascript", "java", "csharp")
CREATE = {
    "python": b'{"ttl": 0, "name": "box"}',
    **dict.fromkeys(OTHERS, b'{"name":"box","ttl":0}'),
    "csharp": b'{"ttl":0,"name":"box"}',
}
FETCH = {
    "python": b'{"deliver": "latest", "force_deliver": false, "config": {"num_msgs": 100,'
    b' "max_wait_ms": 500}, "group_name": "g"}',
    "go": b'{"config":{"max_wait_ms":500,"num_msgs":100},"deliver":"latest","force_deliver":false,'
    b'"from_id":0,"from_time":0,"group_name":"g"}',
    "rust": b'{"config":{"max_wait_ms":500,"num_msgs":100},"deliver":"latest",'
    b'"force_deliver":false,"group_name":"g"}',
    "javascript": b'{"group_name":"g","deliver":"latest","from_time":0,"from_id":0,'
    b'"force_deliver":false,"config":{"num_msgs":100,"max_wait_ms":500}}',
    "java": b'{"group_name":"g","deliver":"latest","force_deliver":false,'
    b'"config":{"num_msgs":100,"max_wait_ms":500}}',
    "csharp": b'{"group_name":"g","deliver":"latest","force_deliver":false,'
    b'"config":{"num_msgs":100,"max_wait_ms":500}}',
}
# What the NATS library of each calls itself.
LIBRARIES = {
    "python": "python3",
    "go": "go",
    "rust": "rust",
    "javascript": "nats.js",
    "java": "java",
    "csharp": ".NET",
}
WITHOUT_NAME = {"python": b'{"ttl": 0}', **dict.fromkeys(OTHERS, b'{"ttl":0}')}
STATELESS = {
    "python": FETCH["python"].replace(b', "group_name": "g"', b""),
    "go": FETCH["go"].replace(b'"group_name":"g"', b'"group_name":""'),
    "rust": FETCH["rust"].replace(b',"group_name":"g"', b""),
    "javascript": FETCH["javascript"].replace(b'"group_name":"g"', b'"group_name":""'),
    "java": FETCH["java"].replace(b'"group_name":"g",', b""),
    "csharp": FETCH["csharp"].replace(b'"group_name":"g"', b'"group_name":null'),
}
ACK = {
    "python": b'{"group_name": "g", "mail_address": "box", "msg_id": 0}',
    **dict.fromkeys(OTHERS, b'{"group_name":"g","mail_address":"box","msg_id":0}'),
}
DELETE = {"python": b'""', **dict.fromkeys(OTHERS, b""), "rust": b"{}", "javascript": b"{}"}
# How a SEND without options looks: headers that it carries.
PRIORITY = {**dict.fromkeys(FETCH, ()), "java": [("mq9-priority", "normal")]}


@pytest.fixture
async def hosted(open_hosted):
    """A server on which time passes: what these SDKs ask for waits for mail."""
    return await open_hosted(clock=SystemClock())


@pytest.fixture
async def sdk(hosted):
    """A connection without headers of ours."""
    return await hosted.raw(lang="official")


async def ask(raw, verb, body=b"", headers=()):
    reply = orjson.loads(await raw.ask(f"$mq9.AI.{verb}", body, headers))
    assert reply["error"] == "", reply
    return reply


def decoded(reply):
    """Read payloads as the official SDKs do."""
    return [base64.b64decode(item["payload"], validate=True) for item in reply["messages"]]


@pytest.mark.parametrize("language", FETCH)
async def test_an_official_sdk_reads_what_was_sent(sdk, language):
    for body in BODIES:
        assert (await ask(sdk, "MAILBOX.CREATE", CREATE[language]))["mail_address"] == "box"
        assert (await ask(sdk, "MSG.SEND.box", body, PRIORITY[language]))["msg_id"] == 0

        assert decoded(await ask(sdk, "MSG.FETCH.box", FETCH[language])) == [body]
        await ask(sdk, "MSG.ACK.box", ACK[language])
        assert decoded(await ask(sdk, "MSG.FETCH.box", FETCH[language])) == []
        assert decoded(await ask(sdk, "MSG.FETCH.box", STATELESS[language])) == [body]
        assert decoded(await ask(sdk, "MSG.QUERY.box", b"{}")) == [body]
        await ask(sdk, "MSG.DELETE.box.0", DELETE[language])
        assert decoded(await ask(sdk, "MSG.QUERY.box", b"{}")) == []
        await ask(sdk, "MAILBOX.DROP.box")


@pytest.mark.parametrize("language", FETCH)
async def test_consume_without_a_group_is_given_each_message_once(sdk, language):
    await ask(sdk, "MAILBOX.CREATE", CREATE[language])
    await ask(sdk, "MSG.SEND.box", b"stored")
    seen = []
    for body in (b"a", b"b"):
        for _ in range(3):
            seen += decoded(await ask(sdk, "MSG.FETCH.box", STATELESS[language]))
        await ask(sdk, "MSG.SEND.box", body)
    seen += decoded(await ask(sdk, "MSG.FETCH.box", STATELESS[language]))

    assert seen == [b"stored", b"a", b"b"]


async def test_consume_without_a_group_begins_again_on_a_new_connection(hosted, sdk):
    await ask(sdk, "MAILBOX.CREATE", CREATE["go"])
    await ask(sdk, "MSG.SEND.box", b"a")
    for _ in range(2):
        async with await hosted.raw(lang="go") as raw:
            seen = [decoded(await ask(raw, "MSG.FETCH.box", STATELESS["go"])) for _ in range(2)]
            assert seen == [[b"a"], []]


async def test_a_query_before_the_first_fetch_is_answered_as_official_sdks_read(hosted):
    for language, library in LIBRARIES.items():
        async with await hosted.raw(lang=library) as raw:
            for create in (CREATE[language], WITHOUT_NAME[language]):
                address = (await ask(raw, "MAILBOX.CREATE", create))["mail_address"]
                await ask(raw, f"MSG.SEND.{address}", b"hello")
                assert decoded(await ask(raw, f"MSG.QUERY.{address}", b"{}")) == [b"hello"]
                await ask(raw, f"MAILBOX.DROP.{address}")


@pytest.mark.parametrize(
    ("library", "create"),
    [
        (None, CREATE["go"]),  # no library
        ("python3", CREATE["go"]),  # not as Python's json writes it
        ("go", b'{"name": "box", "ttl": 0}'),  # with spaces
        ("rust", b'{"name":"box","ttl":null,"desc":null}'),  # RobustMQ's own tests
        ("python3", b'{"ttl": 0, "name": "box", "renew": false}'),
        ("go", b'{"name":"box"}'),
    ],
)
async def test_a_create_of_another_shape_is_no_sign_of_an_official_sdk(hosted, library, create):
    who = {"lang": library} if library else {}
    async with await hosted.raw(**who) as raw:
        await ask(raw, "MAILBOX.CREATE", create)
        await ask(raw, "MSG.SEND.box", b"hello")
        [item] = (await ask(raw, "MSG.QUERY.box", b"{}"))["messages"]
        assert (item["payload"], "encoding" in item) == ("hello", False)
        await ask(raw, "MAILBOX.DROP.box")


async def test_a_fetch_says_for_certain_what_a_create_only_hinted_at(sdk):
    await ask(sdk, "MAILBOX.CREATE", CREATE["go"])
    await ask(sdk, "MSG.SEND.box", b"hello")
    for verb, body, expected in (
        ("QUERY", b"{}", "aGVsbG8="),
        ("FETCH", b"{}", "hello"),
        ("QUERY", b"{}", "hello"),
        ("FETCH", STATELESS["go"], "aGVsbG8="),
        ("QUERY", b"{}", "aGVsbG8="),
        ("FETCH", b"{}", "aGVsbG8="),
    ):
        [item] = (await ask(sdk, f"MSG.{verb}.box", body))["messages"]
        assert item["payload"] == expected


@pytest.mark.parametrize("language", FETCH)
async def test_the_quick_start_of_an_official_sdk_reads_the_message_that_it_sent(sdk, language):
    await ask(sdk, "MAILBOX.CREATE", CREATE[language])
    await ask(sdk, "MSG.SEND.box", b"before")
    urgent = [("mq9-priority", "urgent"), ("mq9-key", "k"), ("mq9-tags", "a,b")]
    await ask(sdk, "MSG.SEND.box", b"hello", urgent)

    assert decoded(await ask(sdk, "MSG.FETCH.box", FETCH[language])) == [b"hello"]


async def test_an_official_sdk_registers_and_finds_agents(sdk):
    card = b'{"name":"Cook","mailbox":"box","payload":"soup"}'
    await ask(sdk, "AGENT.REGISTER", card)
    found = await ask(sdk, "AGENT.DISCOVER", b'{"limit":20,"page":1,"text":"soup"}')
    assert found["agents"] == [orjson.loads(card)]
    await ask(sdk, "AGENT.REPORT", b'{"mailbox":"box","load":1}')
    await ask(sdk, "AGENT.UNREGISTER", b'{"mailbox":"box"}')


async def test_a_fetch_whose_fields_are_null_is_not_one_of_an_official_sdk(sdk):
    """RobustMQ's own tests send every field, null where it is not meant, and read text."""
    await ask(sdk, "MAILBOX.CREATE", CREATE["go"])
    await ask(sdk, "MSG.SEND.box", b"hello")
    everything = {
        "group_name": "g",
        "deliver": "earliest",
        "from_time": None,
        "from_id": None,
        "force_deliver": None,
        "config": {"num_msgs": 10, "max_wait_ms": None},
    }
    for official in (
        everything,
        everything | {"force_deliver": False},
        everything | {"config": {"num_msgs": 10, "max_wait_ms": 0}},
        everything | {"force_deliver": False, "config": {"num_msgs": None, "max_wait_ms": 0}},
        everything | {"deliver": None, "force_deliver": False},
    ):
        [item] = (await ask(sdk, "MSG.FETCH.box", orjson.dumps(official)))["messages"]
        assert (item["payload"], "encoding" in item) == ("hello", False)


async def test_other_connections_get_what_they_read(hosted, sdk):
    await ask(sdk, "MAILBOX.CREATE", CREATE["go"])
    await ask(sdk, "MSG.SEND.box", b"hello")
    await ask(sdk, "MSG.FETCH.box", FETCH["go"])

    async with await hosted.raw() as by_hand:
        for verb in ("MSG.FETCH.box", "MSG.QUERY.box"):
            [item] = (await ask(by_hand, verb, b'{"deliver":"earliest"}'))["messages"]
            assert (item["payload"], "encoding" in item) == ("hello", False)
    async with await hosted.client() as ours:
        assert [message.payload for message in await ours.fetch("box")] == [b"hello"]


async def test_a_request_gets_what_its_header_asks_for_whatever_is_known_of_its_client(sdk):
    await ask(sdk, "MAILBOX.CREATE", CREATE["go"])
    await ask(sdk, "MSG.SEND.box", b"hello")
    for headers, expected in (
        ([("mq9-encoding", "text")], "hello"),
        ((), "aGVsbG8="),
        ([("mq9-encoding", "text")], "hello"),
        ([("mq9-encoding", "base64")], "aGVsbG8="),
    ):
        for verb, body in (("MSG.FETCH.box", STATELESS["go"]), ("MSG.QUERY.box", b"")):
            [item] = (await ask(sdk, verb, body, headers))["messages"]
            assert item["payload"] == expected


@pytest.mark.parametrize(
    ("option", "queried", "fetched"),
    [("auto", "hello", "aGVsbG8="), ("text", "hello", "hello"), ("base64", *["aGVsbG8="] * 2)],
)
async def test_the_server_may_be_told_how_bodies_are_written(open_hosted, option, queried, fetched):
    hosted = await open_hosted(clock=SystemClock(), encoding=PayloadEncoding(option))
    raw = await hosted.raw()
    async with await hosted.client() as ours:
        await ask(raw, "MAILBOX.CREATE", CREATE["java"])
        await ask(raw, "MSG.SEND.box", b"hello")
        asked = (("QUERY", b"{}", queried), ("FETCH", FETCH["java"], fetched))
        for verb, body, expected in asked:
            [item] = (await ask(raw, f"MSG.{verb}.box", body))["messages"]
            assert item["payload"] == expected
        [item] = (await ask(raw, "MSG.QUERY.box", b"", [("mq9-encoding", "text")]))["messages"]
        assert item["payload"] == "hello"
        assert [message.payload for message in await ours.query("box")] == [b"hello"]
