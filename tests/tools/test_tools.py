"""What each tool does, argument by argument."""

import asyncio
import threading

import pytest

from langchain_mq9 import Mq9Toolkit, SendMessageTool
from mq9 import AgentNotFound, InvalidRequest, NotConnected
from mq9.operations.message_views import time_at

from .tool_calls import (
    TOOLS,
    ado,
    answer,
    asend,
    begin,
    bodies,
    do,
    fail,
    fetch,
    ids,
    reached,
    result,
    send,
)

NOBODY = "no agent is registered yet; others may register at any time, so look again later"
OPEN = "this broker does not know who asks: all who know the address can look, take and write"
START = 1_800_000_000  # the Unix second at which a fake broker's clock starts


@pytest.fixture
def desk(anyone):
    """A mailbox that belongs to nobody."""
    return do(anyone, "create_mailbox", name="desk")["mail_address"]


def test_a_toolkit_gives_all_tools_in_the_order_of_the_catalogue(planner):
    assert tuple(one.name for one in planner.get_tools()) == TOOLS
    assert planner.get_tools() == planner.get_tools()


def test_a_toolkit_gives_only_the_tools_that_are_wanted(open_toolkit):
    toolkit = open_toolkit("planner", tools=["send_message", "agent_discover"])

    assert [one.name for one in toolkit.get_tools()] == ["send_message", "agent_discover"]
    assert open_toolkit("planner", tools=[]).get_tools() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"agent": ""}, "agent:"),
        ({"agent": "翻译"}, "mail_address: '翻译' has no letter a-z and no digit"),
        ({"agent": "翻译", "mail_address": "翻译"}, "invalid mail_address: '翻译'"),
        ({"mail_address": "translator"}, "mail_address: .* give the agent"),
        ({"tools": "send_message"}, "tools: 'send_message' is one text; give a list"),
        ({"tools": [["send_message"]]}, "is not one of agent_register"),
        ({"tools": ["send_mesage"]}, "tools: 'send_mesage' is not one of agent_register"),
        ({"agent": "a", "lease_ms": 999}, "lease_ms: 999 is not between 1000 and 86400000"),
        ({"agent": "a", "max_chars": 99}, "max_chars: 99 is not between 100 and"),
        ({"agent": "a", "hold": -1}, "hold: -1 is not between 0 and"),
        ({"agent": "a", "registration_ttl": True}, "registration_ttl: True is not a whole"),
        ({"agent": "a", "inbox": "mine"}, "inbox: 'mine' is not one of thread, agent"),
        ({"agent": "a", "max_hops": 64}, "max_hops: "),
        ({"agent": "a", "dead_letter": "A B"}, "mail_address"),
        ({"agent": "a", "allow_read": "team.*"}, "allow_read: 'team.\\*' is not a list"),
        ({"agent": "a", "allow_read": ["team.*", ""]}, "allow_read: '' matches no address"),
        ({"agent": "a", "allow_send": [7]}, "allow_send: .* is not a list of address patt"),
        ({"allow_read": ["team.*"]}, "give the agent"),
        ({"allow_send": ["team.*"]}, "allow_send: it limits where an agent may send"),
        ({"request_timeout": -1}, "request_timeout"),
    ],
)
def test_a_toolkit_refuses_wrong_options_at_once(broker, options, said):
    with pytest.raises(InvalidRequest, match=said):
        Mq9Toolkit(broker.url, **options)


@pytest.mark.parametrize("server", ["http://nowhere", "sqlite://x", "memory://a/b", "", 7])
def test_a_toolkit_refuses_a_wrong_server_at_once(server):
    for make in (Mq9Toolkit, SendMessageTool):
        with pytest.raises(InvalidRequest, match="server: "):
            make(server=server, agent="planner")


def test_registering_makes_the_mailbox_and_may_be_repeated(anyone):
    first = do(anyone, "agent_register", name="Claude-Desktop", capabilities="Writes code")
    assert first == {"name": "Claude-Desktop", "mail_address": "claude.desktop"}
    send(anyone, "hello", "claude.desktop")

    again = do(anyone, "agent_register", name="Claude-Desktop", capabilities="Reviews code")

    assert again == first
    assert bodies(do(anyone, "query_messages", mail_address="claude.desktop")) == ["hello"]
    [found] = do(anyone, "agent_discover")["agents"]
    assert found["untrusted_card"] == "Reviews code"


