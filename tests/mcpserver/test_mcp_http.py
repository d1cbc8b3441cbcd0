"""The server over HTTP: both protocol eras, with sessions and without, and from where."""

import asyncio

import pytest
from hosting import ERAS, HELLO
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification
from over_http import OLDER, Wire, by_hand, connected, served, served_to, waits
from waiting import until

from mq9 import InvalidRequest
from mq9.operations.catalog import ALL

INBOX = "mq9://mailbox/desk"


async def test_every_tool_resource_and_prompt_is_reached(still_broker, variant):
    async with served_to(still_broker, variant) as desk:
        assert len((await desk.client.list_tools()).tools) == len(ALL)
        await desk.do("agent_register", name="desk", capabilities="Writes")
        assert len((await desk.do("agent_discover"))["agents"]) == 1
        replies = (await desk.do("create_mailbox"))["mail_address"]
        await desk.do("send_message", to="desk", content="Grüße", reply_to=replies)
        [message] = (await desk.do("fetch_messages", wait_seconds=0))["messages"]
        assert message["untrusted_envelope"]["from"] == "desk"
        assert message["untrusted_content"] == "Grüße"
        kept = await desk.do("ack_messages", msg_id=0, outcome="more_time", seconds=600)
        assert (kept["extended"], kept["leased_seconds"]) == ([0], 600)
        given = await desk.do("ack_messages", msg_id=0, outcome="give_back")
        assert given["given_back"] == [0]
        [message] = (await desk.do("fetch_messages"))["messages"]
        assert message["delivery_count"] == 2
        assert (await desk.do("ack_messages", msg_id=0))["acked"] == [0]
        assert len((await desk.do("query_messages"))["messages"]) == 1
        assert (await desk.do("whoami"))["name"] == "desk"
        assert len((await desk.read(INBOX))["messages"]) == 1
        assert (await desk.client.get_prompt("check_inbox")).messages
        deleting = {"mail_address": "desk", "msg_id": 0}
        assert "confirm_address" in await desk.fail("delete_message", **deleting)
        await desk.do("delete_message", **deleting, confirm_address="desk")
        await desk.do("agent_unregister")


async def test_a_host_hears_that_a_wait_goes_on(still_broker, variant):
    heard = []

    async def hear(*said):
        heard.append(said)

    clock = still_broker.clock
    async with served_to(still_broker, variant) as desk:
        call = ("mq9_fetch_messages", {"wait_seconds": 12})
        waiting = asyncio.create_task(desk.client.call_tool(*call, progress_callback=hear))
        await waits(still_broker)
        for count in (1, 2):
            await clock.advance(5)
            await until(lambda count=count: len(heard) == count)
        await clock.advance(2)
        assert (await waiting).structured_content["empty"] == "no mail waits"
    assert heard == [(one, 12, f"no mail yet, after {one} of 12 s") for one in (5, 10)]
    assert not clock.pending_timers


async def give_up(still_broker, waiting):
    """Cancel a fetch; what comes then is delivered to another consumer at once."""
    await waits(still_broker)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await waits(still_broker, 0)
    async with still_broker.client() as other:
        await other.send("desk", "x")
        [message] = await other.fetch("desk", group_name="desk", deliver="earliest")
        assert message.delivery_count == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_given_up_takes_nothing(still_broker, era):
    async with served(still_broker) as url, connected(url, era) as desk:
        waiting = asyncio.create_task(desk.call("fetch_messages", wait_seconds=45))
        await give_up(still_broker, waiting)
        await desk.do("whoami")


async def test_a_call_whose_connection_breaks_takes_nothing(still_broker, variant):
    async with served(still_broker, stateless=variant.stateless) as url:
        wire = Wire(url, variant.era)
        if variant.era == OLDER:
            await wire.begin()
        waiting = asyncio.create_task(wire.call("fetch_messages", wait_seconds=45))
        await give_up(still_broker, waiting)
        assert '"name":"desk"' in (await wire.call("whoami")).text  # the session goes on


async def test_the_older_protocol_tells_of_new_mail_over_its_stream(still_broker):
    heard = []

    async def hear(message):
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)

    async with (
        served(still_broker) as url,
        connected(url, OLDER, message_handler=hear) as desk,
        still_broker.client() as sender,
    ):

        async def send_until_heard(address):
            before = heard.count(f"mq9://mailbox/{address}")
            while heard.count(f"mq9://mailbox/{address}") == before:
                await sender.send(address, "x")  # the stream may come later than the subscription
                await asyncio.sleep(0.01)

        other = (await desk.do("create_mailbox"))["mail_address"]
        await desk.client.subscribe_resource(INBOX)
        await send_until_heard("desk")
        await desk.client.unsubscribe_resource(INBOX)
        await waits(still_broker, 0)

        await desk.client.subscribe_resource(f"mq9://mailbox/{other}")
        await send_until_heard(other)  # and so has all been heard that was told before
        count = heard.count(INBOX)
        await sender.send("desk", "x")
        await send_until_heard(other)
        assert heard.count(INBOX) == count


