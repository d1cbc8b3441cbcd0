"""Progress messages: what they say, and that nobody takes one for the answer."""

from langgraph.config import get_stream_writer

from tests.worker.graphs import Steps, working


async def write(state, config):
    get_stream_writer()({"found": 3})


async def progress_of(client, graph, **options):
    """Ask with a reply mailbox of one's own, and return what came there: answers, progress."""
    async with working(client, graph, **options) as worker:
        await client.send("lawyer", {"topic": "tea"}, reply_to="asker", correlation_id="c")
        await client.clock.advance(30)
    came = await client.query("asker")
    answers = [one for one in came if one.correlation_id is not None]
    return worker, answers, [one for one in came if one.correlation_id is None]


async def test_it_tells_of_each_node_and_of_what_nodes_write(client):
    graph = Steps("read", "write", write=write).compile()
    worker, [answer], told = await progress_of(client, graph, progress="mailbox")
    assert answer.json()["trail"] == ["read", "write"]
    assert [one.json() for one in told] == [
        {"type": "progress", "node": "read"},
        {"type": "progress", "value": {"found": 3}},
        {"type": "progress", "node": "write"},
    ]
    assert [one.headers["progress"] for one in told] == ["read", "custom", "write"]
    assert {one.headers["progress-of"] for one in told} == {"c"}
    assert {one.sender for one in told} == {"lawyer"}
    assert worker.counters.progress == 3


async def test_what_was_told_is_not_told_again_when_a_step_is_repeated(client):
    failures = [ValueError("busy")]

    async def fail_once(state, config):
        await write(state, config)
        if failures:
            raise failures.pop()

    graph = Steps("read", "write", write=fail_once).compile()
    _, [_answer], told = await progress_of(client, graph, progress="mailbox")
    assert [one.headers["progress"] for one in told] == ["read", "custom", "failed", "write"]


async def test_the_first_failure_alone_is_told_where_the_message_is_tried_again(client):
    async def fail(state, config):
        raise ValueError("password=hunter2")

    graph = Steps("read", read=fail).compile()
    options = {"max_deliveries": 3, "progress": "mailbox"}
    _, [answer], [told] = await progress_of(client, graph, **options)
    body = answer.json()
    assert told.json() == {"type": "progress", "failed": body["reference"]}
    assert (told.headers["progress"], told.headers["progress-of"]) == ("failed", "c")
    assert (body["code"], body["reason"]) == ("failed", "ValueError")

    for one in await client.query("asker"):
        await client.delete("asker", one.msg_id)
    options["max_deliveries"] = 1  # a failure that is the last is no progress
    _, [answer], told = await progress_of(client, graph, **options)
    assert (answer.json()["type"], told) == ("error", [])


async def test_what_is_no_json_is_not_told(client):
    async def write_an_object(state, config):
        get_stream_writer()(object())

    graph = Steps("read", read=write_an_object).compile()
    _, [_answer], told = await progress_of(client, graph, progress="mailbox")
    assert [one.headers["progress"] for one in told] == ["read"]


async def test_a_run_goes_on_when_nobody_is_there_to_be_told(client):
    async def leave(state, config):
        await client.mailbox_drop("asker")

    steps = Steps("read", "write", read=leave)
    async with working(client, steps.compile(), progress="mailbox") as worker:
        await client.send("lawyer", {"topic": "tea"}, reply_to="asker", correlation_id="c")
        await client.clock.advance(1)
        assert steps.ran == ["read", "write"]
        assert (worker.counters.mail.unanswered, worker.counters.progress) == (1, 0)