def test_registering_at_another_mailbox_makes_that_one(anyone):
    said = do(anyone, "agent_register", name="翻译", capabilities="翻译", mail_address="translator")

    assert said == {"name": "翻译", "mail_address": "translator"}
    send(anyone, "你好", "translator")
    assert do(anyone, "agent_discover", query="翻译")["agents"][0]["untrusted_name"] == "翻译"


def test_a_name_without_a_letter_asks_for_the_mail_address(anyone):
    said = fail(anyone, "agent_register", name="翻译", capabilities="翻译")

    assert said.startswith("mail_address: '翻译' has no letter a-z and no digit")


def test_discovering_ranks_by_the_question_and_says_where_to_write(broker, anyone):
    do(anyone, "agent_register", name="cook", capabilities="Cooks soup")
    do(anyone, "agent_register", name="translator", capabilities="Translates German to French")

    said = do(anyone, "agent_discover", query="translate German")

    assert said["agents"][0] == {
        "untrusted_name": "translator",
        "mail_address": "translator",
        "untrusted_card": "Translates German to French",
    }
    assert said["ranked_by"] in {"text", "semantic"}


def test_discovering_without_a_question_lists_everybody_by_name_up_to_the_limit(anyone):
    for name in ("c", "a", "b"):
        do(anyone, "agent_register", name=name, capabilities="x")

    assert [one["untrusted_name"] for one in do(anyone, "agent_discover")["agents"]] == [
        "a",
        "b",
        "c",
    ]
    assert do(anyone, "agent_discover")["ranked_by"] == "all"
    assert len(do(anyone, "agent_discover", limit=2)["agents"]) == 2


@pytest.mark.parametrize(("asked", "ranked_by"), [({"query": "translate"}, "text"), ({}, "all")])
def test_discovering_nobody_is_an_empty_list(anyone, asked, ranked_by):
    found = do(anyone, "agent_discover", **asked)
    assert found == {"agents": [], "ranked_by": ranked_by, "note": NOBODY}


TRADES = {
    "gardener": "Looks after flowers, shrubs and lawns",
    "lawyer": "Reads contracts and warns of unfair clauses",
    "chef": "Plans menus and cooks dinner",
}


@pytest.fixture(params=["text", "semantic"])
def trades(request, broker, tmp_path):
    """Tools among three registered agents, which are ranked by words or by meaning."""
    url = broker.url if request.param == "text" else f"memory://{tmp_path.name}"
    with Mq9Toolkit(url) as toolkit:
        for name, capabilities in TRADES.items():
            do(toolkit, "agent_register", name=name, capabilities=capabilities)
        assert do(toolkit, "agent_discover", query="cooks")["ranked_by"] == request.param
        yield toolkit


def test_of_few_agents_all_are_shown_best_first_and_the_weak_say_so(trades):
    found = do(trades, "agent_discover", query="rental contract")["agents"]

    assert found[0]["untrusted_name"] == "lawyer"
    assert {one["untrusted_name"]: one.get("weak") for one in found} == {
        "lawyer": None,
        "gardener": True,
        "chef": True,
    }
    assert len(do(trades, "agent_discover", query="rental contract", limit=2)["agents"]) == 2


def test_where_all_are_weak_a_model_is_told_to_ask_in_other_words(trades):
    said = do(trades, "agent_discover", query="simulate a quantum circuit")

    assert [one["weak"] for one in said["agents"]] == [True, True, True]
    assert said["note"] == "no agent fits well; describe it as it would describe itself"


def test_of_many_agents_ten_are_shown_in_short_lines(anyone):
    for number in range(21):
        do(anyone, "agent_register", name=f"agent {number:02}", capabilities="translates " * 99)

    asked = answer(anyone, "agent_discover", query="translates")
    assert len(result(asked)["agents"]) == 10
    assert len(asked.content) < 10 * 300
    listed = do(anyone, "agent_discover")
    assert [one["untrusted_name"] for one in listed["agents"]] == [
        f"agent {n:02}" for n in range(10)
    ]
    assert listed["note"] == "there are more; say in query what you look for"
    assert len(do(anyone, "agent_discover", query="translates", limit=21)["agents"]) == 21


