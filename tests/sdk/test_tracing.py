"""What OpenTelemetry is told of messages, and the trace that they carry."""

import asyncio
import subprocess
import sys
from typing import TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from langchain_mq9 import MailboxWorker
from mq9 import MailboxNotFound, NoReply


class Order(TypedDict, total=False):
    topic: str


class TracerOfTheTest(trace.Tracer):
    """Passes everything on to a tracer that can be changed; it traces nothing by itself."""

    used = trace.NoOpTracer()

    def start_span(self, *args, **options):
        return self.used.start_span(*args, **options)

    def start_as_current_span(self, *args, **options):
        return self.used.start_as_current_span(*args, **options)


class ProviderOfTheTest(trace.TracerProvider):
    """The provider of this process, since it can be set only once in one."""

    def get_tracer(self, *_args, **_options):
        return TracerOfTheTest()


@pytest.fixture(scope="module", autouse=True)
def _provider():
    trace.set_tracer_provider(ProviderOfTheTest())


@pytest.fixture
def exporter(monkeypatch):
    """What has been exported during this test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(TracerOfTheTest, "used", provider.get_tracer("mq9"))
    return exporter


def spans(exporter, operation):
    return [
        span
        for span in exporter.get_finished_spans()
        if span.attributes.get("messaging.operation.name") == operation
    ]


async def handled(client, handler, **options):
    """Consume until one message has been handled."""
    done = asyncio.Event()

    async def handle(message):
        try:
            return await handler(message)
        finally:
            done.set()

    consumer = await client.consume(
        "inbox", handle, group_name="workers", deliver="earliest", error_handler=ignore, **options
    )
    await done.wait()
    await consumer.stop()


def ignore(_message, _error):
    """Leave an error to the trace."""


async def test_a_message_is_handled_in_the_trace_that_sent_it(exporter, client):
    msg_id = await client.send("inbox", "tidy up", correlation_id="q-1")

    async def handle(_message):
        assert trace.get_current_span().get_span_context().trace_id == sent.context.trace_id

    [sent] = spans(exporter, "send")
    await handled(client, handle)

    assert (sent.name, sent.kind) == ("send inbox", SpanKind.PRODUCER)
    assert dict(sent.attributes) == {
        "messaging.system": "mq9",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "inbox",
        "messaging.message.id": str(msg_id),
        "messaging.message.conversation_id": "q-1",
        "messaging.message.body.size": 7,
    }
    [processed] = spans(exporter, "process")
    assert (processed.name, processed.kind) == ("process inbox", SpanKind.CONSUMER)
    assert processed.parent.span_id == sent.context.span_id
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert processed.attributes["messaging.consumer.group.name"] == "workers"
    assert processed.attributes["messaging.message.id"] == str(msg_id)


async def test_a_batch_is_linked_to_what_sent_each_message_of_it(exporter, client):
    await client.fetch("inbox", max_wait_ms=0)
    assert spans(exporter, "receive") == [], "nothing was received"
    for number in range(3):
        await client.send("inbox", f"task {number}")

    await client.fetch("inbox", group_name="workers", deliver="earliest")

    [received] = spans(exporter, "receive")
    assert (received.name, received.kind) == ("receive inbox", SpanKind.CLIENT)
    assert received.attributes["messaging.batch.message_count"] == 3
    assert [link.context.span_id for link in received.links] == [
        sent.context.span_id for sent in spans(exporter, "send")
    ]


async def test_a_question_is_one_trace_with_its_answer(exporter, client):
    async def handle(message):
        return f"{message.text}, done"

    asked = asyncio.create_task(client.request("inbox", "water the plants"))
    await handled(client, handle)
    await asked

    [request] = spans(exporter, "request")
    question, answer = spans(exporter, "send")
    [processed] = spans(exporter, "process")
    assert (request.name, request.kind) == ("request inbox", SpanKind.CLIENT)
    assert question.parent.span_id == request.context.span_id
    assert processed.parent.span_id == question.context.span_id
    assert answer.parent.span_id == processed.context.span_id
    assert [link.context.span_id for link in request.links] == [answer.context.span_id]
    assert answer.name == "send (temporary)"
    assert answer.attributes["messaging.destination.temporary"] is True


async def test_what_fails_says_so(exporter, client):
    async def handle(_message):
        raise ValueError("no")

    with pytest.raises(MailboxNotFound):
        await client.send("nobody", "x")
    with pytest.raises(NoReply):
        await client.request("inbox", "x", timeout=0.001)
    await handled(client, handle)

    for operation, kind in (
        ("send", "mailbox_not_found"),
        ("request", "no_reply"),
        ("process", "ValueError"),
    ):
        span = spans(exporter, operation)[0]
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == kind


async def test_baggage_reaches_the_handler_and_does_not_stay(exporter, client):
    token = context.attach(baggage.set_baggage("customer", "7"))
    await client.send("inbox", "x")
    context.detach(token)
    seen = []

    async def handle(_message):
        seen.append(baggage.get_baggage("customer"))

    await handled(client, handle)
    await client.send("inbox", "without")
    await handled(client, handle)
    assert seen == ["7", None]


async def test_a_plain_function_is_in_the_trace_too(exporter, client):
    seen = asyncio.get_running_loop().create_future()

    def handle(_message):
        span = trace.get_current_span().get_span_context()
        seen.get_loop().call_soon_threadsafe(seen.set_result, span.trace_id)

    await client.send("inbox", "x")
    consumer = await client.consume("inbox", handle, group_name="g", deliver="earliest")
    assert await seen == spans(exporter, "send")[0].context.trace_id
    await consumer.stop()


async def test_a_consumer_does_not_stay_in_the_trace_that_started_it(exporter, client):
    with trace.get_tracer("a program").start_as_current_span("start") as start:
        start.set_attribute("messaging.operation.name", "start")
        consumer = await client.consume("inbox", lambda _: None, group_name="g", deliver="earliest")
    await client.send("inbox", "x")
    while not spans(exporter, "process"):  # noqa: ASYNC110  # no event tells that one has ended
        await asyncio.sleep(0)
    await consumer.stop()
    trace_id = spans(exporter, "start")[0].context.trace_id
    assert spans(exporter, "process")[0].context.trace_id != trace_id
    assert spans(exporter, "receive")[-1].context.trace_id != trace_id


async def test_headers_that_were_given_stay_and_the_rest_is_added_as_far_as_there_is_room(
    exporter, client
):
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.send("inbox", "x", headers={"TraceParent": given})
    full = {f"x-{number}": "y" for number in range(64)}
    await client.send("inbox", "x", headers=full)
    token = context.attach(baggage.set_baggage("much", "x" * 300))
    await client.send("inbox", "x")
    context.detach(token)

    first, second, third = await client.fetch("inbox", deliver="earliest")
    assert dict(first.headers) == {"traceparent": given}
    assert dict(second.headers) == full
    assert set(third.headers) == {"traceparent"}


@pytest.mark.programs
def test_without_the_package_nothing_is_imported_and_everything_works():
    script = """
