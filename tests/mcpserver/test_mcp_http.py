"""The server over HTTP: both protocol eras, with sessions and without, and from where."""

import asyncio

import pytest
from hosting import ERAS, HELLO
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification
from over_http import OLDER, Wire, by_hand, connected, served, waits
from waiting import until

from mq9 import InvalidRequest
from mq9.operations.catalog import ALL

INBOX = "mq9://mailbox/desk"


@pytest.fixture
def broker(still_broker):
    return still_broker


async def test_every_tool_resource_and_prompt_is_reached(broker, variant):
    async with (
        served(broker, stateless=variant.stateless) as url,
        connected(url, variant.era) as desk,
    ):
        assert len((await desk.client.list_tools()).tools) == len(ALL)
        await desk.do("agent_register", name="desk", capabilities="Writes")
        assert len((await desk.do("agent_discover"))["agents"]) == 1
        replies = (await desk.do("create_mailbox"))["mail_address"]
        await desk.do("send_message", to="desk", content="Grüße", reply_to=replies)
        [message] = (await desk.do("fetch_messages", wait_seconds=0))["messages"]
        assert (message["untrusted_envelope"]["from"], message["untrusted_content"]) == (
            "desk",
            "Grüße",
        )
        assert (await desk.do("ack_messages", msg_id=0))["acked"] == [0]
        assert len((await desk.do("query_messages"))["messages"]) == 1
        assert (await desk.do("whoami"))["name"] == "desk"
        assert len((await desk.read(INBOX))["messages"]) == 1
        assert (await desk.client.get_prompt("check_inbox")).messages
        deleting = {"mail_address": "desk", "msg_id": 0}
        assert "confirm_address" in await desk.fail("delete_message", **deleting)
        await desk.do("delete_message", **deleting, confirm_address="desk")
        await desk.do("agent_unregister")


async def test_what_was_fetched_is_confirmed_given_back_or_kept(broker, variant):
    async with (
        served(broker, stateless=variant.stateless) as url,
        connected(url, variant.era) as desk,
    ):
        for _ in range(3):
            await desk.do("send_message", to="desk", content="x")
        private = (await desk.do("create_mailbox"))["mail_address"]
        await desk.do("send_message", to=private, content="an answer", priority="urgent")
        await desk.do("fetch_messages", mail_address=private, wait_seconds=0)
        assert (await desk.do("ack_messages", msg_id=0))["mail_address"] == private
        await desk.do("fetch_messages", wait_seconds=0)

        said = await desk.fail("ack_messages", msg_id=0)
        assert said.startswith(f"mail_address: you fetched 0 from desk and {private}; say from wh")
        assert (await desk.do("ack_messages", msg_id=1))["acked"] == [1]
        kept = await desk.do("ack_messages", msg_id=2, outcome="more_time", seconds=600)
        assert (kept["extended"], kept["leased_seconds"]) == ([2], 600)
        given = await desk.do("ack_messages", msg_id=2, outcome="give_back")
        assert given["given_back"] == [2]
        [again] = (await desk.do("fetch_messages"))["messages"]
        assert (again["msg_id"], again["delivery_count"]) == (2, 2)


async def test_a_host_hears_that_a_wait_goes_on(broker, variant):
    heard = []

    async def hear(*said):
        heard.append(said)

    async with (
        served(broker, stateless=variant.stateless) as url,
        connected(url, variant.era) as desk,
    ):
        waiting = asyncio.create_task(
            desk.client.call_tool(
                "mq9_fetch_messages", {"wait_seconds": 12}, progress_callback=hear
            )
        )
        await waits(broker)
        for count in (1, 2):
            await broker.clock.advance(5)
            await until(lambda count=count: len(heard) == count)
        await broker.clock.advance(2)
        assert (await waiting).structured_content["empty"] == "no mail waits"
    assert heard == [(one, 12, f"no mail yet, after {one} of 12 s") for one in (5, 10)]
    assert not broker.clock.pending_timers


