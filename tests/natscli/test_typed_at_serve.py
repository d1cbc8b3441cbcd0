"""The real `nats` command at a real `mq9 serve`: what people type, and what they see."""

import asyncio
import json
import re
from contextlib import AsyncExitStack

import pytest
from serving import Serving
from typed import PROGRAM, Typist
from users_file import write_users

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="make builds the nats command only where there is Go"
    ),
]

# What a shell shows of a reply, in the order of the commands that lead there. Ids count from 0.
TRANSLATOR = '{"name":"agent.translator","mailbox":"agent.translator","payload":"EN/ZH/JA/KO"}'
WORK = '{"group_name":"my-worker","deliver":"earliest","config":{"num_msgs":10}}'
QUICK_START = [
    (["AGENT.REGISTER", TRANSLATOR], {"error": "", "mailbox": "agent.translator"}),
    (["AGENT.DISCOVER", '{"semantic":"ZH","limit":5}'], {"agents": [json.loads(TRANSLATOR)]}),
    (["MAILBOX.CREATE", '{"name":"demo","ttl":300}'], {"error": "", "mail_address": "demo"}),
    (["MSG.SEND.demo", "first"], {"error": "", "msg_id": 0}),
    (["MSG.SEND.demo", "abort", "--header", "mq9-priority:critical"], {"msg_id": 1}),
    (["MSG.SEND.demo", "soon", "-H", "mq9-priority:urgent", "-H", "mq9-key:k"], {"msg_id": 2}),
    (["MSG.SEND.demo", "newer", "-H", "mq9-key:k"], {"msg_id": 3}),
    (["MSG.SEND.demo", "later", "-H", "mq9-delay:60"], {"msg_id": -1}),
    (["MSG.FETCH.demo", WORK], {"error": "", "ids": [1, 0, 3]}),
    (
        ["MSG.ACK.demo", '{"group_name":"my-worker","mail_address":"demo","msg_id":3}'],
        {"error": ""},
    ),
    (["MSG.FETCH.demo", WORK], {"error": "", "ids": []}),
    (["MSG.QUERY.demo", '{"key":"k"}'], {"error": "", "ids": [3]}),
    (["MSG.DELETE.demo.0"], {"error": "", "deleted": True}),
    (["MSG.QUERY.demo"], {"ids": [1, 3]}),
    (["AGENT.REPORT", '{"name":"agent.translator","report_info":"running"}'], {"error": ""}),
    (["AGENT.UNREGISTER", '{"name":"agent.translator"}'], {"error": ""}),
    (["AGENT.DISCOVER"], {"error": "", "agents": []}),
]


@pytest.fixture
async def typist(tmp_path):
    typist = Typist(tmp_path)
    yield typist
    await typist.close()


