"""A worker for a graph that a server of LangGraph runs, of which there is a stand-in."""

from tests.worker.graphs import Steps, ask, fail_once, working
from tests.worker.langgraph_server import Served


async def test_a_remote_graph_runs_in_threads_of_its_server(client):
    steps = Steps("read", "write")
    served = Served(steps.compile())
    async with working(client, served.remote(), progress="mailbox") as worker:
        for topic in ("tea", "rice"):
            await ask(client, topic)
        await client.clock.advance(1)
        assert worker.counters.started == 2
    came = await client.query("asker")
    assert [one.json()["trail"] for one in came if one.correlation_id] == [
        ["read", "write"],
        ["read", "write", "read", "write"],
    ]
    assert [one.headers["progress"] for one in came if not one.correlation_id] == [
        *("read", "write", "read", "write")
    ]
    assert served.durabilities == {"sync"}


async def test_a_remote_run_that_failed_goes_on_where_it_was(client):
    steps = Steps("read", "write", write=fail_once(ValueError("busy")))
    async with working(client, Served(steps.compile()).remote()) as worker:
        answer = await client.request("lawyer", {"topic": "tea"})
        assert answer.json()["trail"] == ["read", "write"]
        assert worker.counters.continued == 1
    assert steps.ran == ["read", "write", "write"]
