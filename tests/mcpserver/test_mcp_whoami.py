"""An agent learns which mailboxes it has, and how their mail stands."""

import pytest


@pytest.fixture
async def desk(open_host):
    return await open_host("desk", lease_ms=30_000, keep_ms=3_600_000)


async def test_it_tells_how_the_mail_of_each_mailbox_stands(desk):
    for content in ("a", "b", "c"):
        await desk.do("send_message", to="desk", content=content)
    await desk.do("send_message", to="desk", content="later", delay=60)
    await desk.do("fetch_messages", limit=2)
    await desk.do("ack_messages", msg_id=0)

    me = await desk.do("whoami")

    assert me["waiting"] == {"critical": 0, "urgent": 0, "normal": 1}
    assert me["mailboxes"] == [
        {
            "mail_address": "desk",
            "waiting": 1,
            "held_by_you": 1,
            "acked": 1,
            "delayed": 1,
            "next_due_seconds": 60,
        }
    ]


async def test_it_lists_the_mailboxes_that_the_agent_made_also_before_a_restart(open_host, desk):
    await desk.do("create_mailbox", name="fares", readable_by=["everybody"], ttl=600)
    await desk.do("send_message", to="fares", content="Oslo: 90", key="oslo")
    await desk.do("create_mailbox", name="notes")
    other = await open_host("other")
    await other.do("create_mailbox", name="of.another")

    me = await (await open_host("desk")).do("whoami")

    assert [one["mail_address"] for one in me["mailboxes"]] == ["desk", "fares", "notes"]
    fares = me["mailboxes"][1]
    assert (fares["stored"], fares["untrusted_keys"], fares["readable_by"]) == (
        1,
        ["oslo"],
        ["everybody"],
    )
    assert "waiting" not in fares
    assert fares["expires_in_seconds"] == 600
    assert me["not_enforced"].startswith("this broker does not know who asks")


async def test_what_is_renewed_is_held_for_as_long_everywhere(open_host, desk):
    other = await open_host("other")
    await desk.do("whoami")
    await other.do("send_message", to="desk", content="a")
    fetched = await desk.do("fetch_messages")

    [message] = (await desk.do("query_messages"))["messages"]

    assert message["state"] == f"held by you for {fetched['leased_seconds']} s more"


async def test_what_waits_is_counted_alike_everywhere(open_host, desk):
    other = await open_host("other")
    await desk.do("agent_register", capabilities="Answers")
    for content in ("a", "b"):
        await other.do("send_message", to="desk", content=content)
    await desk.do("fetch_messages", limit=1)

    me = await desk.do("whoami")
    [found] = (await desk.do("agent_discover"))["agents"]

    assert me["waiting"]["normal"] == me["mailboxes"][0]["waiting"] == 1
    assert me["your_unread"] == "1 unread: call mq9_fetch_messages"
    assert found["backlog"] == 2  # what it holds is not acked