def test_several_phrasings_are_one_ranking(trades):
    said = do(trades, "agent_discover", query=["menus and dinner", "cooks", "flowers"])

    names = [(one["untrusted_name"], one.get("weak")) for one in said["agents"]]
    assert names == [("chef", None), ("gardener", None), ("lawyer", True)]
    assert said == do(trades, "agent_discover", query=["cooks", "flowers", "menus and dinner"])


async def test_a_card_is_shown_without_what_it_says_to_programs(broker, anyone):
    skill = {"id": "s-1", "name": "Sums", "tags": ["maths"]}
    async with broker.client() as client:
        await client.agent_register(
            {"name": "a", "version": "1.0", "url": "https://a.example", "skills": [skill]}
        )

    [found] = (await ado(anyone, "agent_discover"))["agents"]
    assert found["untrusted_card"] == '{"skills":[{"name":"Sums","tags":["maths"]}]}'


def test_an_agent_that_finds_itself_is_told_so(planner, anyone):
    for name in ("a", "planner"):
        toolkit = planner if name == "planner" else anyone
        do(toolkit, "agent_register", name=name, capabilities="Plans trips")

    found = do(planner, "agent_discover", query="plan")["agents"]
    assert {one["untrusted_name"]: one.get("you") for one in found} == {"a": None, "planner": True}
    assert all("you" not in one for one in do(anyone, "agent_discover")["agents"])


async def test_discovering_says_how_an_agent_is_and_when_it_was_seen(broker, anyone):
    async with broker.client() as client:
        await client.agent_register({"name": "a", "description": "Adds", "skills": ["sums"]})
        await client.agent_report({"name": "a", "busy": True})
        await broker.clock.advance(90)

        [found] = (await ado(anyone, "agent_discover"))["agents"]

    assert found == {
        "untrusted_name": "a",
        "mail_address": "a",
        "untrusted_card": '{"description":"Adds","skills":["sums"]}',
        "untrusted_status": '{"busy":true}',
    }


def test_a_mailbox_is_made_under_its_name_once(anyone):
    assert do(anyone, "create_mailbox", name="desk") == {
        "mail_address": "desk",
        "readable_by": [],
        "writable_by": "all who know its address",
        "not_enforced": OPEN,
    }

    assert fail(anyone, "create_mailbox", name="desk") == (
        "mailbox desk already exists. Use it as it is, or choose another name."
    )


def test_a_mailbox_without_a_name_gets_one_that_nobody_can_guess(anyone):
    first, second = (do(anyone, "create_mailbox")["mail_address"] for _ in range(2))

    assert first != second
    assert len(first) >= 26


async def test_a_mailbox_is_gone_after_its_ttl(broker, anyone):
    assert await ado(anyone, "create_mailbox", name="desk", ttl=60) == {
        "mail_address": "desk",
        "expires_in_seconds": 60,
        "readable_by": [],
        "writable_by": "all who know its address",
        "not_enforced": OPEN,
    }
    await broker.clock.advance(60)

    said = await asyncio.to_thread(fail, anyone, "send_message", to="desk", content="late")

    assert said.startswith("mailbox not found: desk does not exist. Check the address")


def test_a_message_says_all_that_was_said_with_it(anyone, desk):
    sent = send(
        anyone,
        "grüße\n雪",
        desk,
        priority="urgent",
        key="greeting",
        ttl=60,
        tags=["de", "weather"],
        reply_to="mq9://broker/asker.inbox",
        correlation_id="q-1",
    )
    assert sent == {
        "mail_address": "desk",
        "msg_id": 0,
        "correlation_id": "q-1",
        "reader": {"registered": False},
    }

    said = fetch(anyone, mail_address=desk)

    assert said == {
        "mail_address": "desk",
        "messages": [
            {
                "msg_id": 0,
                "time": "2027-01-15T08:00:00Z",
                "claimed_priority": "urgent",
                "untrusted_envelope": {
                    "reply_to": "asker.inbox",
                    "correlation_id": "q-1",
                    "key": "greeting",
                    "tags": ["de", "weather"],
                },
                "untrusted_content": "grüße\n雪",
            }
        ],
        "leased_seconds": 3_600,
    }