async def is_free(broker):
    """See that what comes now is delivered to another consumer at once."""
    async with broker.client() as other:
        await other.send("desk", "x")
        [message] = await other.fetch("desk", group_name="desk", deliver="earliest")
        assert message.delivery_count == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_given_up_takes_nothing(broker, era):
    async with served(broker) as url, connected(url, era) as desk:
        waiting = asyncio.create_task(desk.call("fetch_messages", wait_seconds=45))
        await waits(broker)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await waits(broker, 0)
        await is_free(broker)
        await desk.do("whoami")


async def test_a_call_whose_connection_breaks_takes_nothing(broker, variant):
    async with served(broker, stateless=variant.stateless) as url:
        wire = Wire(url, variant.era)
        if variant.era == OLDER:
            await wire.begin()
        waiting = asyncio.create_task(wire.call("fetch_messages", wait_seconds=45))
        await waits(broker)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await waits(broker, 0)
        await is_free(broker)
        assert '"name":"desk"' in (await wire.call("whoami")).text  # the session goes on


async def test_the_older_protocol_tells_of_new_mail_over_its_stream(broker):
    heard = []

    async def hear(message):
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)

    async with (
        served(broker) as url,
        connected(url, OLDER, message_handler=hear) as desk,
        broker.client() as sender,
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
        await waits(broker, 0)

        await desk.client.subscribe_resource(f"mq9://mailbox/{other}")
        await send_until_heard(other)  # and so has all been heard that was told before
        count = heard.count(INBOX)
        await sender.send("desk", "x")
        await send_until_heard(other)
        assert heard.count(INBOX) == count


async def test_without_sessions_there_are_no_older_subscriptions(broker):
    async with served(broker, stateless=True) as url, connected(url, OLDER) as desk:
        assert not desk.client.server_capabilities.resources.subscribe
        with pytest.raises(MCPError, match="Method not found"):
            await desk.client.subscribe_resource(INBOX)


@pytest.mark.parametrize("stateless", [False, True])
async def test_the_current_protocol_tells_of_new_mail_over_its_stream(broker, stateless):
    async with (
        served(broker, stateless=stateless) as url,
        connected(url) as desk,
        broker.client() as sender,
    ):
        async with desk.client.listen(resource_subscriptions=[INBOX]) as updates:
            assert updates.honored.resource_subscriptions == [INBOX]
            await sender.send("desk", "one")
            assert (await anext(updates)).uri == INBOX
        await waits(broker, 0)


LOOPBACK = [
    *("127.0.0.1", "127.0.0.1:8765", "localhost", "localhost:1", "[::1]", "[::1]:8765"),
    *("LOCALHOST", "LocalHost:8765", "localhost.", "Localhost.:8765"),
]


async def status(url, variant, method="POST", **headers):
    era, stateless = variant
    wire = Wire(url, era, **headers)
    if method == "POST" and era == OLDER and not stateless:
        return (await wire.ask("initialize", **HELLO)).status_code
    if method == "POST":
        return (await wire.ask()).status_code
    async with by_hand() as http:
        return (await http.request(method, url, headers=wire.headers)).status_code


async def test_by_another_name_this_machine_is_not_called(broker, variant):
    async with served(broker, stateless=variant.stateless) as url:
        for name in LOOPBACK:
            assert await status(url, variant, Host=name) == 200
        for name in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.2",
            "",
            "evil.example:8765",
            "localhost..",
            "[::2]:8765",
            "[::1",
        ):
            assert await status(url, variant, Host=name) == 421, name
    async with served(broker, stateless=variant.stateless, hosts=["Mail.example"]) as url:
        for name in ("mail.example", "MAIL.example.:443", *LOOPBACK):
            assert await status(url, variant, Host=name) == 200
        for name in ("x.mail.example", "mail.example.evil"):
            assert await status(url, variant, Host=name) == 421


async def test_other_web_pages_do_not_call(broker, variant):
    async with served(broker, stateless=variant.stateless) as url:
        for page in ("http://localhost", "http://localhost:6274", "http://127.0.0.1:1"):
            assert await status(url, variant, Origin=page) == 200
        for page in (
            "http://evil.example",
            "http://localhost.evil.example",
            "https://app.example",
            "null",
        ):
            assert await status(url, variant, Origin=page) == 403, page
    async with served(broker, stateless=variant.stateless, origins=["https://app.example"]) as url:
        for page in ("https://app.example", "http://localhost:6274"):
            assert await status(url, variant, Origin=page) == 200
        for page in ("http://app.example", "https://app.example:8443", "https://x.app.example"):
            assert await status(url, variant, Origin=page) == 403, page