@pytest.fixture
async def serve(tmp_path):
    """Start `mq9 serve` with options of the test's choice."""
    async with AsyncExitStack() as stack:

        async def start(*options):
            return await stack.enter_async_context(Serving(tmp_path, *options))

        yield start


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for tests that have names of their own there."""
    with Serving(tmp_path_factory.mktemp("server"), "--memory") as server:
        yield server


async def request(typist, url, verb, *words):
    """Type a request that must be answered; the reply, with the ids of its messages beside it."""
    printed = await typist.run(url, "request", "--raw", f"$mq9.AI.{verb}", *words)
    assert printed.code == 0, printed
    reply = json.loads(printed.out)
    if "messages" in reply:
        reply["ids"] = [message["msg_id"] for message in reply["messages"]]
    return reply


@pytest.mark.quick
async def test_the_quick_start_prints_what_it_promises(server, typist):
    for number, (words, expected) in enumerate(QUICK_START):
        reply = await request(typist, server.url, *words)
        assert expected.items() <= reply.items(), (number, words, reply)


async def test_a_question_in_one_shell_is_answered_from_another_after_a_crash(
    serve, typist, tmp_path
):
    server = await serve("--data", str(tmp_path / "mq9.db"))
    url = server.url
    await request(typist, url, "MAILBOX.CREATE", '{"name":"agent.b"}')
    private = (await request(typist, url, "MAILBOX.CREATE", '{"ttl":600}'))["mail_address"]
    question = json.dumps({"request": "translate", "text": "Hello world", "reply_to": private})
    await request(typist, url, "MSG.SEND.agent.b", question)

    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)

    assert server.url == url
    work = '{"group_name":"b-worker","deliver":"earliest"}'
    [message] = (await request(typist, url, "MSG.FETCH.agent.b", work))["messages"]
    asked = json.loads(message["payload"])
    await request(typist, url, f"MSG.SEND.{asked['reply_to']}", '{"result":"Bonjour le monde"}')
    ack = f'{{"group_name":"b-worker","mail_address":"agent.b","msg_id":{message["msg_id"]}}}'
    await request(typist, url, "MSG.ACK.agent.b", ack)
    [answer] = (await request(typist, url, f"MSG.FETCH.{private}", '{"deliver":"earliest"}'))[
        "messages"
    ]
    assert answer["payload"] == '{"result":"Bonjour le monde"}'


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["MAILBOX.CREATE", '{"name":"taken"}'], "mailbox taken already exists"),
        (["MSG.SEND.nowhere", "x"], "mailbox not found: nowhere does not exist"),
        (["MSG.DELETE.taken.7"], "message not found"),
        (["MAILBOX.CREATE", '{"name":"In-Box"}'], "invalid mail_address"),
        (["AGENT.UNREGISTER", '{"name":"nobody"}'], "agent not found"),
        (["MSG.SEND.taken", "x", "-H", "mq9-priority:high"], "high"),
        (["MSG.SEND.taken", "x", "-H", "mq9-key:a", "-H", "mq9-key:b"], "mq9-key"),
        (["MSG.UNKNOWN.taken"], "MSG.UNKNOWN"),
    ],
)
async def test_an_error_is_a_sentence_in_the_reply(server, typist, words, sentence):
    await request(typist, server.url, "MAILBOX.CREATE", '{"name":"taken","renew":true}')
    reply = await request(typist, server.url, *words)
    assert sentence in reply["error"]
    assert reply["code"]


@pytest.mark.parametrize("ask_for", ["1", "2", "0"])
async def test_one_reply_is_printed_however_many_are_waited_for(server, typist, ask_for):
    waits = ["--replies", ask_for, "--timeout", "1s"]
    assert await request(typist, server.url, "PUBLIC.LIST", "", *waits) == {
        "error": "",
        "mailboxes": [],
    }


async def test_it_repeats_a_send_and_reads_a_body_from_a_pipe(server, typist):
    await request(typist, server.url, "MAILBOX.CREATE", '{"name":"inbox"}')
    subject = "$mq9.AI.MSG.SEND.inbox"
    three = await typist.run(server.url, "request", "--raw", subject, "n{{Count}}", "--count", "3")
    assert [json.loads(line)["msg_id"] for line in three.out.split("\n") if line] == [0, 1, 2]
    piped = await typist.run(server.url, "pub", "--force-stdin", subject, stdin=b"1\n2\n")
    assert piped.code == 0, piped

    found = await request(typist, server.url, "MSG.QUERY.inbox")
    payloads = [message["payload"] for message in found["messages"]]
    assert payloads == ["n1", "n2", "n3", "1\n2\n"]


async def test_what_is_published_without_a_reply_is_stored_and_never_leased(server, typist):
    await request(typist, server.url, "MAILBOX.CREATE", '{"name":"quiet"}')
    for verb, body in (("SEND", "quiet"), ("FETCH", '{"group_name":"g","deliver":"earliest"}')):
        printed = await typist.run(server.url, "pub", f"$mq9.AI.MSG.{verb}.quiet", body)
        assert printed.code == 0, printed

    status = await request(typist, server.url, "MAILBOX.STATUS.quiet", '{"group_name":"g"}')
    assert status["stored"] == 1
    assert status["group"]["exists"] is False


async def _subscribed(typist, url, process, subject):
    """Publish until a subscriber that was just started has what it wants; what it printed."""
    for _ in range(200):
        await typist.run(url, "pub", subject, "hello", "-H", "Greeting:yes")
        if process.returncode is not None:
            break
    return await typist.finish(process)


async def test_a_message_between_two_shells_keeps_its_headers(server, typist):
    process = await typist.start(server.url, "sub", "news.>", "--count", "1")
    printed = await _subscribed(typist, server.url, process, "news.today")
    assert 'Received on "news.today"' in printed.out + printed.told
    assert "Greeting: yes" in printed.out
    assert "hello" in printed.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stream", "ls"], "no responders"),
        (["kv", "ls"], "no responders"),
        (["server", "ping"], "503"),
        (["micro", "ls"], "no service instances"),
        (["sub", "$mq9.AI.>", "--count", "1"], "Permissions Violation"),
        (["request", "nobody.listens", "x"], "No responders"),
    ],
)
async def test_what_there_is_not_is_said_and_not_waited_for(server, typist, words, told):
    # An hour: a command that hangs ends the test.
    printed = await typist.run(server.url, *words, "--timeout", "1h")
    assert told in printed.out + printed.told
    assert (printed.code != 0) == (words[0] != "request")


async def test_it_describes_the_server_and_says_that_there_is_no_jetstream(server, typist):
    printed = await typist.run(server.url, "account", "info")
    assert printed.code == 0
    assert re.search(r"Connected Server Name: mq9\b", printed.out)
    assert re.search(r"Headers Supported: true", printed.out)
    assert "JetStream is not supported" in printed.out
    checked = await typist.run(server.url, "server", "check", "connection")
    assert checked.out.startswith("OK"), checked


async def test_a_token_goes_into_the_url_and_appears_nowhere_else(serve, typist):
    server = await serve("--memory", "--auth-token", "open-sesame")
    host = server.url.removeprefix("nats://")
    within = f"nats://open-sesame@{host}"
    assert (await request(typist, within, "PUBLIC.LIST"))["error"] == ""

    for url in (server.url, f"nats://close-sesame@{host}"):
        refused = await typist.run(url, "request", "$mq9.AI.PUBLIC.LIST", "")
        assert refused.code == 1
        assert "authorization" in refused.told.lower()
    assert "refused" in server.told
    assert "sesame" not in server.told


async def test_users_log_in_and_read_only_what_is_theirs(serve, typist, tmp_path):
    users = write_users(
        tmp_path,
        '[[users]]\nuser = "ada"\npassword = "one"\nagent = "Ada"\n'
        '[[users]]\nuser = "bob"\npassword = "two"\nagent = "Bob"\n',
    )
    server = await serve("--memory", "--users", str(users))
    ada, bob = ("--user=ada", "--password=one"), ("--user=bob", "--password=two")
    await request(typist, server.url, "MAILBOX.CREATE", '{"name":"ada"}', *ada)
    await request(typist, server.url, "MSG.SEND.ada", "hi", "-H", "mq9-from:Ada", *bob)

    [message] = (await request(typist, server.url, "MSG.QUERY.ada", "", *ada))["messages"]
    assert (message["from"], message["from_verified"]) == ("Bob", True)
    assert (await request(typist, server.url, "MSG.QUERY.ada", "", *bob))["code"] == "forbidden"
    wrong = await typist.run(
        server.url, "request", "$mq9.AI.PUBLIC.LIST", "", "--user=ada", "--password=two"
    )
    assert wrong.code == 1
    assert "authorization" in wrong.told.lower()