async def test_a_delayed_message_has_no_id_until_it_is_due(broker, anyone, desk):
    sent = await asend(anyone, "later", desk, delay=40)
    assert sent == {
        "mail_address": "desk",
        "delayed_id": 1,
        "readable_in_seconds": 40,
        "reader": {"registered": False},
    }
    assert (await ado(anyone, "query_messages", mail_address=desk))["messages"] == []

    await broker.clock.advance(40)

    assert bodies(await ado(anyone, "fetch_messages", mail_address=desk)) == ["later"]


async def test_a_message_is_gone_after_its_ttl(broker, anyone, desk):
    await asend(anyone, "brief", desk, ttl=5)
    await broker.clock.advance(5)

    assert (await ado(anyone, "query_messages", mail_address=desk))["messages"] == []


def test_a_fetch_takes_so_many_and_says_that_there_are_more(anyone, desk):
    for number in range(3):
        send(anyone, str(number), desk)

    said = fetch(anyone, mail_address=desk, limit=2)

    assert bodies(said) == ["0", "1"]
    assert said["more"] == "confirm these with ack_messages, then call fetch_messages again"
    do(anyone, "ack_messages", mail_address=desk, msg_id=[0, 1])
    rest = fetch(anyone, mail_address=desk, limit=2)
    assert bodies(rest) == ["2"]
    assert "more" not in rest


async def test_a_fetch_waits_for_a_first_message(broker, anyone, desk):
    waiting = await begin(broker, ado(anyone, "fetch_messages", mail_address=desk, wait_seconds=30))
    await broker.clock.advance(10)
    assert not waiting.done()

    await asend(anyone, "at last", desk)

    assert bodies(await waiting) == ["at last"]


async def test_a_fetch_waits_no_longer_than_it_says(broker, anyone, desk):
    waiting = await begin(broker, ado(anyone, "fetch_messages", mail_address=desk, wait_seconds=2))
    await broker.clock.advance(1.9)
    assert not waiting.done()
    await broker.clock.advance(0.1)

    assert (await waiting)["empty"] == "no mail waits"


def test_a_query_looks_without_taking(anyone, desk):
    send(anyone, "x", desk)
    assert bodies(do(anyone, "query_messages", mail_address=desk)) == ["x"]
    fetch(anyone, mail_address=desk)
    do(anyone, "ack_messages", mail_address=desk, msg_id=0)

    said = do(anyone, "query_messages", mail_address=desk)

    assert bodies(said) == ["x"]
    assert "leased_seconds" not in said


async def test_a_query_finds_by_key_tags_and_time(broker, anyone, desk):
    await asend(anyone, "a", desk, key="k")
    await asend(anyone, "b", desk, tags=["x", "y"])
    await broker.clock.advance(10)
    await asend(anyone, "c", desk, tags=["x"])

    async def found(**filters):
        return bodies(await ado(anyone, "query_messages", mail_address=desk, **filters))

    assert await found(key="k") == ["a"]
    assert await found(tags=["x"]) == ["b", "c"]
    assert await found(tags=["y", "x"]) == ["b"]
    assert await found(since=time_at(START + 10)) == ["c"]
    assert await found(since=time_at(START)) == ["a", "b", "c"]
    assert await found(tags=["x"], since=time_at(START + 1)) == ["c"]
    # In other words: without a zone it is UTC, and fractions do not count.
    assert await found(since="2027-01-15T08:00:10") == ["c"]
    assert await found(since="2027-01-15T09:00:10.999+01:00") == ["c"]
    assert await found(since="2027-01-15") == ["a", "b", "c"]
    assert await found(key="none") == []


def test_a_query_gives_the_newest_so_many_and_says_that_there_are_older_ones(anyone, desk):
    for number in range(4):
        send(anyone, str(number), desk)

    said = do(anyone, "query_messages", mail_address=desk, limit=2)

    assert bodies(said) == ["2", "3"]
    assert said["more"] == "the newest 2; older ones match as well: call again with before_id=2"
    assert "more" not in do(anyone, "query_messages", mail_address=desk, limit=4)


