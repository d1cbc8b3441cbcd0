"""What a worker makes of a message: input, run, answer, or dead letter."""

import pytest

from mq9 import InvalidRequest
from tests.worker.graphs import Steps, echo, held, working


async def test_a_json_object_goes_in_and_the_final_state_comes_back(client):
    steps = Steps("read", "write")
    async with working(client, steps.compile()) as worker:
        answer = await client.request("lawyer", {"topic": "tea"})
        assert answer.json() == {"topic": "tea", "trail": ["read", "write"]}
        assert answer.sender == "lawyer"
    assert worker.counters.mail.processed == 1
    assert worker.counters.started == 1
    assert await held(client) == 0


async def test_text_goes_into_a_graph_over_messages_and_the_last_message_comes_back(client):
    async with working(client, echo()):
        answer = await client.request("lawyer", "good morning")
        assert answer.text == "1: good morning"


async def test_what_does_not_fit_is_moved_away_with_the_reason(client):
    steps = Steps("read")
    async with working(client, steps.compile()) as worker:
        for body in (b"\xff", "tea", "[1]", "{}", '{"subject": "tea"}'):
            await client.send("lawyer", body)
        await client.clock.advance(0)
        assert worker.counters.mail.dead_lettered == 5
    reasons = [one.moved.reason for one in await client.query("lawyer.dead")]
    assert reasons[0].startswith("the body is no JSON")
    assert reasons[1].startswith("the body is no JSON, and the graph takes an object: ")
    assert reasons[2:] == [
        "the body is JSON, but no object: the graph takes an object with topic, trail",
        "the body is an empty object; the graph takes an object with topic, trail",
        "the body has 'subject'; the graph takes an object with topic, trail",
    ]
    assert steps.ran == []


async def test_a_run_that_keeps_failing_is_moved_away_with_where_it_failed(client):
    async def fail(state, config):
        raise ValueError("no such contract")

    steps = Steps("read", "write", write=fail)
    async with working(client, steps.compile(), max_deliveries=3) as worker:
        await client.send("lawyer", {"topic": "tea"})
        await client.clock.advance(60)
        assert (worker.counters.mail.failed, worker.counters.continued) == (3, 0)
    [moved] = await client.query("lawyer.dead")
    first, task, frame, *_ = moved.moved.reason.splitlines()
    assert first == "ValueError: no such contract"
    assert task.startswith("During task with name 'write'")
    assert frame.endswith('in fail: raise ValueError("no such contract")')
    assert steps.ran == ["read", "write", "write", "write"]  # what is checkpointed ran once


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (Steps("read").builder, "graph: StateGraph does not run in threads"),
        (Steps("read").builder.compile(), "graph: it has no checkpointer"),
    ],
)
async def test_a_graph_that_could_not_go_on_after_a_crash_is_refused(client, graph, reason):
    with pytest.raises(InvalidRequest, match=reason):
        async with working(client, graph):
            pass