@pytest.mark.parametrize("stateless", [False, True])
async def test_the_current_protocol_tells_of_new_mail_over_its_stream(still_broker, stateless):
    async with (
        served(still_broker, stateless=stateless) as url,
        connected(url) as desk,
        still_broker.client() as sender,
    ):
        async with desk.client.listen(resource_subscriptions=[INBOX]) as updates:
            assert updates.honored.resource_subscriptions == [INBOX]
            await sender.send("desk", "one")
            assert (await anext(updates)).uri == INBOX
        await waits(still_broker, 0)
        if stateless:  # the older one then has no subscriptions
            async with connected(url, OLDER) as older:
                assert not older.client.server_capabilities.resources.subscribe
                with pytest.raises(MCPError, match="Method not found"):
                    await older.client.subscribe_resource(INBOX)


LOOPBACK = [
    *("127.0.0.1", "127.0.0.1:8765", "localhost", "localhost:1", "[::1]", "[::1]:8765"),
    *("LOCALHOST", "LocalHost:8765", "localhost.", "Localhost.:8765"),
]


async def status(url, variant, **headers):
    wire = Wire(url, variant.era, **headers)
    if variant.era == OLDER and not variant.stateless:
        return (await wire.ask("initialize", **HELLO)).status_code
    return (await wire.ask()).status_code


NO_NAMES = [
    *("evil.example", "localhost.evil.example", "127.0.0.2", "", "evil.example:8765"),
    *("localhost..", "[::2]:8765", "[::1"),
]
LOCAL_PAGES = ["http://localhost", "http://localhost:6274", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("options", "header", "refusal", "accepted", "refused"),
    [
        ({}, "Host", 421, LOOPBACK, NO_NAMES),
        (
            {"hosts": ["Mail.example"]},
            *("Host", 421, ["mail.example", "MAIL.example.:443", *LOOPBACK]),
            ["x.mail.example", "mail.example.evil"],
        ),
        (
            {},
            *("Origin", 403, LOCAL_PAGES),
            ["http://evil.example", "http://localhost.evil.example", "https://app.example", "null"],
        ),
        (
            {"origins": ["https://app.example"]},
            *("Origin", 403, ["https://app.example", "http://localhost:6274"]),
            ["http://app.example", "https://app.example:8443", "https://x.app.example"],
        ),
    ],
    ids=["names", "a name that is given", "pages", "a page that is given"],
)
async def test_only_this_machine_and_what_is_given_may_be_named(
    still_broker, variant, options, header, refusal, accepted, refused
):
    async with served(still_broker, stateless=variant.stateless, **options) as url:
        for answer, values in ((200, accepted), (refusal, refused)):
            for value in values:
                assert await status(url, variant, **{header: value}) == answer, value


async def test_that_holds_whatever_is_asked(still_broker, variant):
    async with served(still_broker, stateless=variant.stateless) as url, by_hand() as http:
        wire = Wire(url, variant.era)
        if variant.era == OLDER:
            await wire.begin()
        for method in ("GET", "DELETE", "PUT", "OPTIONS"):
            for name, value, answer in (("Host", "evil.example", 421), ("Origin", "null", 403)):
                refused = await http.request(method, url, headers={**wire.headers, name: value})
                assert refused.status_code == answer


APP = "https://app.example"
# What a page has to ask for before it may send it, in both eras.
ASKED = (
    "authorization,content-type,last-event-id,mcp-method,mcp-name,mcp-protocol-version,"
    "mcp-session-id"
)


def preflight(origin, method="POST", headers=ASKED):
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


async def test_a_browser_may_ask_before_it_sends_a_token(still_broker, variant):
    # Nobody's token is known, and none is needed to ask.
    async with (
        served(still_broker, verifier=Nobody(), stateless=variant.stateless, origins=[APP]) as url,
        by_hand() as http,
    ):
        for method in ("GET", "POST", "DELETE"):
            told = await http.options(url, headers=preflight(APP, method))
            assert told.status_code == 200
            assert told.headers["Access-Control-Allow-Origin"] == APP
            assert method in told.headers["Access-Control-Allow-Methods"]
            allowed = told.headers["Access-Control-Allow-Headers"].lower().split(", ")
            assert set(ASKED.split(",")) <= set(allowed)
            assert "Origin" in told.headers["Vary"]
            assert "Access-Control-Allow-Credentials" not in told.headers
        for refused in (preflight(APP, "PUT"), preflight(APP, headers="cookie")):
            assert (await http.options(url, headers=refused)).status_code == 400
        local = preflight(APP) | {"Access-Control-Request-Private-Network": "true"}
        told = await http.options(url, headers=local)
        assert told.headers["Access-Control-Allow-Private-Network"] == "true"


