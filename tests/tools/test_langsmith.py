"""What the tools send carries the LangSmith run that sent it."""

import pytest
from langsmith.run_helpers import get_current_run_tree, trace, tracing_context
from langsmith.run_trees import RunTree

from .tool_calls import ado, do, send


@pytest.fixture
def local():
    """Runs are traced, and told to nobody."""
    with tracing_context(enabled="local"):
        yield


async def sent(broker):
    async with broker.client() as client:
        return (await client.query("worker"))[-1]


@pytest.mark.parametrize("called", ["sync", "async"])
async def test_a_message_carries_the_run_that_sent_it(broker, planner, worker, local, called):
    arguments = {"mail_address": "worker", "content": "x"}
    with trace("plan", tags=["trip"]) as run:
        if called == "sync":
            do(planner, "send_message", **arguments)
        else:
            await ado(planner, "send_message", **arguments)

    headers = (await sent(broker)).headers
    assert headers["langsmith-trace"] == run.dotted_order
    parent = RunTree.from_headers(headers)
    assert (parent.id, parent.trace_id) == (run.id, run.trace_id)
    with tracing_context(parent=headers, enabled="local"), trace("work"):
        assert get_current_run_tree().trace_id == run.trace_id


async def test_what_is_too_long_for_a_header_is_left_out(broker, planner, worker, local):
    with trace("plan", metadata={"much": "x" * 300}) as run:
        send(planner, "x", "worker")
    assert dict((await sent(broker)).headers) == {"langsmith-trace": run.dotted_order}


async def test_outside_of_a_run_there_is_none(broker, planner, worker):
    send(planner, "x", "worker")
    assert dict((await sent(broker)).headers) == {}