def test_a_query_that_is_cut_for_its_length_says_how_to_see_the_older_ones(open_toolkit):
    toolkit = open_toolkit("planner", max_chars=1_000)
    for _ in range(4):
        send(toolkit, "x" * 200)

    said = do(toolkit, "query_messages")

    assert ids(said) == [3]
    assert said["more"] == (
        "cut by max_chars; older ones match as well: call again with before_id=3"
    )


def test_deleting_removes_one_message_for_everybody(anyone, desk):
    for content in ("a", "b"):
        send(anyone, content, desk)

    assert do(anyone, "delete_message", mail_address=desk, msg_id=0) == {
        "mail_address": "desk",
        "deleted": 0,
    }

    assert bodies(fetch(anyone, mail_address=desk)) == ["b"]
    assert fail(anyone, "delete_message", mail_address=desk, msg_id=0).startswith(
        "message not found: 0 is not in desk."
    )


@pytest.mark.parametrize("empty", ["", None])
def test_null_and_the_empty_text_are_arguments_left_out(planner, empty):
    send(planner, "", key=empty, reply_to=empty)
    said = fetch(planner, mail_address=empty, group_name=empty, limit=empty, max_chars=empty)

    assert said["messages"][0]["untrusted_envelope"]["reply_to"] == "planner"
    assert "key" not in said["messages"][0]["untrusted_envelope"]
    assert said["leased_seconds"] == 3_600
    assert ids(do(planner, "query_messages", key=empty, tags=empty, since=empty)) == [0]
    made = do(planner, "create_mailbox", name=empty, ttl=empty)["mail_address"]
    assert made.startswith("planner.")


def test_a_lost_reply_is_made_good_where_that_is_safe(broker, planner):
    broker.lose_next_reply("MSG.SEND")
    assert send(planner, "x")["msg_id"] == 0

    broker.lose_next_reply("MSG.FETCH")
    said = fetch(planner)
    assert ids(said) == [0]
    assert "delivery_count" not in said["messages"][0]

    broker.lose_next_reply("MSG.ACK")
    assert do(planner, "ack_messages", msg_id=0)["acked"] == [0]


def test_a_lost_reply_is_told_where_repeating_is_not_safe(broker, planner):
    broker.lose_next_reply("MAILBOX.CREATE")
    do(planner, "agent_discover")  # its own mailbox is made or renewed, which is safe

    broker.lose_next_reply("MAILBOX.CREATE")
    assert fail(planner, "create_mailbox", name="desk").endswith(
        "the outcome is unknown. "
        "It may have happened all the same; repeat it only if twice does no harm."
    )
    assert "already exists" in fail(planner, "create_mailbox", name="desk")


def test_a_tool_by_itself_closes_its_connection(broker, anyone):
    alone = SendMessageTool(server=broker.url, agent="worker")
    message = {"mail_address": "worker", "content": "to myself"}
    alone.invoke(message)
    assert bodies(fetch(anyone, mail_address="worker")) == ["to myself"]
    alone.close()
    alone.close()
    assert "the toolkit is closed" in alone.invoke(message)


async def test_a_tool_by_itself_closes_its_connection_from_async_code_too(broker):
    alone = SendMessageTool(server=broker.url, agent="worker")
    await alone.ainvoke({"mail_address": "worker", "content": "to myself"})

    await alone.aclose()

    assert "mq9-tools" not in {one.name for one in threading.enumerate()}


async def test_closing_a_tool_leaves_a_shared_connection_alone(planner):
    for one in planner.get_tools():
        one.close()
        await one.aclose()

    assert (await ado(planner, "query_messages"))["messages"] == []


def test_an_agent_whose_name_has_no_slug_is_given_a_mailbox(open_toolkit, anyone):
    toolkit = open_toolkit("翻译", mail_address="mq9://any/translator")
    do(toolkit, "agent_register", name="翻译", capabilities="翻译")
    send(toolkit, "你好", "translator")

    assert reached(fetch(toolkit)) == [{"from": "翻译", "reply_to": "translator"}]
    assert do(toolkit, "ack_messages", msg_id=0)["mail_address"] == "translator"
    assert do(toolkit, "create_mailbox")["mail_address"].startswith("translator.")
    assert do(anyone, "agent_discover")["agents"][0]["mail_address"] == "translator"