class Nobody:
    async def verify_token(self, token):
        return None


async def test_a_page_reads_answers_and_refusals_if_its_origin_is_given(still_broker, variant):
    async with served(
        still_broker, stateless=variant.stateless, origins=[APP, "http://localhost:*"]
    ) as url:
        for page in (APP, "http://localhost", "http://localhost:6274"):
            told = await Wire(url, variant.era, Origin=page).ask("initialize", **HELLO)
            assert told.headers["Access-Control-Allow-Origin"] == page
            assert told.headers["Vary"] == "Origin"
            exposed = told.headers["Access-Control-Expose-Headers"].split(", ")
            assert {"Mcp-Session-Id", "MCP-Protocol-Version", "WWW-Authenticate"} <= set(exposed)
    async with served(
        still_broker, verifier=Nobody(), stateless=variant.stateless, origins=[APP]
    ) as url:
        told = await Wire(url, variant.era, Origin=APP).ask()
        assert (told.status_code, told.headers["Access-Control-Allow-Origin"]) == (401, APP)
        assert "WWW-Authenticate" in told.headers


async def test_no_other_page_reads_anything(still_broker, variant):
    def allows(told):
        return [name for name in told.headers if name.startswith("access-control-allow-origin")]

    async with (
        served(still_broker, stateless=variant.stateless, origins=[APP]) as url,
        by_hand() as http,
    ):
        for page in ("http://localhost:6274", "https://evil.example", f"{APP}.evil", "null"):
            told = await http.options(url, headers=preflight(page))
            assert told.status_code in {400, 403}
            assert not allows(told)
            assert not allows(await Wire(url, variant.era, Origin=page).ask("initialize", **HELLO))
        rebound = preflight(APP) | {"Host": "evil.example"}
        assert (await http.options(url, headers=rebound)).status_code == 421
    async with served(still_broker, stateless=variant.stateless) as url, by_hand() as http:
        assert not allows(await http.options(url, headers=preflight("http://localhost")))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("HTTPS://App.example/", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
    ],
)
async def test_an_origin_is_meant_as_browsers_write_it(still_broker, given, meant):
    async with served(still_broker, origins=[given]) as url, by_hand() as http:
        told = await http.options(url, headers=preflight(meant))
        assert told.headers["Access-Control-Allow-Origin"] == meant


@pytest.mark.parametrize(
    "given",
    [
        *("*", "null", "", "app.example", "https://", "https://app.example/page", "https://a:b"),
        *("https://app.example?x", "https://*.example", "https://[::1", "https://me@app.example"),
    ],
)
async def test_what_is_no_origin_is_refused(still_broker, given):
    with pytest.raises(InvalidRequest, match=r"^allow_origin: .* is not a web origin"):
        async with served(still_broker, origins=[given]):
            pass


async def test_who_would_go_on_with_a_stream_gets_a_new_one(still_broker):
    heard = asyncio.Event()
    async with (
        served(still_broker) as url,
        still_broker.client() as sender,
        by_hand() as http,
        connected(url, OLDER) as other,
    ):
        await other.do("whoami")  # which makes the mailbox
        wire = await Wire(url, OLDER).begin()
        await wire.ask("resources/subscribe", uri=INBOX)
        stream = http.stream("GET", url, headers={**wire.headers, "Last-Event-ID": "7"})
        async with asyncio.TaskGroup() as tasks, stream as told:
            assert told.status_code == 200
            assert told.headers["Content-Type"].startswith("text/event-stream")

            async def send():
                while not heard.is_set():  # the stream is there once its head has come, or later
                    await sender.send("desk", "x")
                    await asyncio.sleep(0.01)

            tasks.create_task(send())
            async for line in told.aiter_lines():
                if line.startswith("data:"):
                    assert "notifications/resources/updated" in line
                    break
            heard.set()


async def test_the_current_protocol_has_no_stream_to_go_on_with(still_broker):
    async with served(still_broker) as url, by_hand() as http:
        headers = {**Wire(url).headers, "Last-Event-ID": "7"}
        told = await http.get(url, headers=headers)
        assert (told.status_code, told.headers["Allow"]) == (405, "POST")
