"""Mailboxes that others may look into, and not take from."""

import pytest

from .tool_calls import bodies, do, fail, send

pytestmark = pytest.mark.unmeasured

OPEN = "this broker does not know who asks: all who know the address can look, take and write"


@pytest.mark.parametrize("readable_by", [["everybody"], ["worker"]])
def test_a_state_is_published(planner, worker, readable_by):
    made = do(planner, "create_mailbox", name="fares", readable_by=readable_by)
    assert (made["readable_by"], made["not_enforced"]) == (readable_by, OPEN)
    assert made["writable_by"] == "only you"
    send(planner, "Oslo: 90", "fares", key="oslo")
    send(planner, "Oslo: 80", "fares", key="oslo")

    assert bodies(do(worker, "query_messages", mail_address="fares", key="oslo")) == ["Oslo: 80"]
    for tool, arguments in {
        "fetch_messages": {},
        "delete_message": {"msg_id": 1, "confirm_address": "fares"},
    }.items():
        refused = fail(worker, tool, mail_address="fares", **arguments)
        assert "worker may read its own mailbox worker and what it made, not fares" in refused


@pytest.mark.parametrize("readable_by", [None, [], ["me"], ["somebody"]])
def test_else_nobody_may_look(planner, worker, readable_by):
    made = do(planner, "create_mailbox", name="fares", readable_by=readable_by)

    assert made["readable_by"] == [one for one in readable_by or [] if one != "me"]
    assert "may read its own" in fail(worker, "query_messages", mail_address="fares")


def test_everybody_is_everybody(planner):
    refused = fail(planner, "create_mailbox", readable_by=["everybody", "worker"])
    assert refused.startswith("readable_by: everybody includes all agents")


def test_a_published_state_is_no_work_that_waits(planner):
    do(planner, "create_mailbox", name="fares", readable_by=["everybody"])
    send(planner, "Oslo: 90", "fares")

    [message] = do(planner, "query_messages", mail_address="fares")["messages"]
    assert "state" not in message
    [listed] = do(planner, "query_messages", sent=True)["sent"]
    assert listed["state"] == "published"


def test_how_the_mail_of_another_stands_is_not_told(planner, worker):
    do(planner, "create_mailbox", name="fares", readable_by=["everybody"])
    send(planner, "Oslo: 90", "fares")

    [message] = do(worker, "query_messages", mail_address="fares")["messages"]
    assert "state" not in message
    refused = fail(worker, "query_messages", mail_address="fares", state="new")
    assert refused.startswith("state: how fares is read concerns its owner")
