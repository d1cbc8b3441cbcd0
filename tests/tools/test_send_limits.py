"""Limits of what an agent sends."""

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mq9.middleware import InboxMiddleware, SendLimitExceeded, SendLimitMiddleware
from langchain_mq9.testing import call
from mq9 import InvalidRequest

from .agent_runs import QUESTION, Script
from .tool_calls import bodies, do, fetch, run_in, send


async def many(broker, address):
    return [message.text for message in await broker.client().query(address)]


def sends(*contents, to="worker"):
    """A step of the model that sends several messages at once."""
    calls = [call("send_message", to=to, content=one).tool_calls[0] for one in contents]
    return AIMessage("", tool_calls=calls)


def limited(script, toolkit, *, checkpointer=None, **options):
    return create_agent(
        script.model,
        toolkit.get_tools(),
        middleware=[SendLimitMiddleware(**options)],
        checkpointer=checkpointer,
    )


def refusals(said):
    return [one.content for one in said["messages"] if one.type == "tool" and one.status == "error"]


class TestSendLimits:
    async def test_a_run_sends_no_more_than_it_may(self, planner, worker, broker, any_run):
        script = Script(sends("1", "2", "3"), sends("4"), "done")
        said = await any_run(limited(script, planner, run_limit=2), QUESTION)
        assert sorted(await many(broker, "worker")) == ["1", "2"]
        told = "Not sent: this run may send 2, and has. Do not send it again; go on without it, "
        assert refusals(said) == [f"{told}or tell the user."] * 2
        assert said["messages"][-1].content == "done"

    async def test_other_tools_are_not_limited(self, planner, worker, run):
        script = Script(sends("1"), call("agent_discover"), "done")
        said = await run(limited(script, planner, run_limit=0), QUESTION)
        assert len(refusals(said)) == 1
        assert [one.name for one in said["messages"] if one.type == "tool"] == [
            "send_message",
            "agent_discover",
        ]

    def test_questions_are_counted_and_waiting_for_an_answer_is_not(self, planner, worker):
        script = Script(
            call("ask_agent", content="?", mail_address="worker"),
            call("ask_agent", content="?", capability="works"),
            call("ask_agent", question_id="none of ours", wait_seconds=1),
            "done",
        )
        said = create_agent(
            script.model,
            [planner.ask_agent_tool()],
            middleware=[SendLimitMiddleware(run_limit=0)],
        ).invoke(QUESTION)
        told = refusals(said)
        assert [one.startswith("Not sent: ") for one in told] == [True, True, False]
        assert fetch(worker)["empty"] == "no mail waits"

    async def test_runs_of_a_thread_are_counted_together(self, planner, worker, broker, run):
        script = Script(sends("1", "2"), "done", sends("3", "4"), "done", sends("5"), "done")
        agent = limited(script, planner, run_limit=2, thread_limit=3, checkpointer=InMemorySaver())
        await run(agent, QUESTION, run_in("1"))
        said = await run(agent, QUESTION, run_in("1"))
        assert refusals(said)[0].startswith("Not sent: this conversation may send 3, and has.")
        await run(agent, QUESTION, run_in("2"))
        assert sorted(await many(broker, "worker")) == ["1", "2", "3", "5"]

    async def test_each_recipient_is_counted_by_whatever_name(
        self, planner, worker, open_toolkit, broker, run
    ):
        for name in ("Data Team", "other"):
            do(open_toolkit(name), "agent_register", capabilities="works")
        script = Script(
            sends("1", to="Data Team"),
            sends("2", to="data.team"),
            sends("3", to="mq9://any/data.team"),
            sends("4", to="other"),
            "done",
        )
        said = await run(limited(script, planner, per_recipient=2), QUESTION)
        assert await many(broker, "data.team") == ["1", "2"]
        assert await many(broker, "other") == ["4"]
        assert refusals(said)[0].startswith("Not sent: this run may send 2 to one recipient")

    async def test_the_run_may_end_instead(self, planner, worker, broker, run):
        script = Script(sends("1"), sends("2", "3"))
        agent = limited(script, planner, run_limit=2, exit_behavior="end")
        said = await run(agent, QUESTION)
        assert await many(broker, "worker") == ["1"]
        assert refusals(said)[0] == "Not carried out: the run has ended."
        assert said["messages"][-1].type == "ai"
        assert said["messages"][-1].content.startswith("Not sent: this run may send 2, and has.")

    async def test_the_run_may_fail_instead(self, planner, worker, broker, run):
        agent = limited(Script(sends("1", "2")), planner, run_limit=1, exit_behavior="error")
        with pytest.raises(SendLimitExceeded, match="may send 1"):
            await run(agent, QUESTION)
        assert await many(broker, "worker") == []

    async def test_a_conversation_is_sent_on_no_further_than_it_may_be(
        self, planner, worker, broker, any_run
    ):
        script = Script(sends("1"), "done", sends("2"), "done")
        agent = limited(script, planner, max_hops=2)
        for path in (["A"], ["A", "B"]):
            config = {"configurable": {"thread_id": "1", "mq9_path": path}}
            said = await any_run(agent, QUESTION, config)
        assert await many(broker, "worker") == ["1"]
        [refusal] = refusals(said)
        assert "passed through 2 agents" in refusal
        assert send(planner, "3", "worker")["msg_id"] == 1

    @pytest.mark.parametrize(
        "options",
        [
            {"run_limit": None},
            {"run_limit": -1},
            {"thread_limit": True},
            {"per_recipient": 1.5},
            {"max_hops": 64},
            {"exit_behavior": "stop", "run_limit": 1},
            {"tool_names": "send_message", "run_limit": 1},
        ],
    )
    def test_options_are_checked(self, options):
        with pytest.raises(InvalidRequest, match=next(iter(options))):
            SendLimitMiddleware(**options)


def test_both_kinds_of_middleware_go_together(inbox, worker):
    send(worker, "task")
    script = Script(sends("1", "2"), "done")
    create_agent(
        script.model,
        inbox.get_tools(),
        middleware=[InboxMiddleware(inbox, mode="messages"), SendLimitMiddleware(run_limit=1)],
    ).invoke(QUESTION)
    assert bodies(fetch(worker)) == ["1"]
    assert fetch(inbox)["empty"] == "no mail waits"