def test_a_message_is_sent_to_an_agent_by_its_name(planner, anyone):
    do(anyone, "agent_register", name="Claude-Desktop", capabilities="Writes")
    do(anyone, "agent_register", name="writer", capabilities="x", mail_address="claude.desktop")

    for name in ("Claude-Desktop", "writer", "claude.desktop"):
        sent = send(planner, "hello", name)
        assert sent["mail_address"] == "claude.desktop"


def test_who_is_not_there_is_told_with_the_nearest_names(planner, anyone):
    do(anyone, "agent_register", name="Claude-Desktop", capabilities="Writes")

    for wrong in ("Claude Desktop", "claude-desktop", "claude.desktops"):
        told = fail(planner, "send_message", to=wrong, content="hello")
        assert "; agents called nearly so are at claude.desktop." in told
    told = fail(planner, "send_message", to="somebody.else", content="hello")
    assert "called nearly so" not in told
    assert told.startswith("mailbox not found: somebody.else does not exist. Check the address")


def test_the_nearest_names_are_found_among_many(planner, anyone, monkeypatch):
    monkeypatch.setattr("mq9.operations.discovery._MOST_LOOKED_AT", 5)
    for name in ("zelda", *(f"worker-{number}" for number in range(10))):
        do(anyone, "agent_register", name=name, capabilities="x")
    told = fail(planner, "send_message", to="zeldaa", content="hello")
    assert "; agents called nearly so are at zelda." in told
    assert send(planner, "hello", "zelda")["msg_id"] == 0


def test_a_name_is_no_way_round_a_limit(open_toolkit, anyone):
    do(anyone, "agent_register", name="Boss", capabilities="x")
    limited = open_toolkit("limited", allow_send=["team.*"])

    told = fail(limited, "send_message", to="Boss", content="x")
    assert told.startswith("mail_address: limited may send to team.*")


def test_agents_that_fit_alike_come_with_the_living_first(broker, anyone):
    do(anyone, "agent_register", name="a old", capabilities="translates texts")
    asyncio.run(broker.clock.advance(3_600))
    do(anyone, "agent_register", name="b new", capabilities="translates texts")
    send(anyone, "x", "a.old")

    new, old = do(anyone, "agent_discover", query="translates")["agents"]
    assert (new["untrusted_name"], old["untrusted_name"]) == ("b new", "a old")
    assert (old["stale"], old["backlog"]) == (True, 1)
    assert "stale" not in new
    assert "backlog" not in new
    [first] = do(anyone, "agent_discover", query="translates", limit=1)["agents"]
    assert first["untrusted_name"] == "b new"


async def test_a_registration_lasts_thirty_days_by_default(broker, planner, open_toolkit, anyone):
    await ado(planner, "agent_register", capabilities="Plans")
    always = open_toolkit("librarian", registration_ttl=0)
    await ado(always, "agent_register", capabilities="Keeps books")
    short = open_toolkit("guest", registration_ttl=60)
    await ado(short, "agent_register", capabilities="Visits")

    async def listed():
        return [one["untrusted_name"] for one in (await ado(anyone, "agent_discover"))["agents"]]

    assert await listed() == ["guest", "librarian", "planner"]
    await broker.clock.advance(60)
    assert await listed() == ["librarian", "planner"]
    await broker.clock.advance(30 * 86_400 - 61)
    assert await listed() == ["librarian", "planner"]
    await broker.clock.advance(1)
    assert await listed() == ["librarian"]


async def test_an_agent_is_unregistered_and_keeps_its_mailbox(planner, worker, anyone):
    for toolkit in (planner, worker):
        await ado(toolkit, "agent_register", capabilities="x")
    await asend(worker, "hello")

    await planner.aunregister()
    await asyncio.to_thread(worker.unregister)

    assert (await ado(anyone, "agent_discover"))["agents"] == []
    assert bodies(await ado(planner, "fetch_messages")) == ["hello"]
    with pytest.raises(AgentNotFound, match="agent not found"):
        planner.unregister()
    with pytest.raises(InvalidRequest, match="agent: these tools belong to no agent"):
        anyone.unregister()
    planner.close()
    with pytest.raises(NotConnected, match="the toolkit is closed"):
        planner.unregister()
    with pytest.raises(NotConnected, match="the toolkit is closed"):
        await planner.aunregister()