async def test_that_holds_whatever_is_asked(broker, variant):
    async with served(broker, stateless=variant.stateless) as url, by_hand() as http:
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


async def test_a_browser_may_ask_before_it_sends_a_token(broker, variant):
    # Nobody's token is known, and none is needed to ask.
    async with (
        served(broker, verifier=Nobody(), stateless=variant.stateless, origins=[APP]) as url,
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


async def test_a_page_reads_answers_and_refusals_if_its_origin_is_given(broker, variant):
    async with served(
        broker, stateless=variant.stateless, origins=[APP, "http://localhost:*"]
    ) as url:
        for page in (APP, "http://localhost", "http://localhost:6274"):
            told = await Wire(url, variant.era, Origin=page).ask("initialize", **HELLO)
            assert told.headers["Access-Control-Allow-Origin"] == page
            assert told.headers["Vary"] == "Origin"
            exposed = told.headers["Access-Control-Expose-Headers"].split(", ")
            assert {"Mcp-Session-Id", "MCP-Protocol-Version", "WWW-Authenticate"} <= set(exposed)
    async with served(broker, verifier=Nobody(), stateless=variant.stateless, origins=[APP]) as url:
        told = await Wire(url, variant.era, Origin=APP).ask()
        assert (told.status_code, told.headers["Access-Control-Allow-Origin"]) == (401, APP)
        assert "WWW-Authenticate" in told.headers


async def test_no_other_page_reads_anything(broker, variant):
    def allows(told):
        return [name for name in told.headers if name.startswith("access-control-allow-origin")]

    async with served(broker, stateless=variant.stateless, origins=[APP]) as url, by_hand() as http:
        for page in ("http://localhost:6274", "https://evil.example", f"{APP}.evil", "null"):
            told = await http.options(url, headers=preflight(page))
            assert told.status_code in {400, 403}
            assert not allows(told)
            assert not allows(await Wire(url, variant.era, Origin=page).ask("initialize", **HELLO))
        rebound = preflight(APP) | {"Host": "evil.example"}
        assert (await http.options(url, headers=rebound)).status_code == 421
    async with served(broker, stateless=variant.stateless) as url, by_hand() as http:
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
async def test_an_origin_is_meant_as_browsers_write_it(broker, given, meant):
    async with served(broker, origins=[given]) as url, by_hand() as http:
        told = await http.options(url, headers=preflight(meant))
        assert told.headers["Access-Control-Allow-Origin"] == meant


@pytest.mark.parametrize(
    "given",
    [
        *("*", "null", "", "app.example", "https://", "https://app.example/page", "https://a:b"),
        *("https://app.example?x", "https://*.example", "https://[::1", "https://me@app.example"),
    ],
)
async def test_what_is_no_origin_is_refused(broker, given):
    with pytest.raises(InvalidRequest, match=r"^allow_origin: .* is no origin of web pages"):
        async with served(broker, origins=[given]):
            pass


async def test_who_would_go_on_with_a_stream_gets_a_new_one(broker):
    heard = asyncio.Event()
    async with (
        served(broker) as url,
        broker.client() as sender,
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


async def test_the_current_protocol_has_no_stream_to_go_on_with(broker):
    async with served(broker) as url, by_hand() as http:
        headers = {**Wire(url).headers, "Last-Event-ID": "7"}
        told = await http.get(url, headers=headers)
        assert (told.status_code, told.headers["Allow"]) == (405, "POST")


async def test_a_body_of_more_than_4_mib_is_refused(broker, variant):
    async def in_pieces():
        for _ in range(5):
            yield b" " * 1024 * 1024

    async with served(broker, stateless=variant.stateless) as url, by_hand() as http:
        wire = Wire(url, variant.era)
        for body in (b" " * (4 * 1024 * 1024 + 1), in_pieces()):
            headers = {**wire.headers, "Content-Type": "application/json"}
            assert (await http.post(url, content=body, headers=headers)).status_code == 413
        assert await status(url, variant) == 200