import sys
for name in ("opentelemetry", "opentelemetry.trace"):
    sys.modules[name] = None
import asyncio
from mq9 import Mq9Client

async def main():
    async with Mq9Client("memory://x") as client:
        inbox = await client.mailbox_create(name="inbox")
        consumer = await client.consume(inbox, lambda m: m.text, group_name="g", deliver="earliest")
        print((await client.request(inbox, "hello")).text)
        await consumer.stop()
    print([name for name in sys.modules if name.startswith("opentelemetry.")])

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "hello\n['opentelemetry.trace']\n", done.stderr


async def test_a_run_of_a_worker_is_in_the_trace_of_its_message(exporter, client):
    inside = []

    def read(state):
        inside.append(trace.get_current_span().get_span_context())
        return {"topic": "rice"}

    graph = StateGraph(Order).add_node(read).add_edge(START, "read")
    compiled = graph.compile(checkpointer=InMemorySaver())
    async with MailboxWorker(compiled, agent="clerk", client=client):
        await client.request("clerk", {"topic": "tea"})
    [run] = [one for one in exporter.get_finished_spans() if one.name == "invoke_agent clerk"]
    [processed] = spans(exporter, "process")
    assert run.parent.span_id == processed.context.span_id
    assert [one.span_id for one in inside] == [run.context.span_id]
    thread = run.attributes["gen_ai.conversation.id"]
    assert dict(run.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "clerk",
        "gen_ai.conversation.id": thread,
    }
    assert compiled.get_state({"configurable": {"thread_id": thread}}).values == {"topic": "rice"}


@pytest.fixture
def nothing_is_traced(monkeypatch):
    """As in a program that has set no provider."""
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)


async def test_where_nothing_is_traced_a_plain_message_has_no_span(nothing_is_traced, client):
    seen = []

    async def handle(_message):
        seen.append(dict(context.get_current()))

    await client.send("inbox", "plain")
    await handled(client, handle)
    assert seen == [{}]


async def test_where_nothing_is_traced_baggage_is_handed_on(nothing_is_traced, client):
    token = context.attach(baggage.set_baggage("customer", "7"))
    await client.send("inbox", "x")
    context.detach(token)
    seen = []

    async def handle(_message):
        seen.append(baggage.get_baggage("customer"))

    await handled(client, handle)
    assert seen == ["7"]
