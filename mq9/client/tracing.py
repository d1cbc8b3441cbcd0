"""OpenTelemetry spans for messages that are sent, fetched and handled.

They follow OpenTelemetry's conventions for messaging. The headers of a message carry the trace
context. Without the package ``opentelemetry-api`` (extra ``otel``) there are no spans.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mq9.errors import InvalidRequest, Mq9Error
from mq9.models import Message
from mq9.protocol.requests import Send
from mq9.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, SpanKind

_logger = logging.getLogger("mq9.tracing")
_REPLY_MAILBOX = re.compile(r"reply\.[a-z2-7]{24,}")  # the names that Mq9Client.request makes


def is_on() -> bool:
    """Return whether there is a tracer, or a trace context to pass on."""
    return _api() is not None


class Sending:
    """A message while it is sent."""

    def __init__(self, options: Send, span: Span | None = None) -> None:
        self.options = options
        self._span = span

    def stored_as(self, msg_id: int) -> None:
        """Record the number of the message. -1 means that it has none yet."""
        if self._span is not None and msg_id >= 0:
            self._span.set_attribute("messaging.message.id", str(msg_id))


@contextmanager
def sending(mail_address: str, options: Send, size: int) -> Iterator[Sending]:
    """Trace a send of ``size`` bytes."""
    api = _api()
    if api is None:
        yield Sending(options)
        return
    attributes = {"messaging.message.body.size": size, **_conversation(options.correlation_id)}
    with api.span("send", mail_address, api.kinds.PRODUCER, attributes) as span:
        yield Sending(api.with_context(options), span)


@contextmanager
def requesting(mail_address: str) -> Iterator[list[Message]]:
    """Trace a question until its answer. Add the answer to the returned list."""
    api = _api()
    answers: list[Message] = []
    if api is None:
        yield answers
        return
    with api.span("request", mail_address, api.kinds.CLIENT, {}) as span:
        yield answers
        for link in api.links(answers):
            span.add_link(link.context)


def fetching(mail_address: str, group_name: str | None) -> Callable[[Sequence[Message]], None]:
    """Start to trace a fetch. Call the returned function with the fetched messages.

    A fetch without messages makes no span.
    """
    api = _api()
    if api is None:
        return lambda _: None
    began_ns = time.time_ns()

    def trace(fetched: Sequence[Message]) -> None:
        if fetched:
            attributes = {"messaging.batch.message_count": len(fetched), **_group(group_name)}
            links = api.links(fetched)
            with api.span("receive", mail_address, api.kinds.CLIENT, attributes, links, began_ns):
                pass

    return trace


@contextmanager
def handling(message: Message, group_name: str) -> Iterator[None]:
    """Trace the handling of a message, in the trace and with the baggage in its headers."""
    api = _installed()
    # The context in the message is passed on even if nothing is traced here.
    if api is None or (api.is_idle and not message.headers):
        yield
        return
    attributes = {
        "messaging.message.id": str(message.msg_id),
        "messaging.message.body.size": len(message.payload),
        **_group(group_name),
        **_conversation(message.correlation_id),
    }
    links = api.links([message])
    with (
        api.attached(api.carried_by(message)),
        api.span("process", message.mail_address, api.kinds.CONSUMER, attributes, links),
    ):
        yield


@contextmanager
def running(agent: str, thread_id: str) -> Iterator[None]:
    """Trace a run of an agent in a thread, with the conventions for generative AI."""
    api = _api()
    if api is None:
        yield
        return
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": agent,
        "gen_ai.conversation.id": thread_id,
    }
    with api.current(f"invoke_agent {agent}", api.kinds.INTERNAL, attributes):
        yield


@contextmanager
def detached() -> Iterator[None]:
    """Detach work that starts in the context from the current trace, because it lasts longer."""
    api = _api()
    if api is None:
        yield
        return
    with api.attached(api.empty()):
        yield


def _group(name: str | None) -> dict[str, Any]:
    return {} if name is None else {"messaging.consumer.group.name": name}


def _conversation(correlation_id: str | None) -> dict[str, Any]:
    if correlation_id is None:
        return {}
    return {"messaging.message.conversation_id": correlation_id}


def _api() -> _Api | None:
    """Return OpenTelemetry's API if it is installed and there is something to trace."""
    api = _installed()
    return None if api is None or api.is_idle else api


@functools.cache
def _installed() -> _Api | None:
    """Return OpenTelemetry's API if it is installed. The first call imports it."""
    try:
        return _Api()
    except ImportError:
        return None


class _Api:
    """The part of OpenTelemetry's API that mq9 uses."""

    def __init__(self) -> None:
        from opentelemetry import context, propagate, trace  # noqa: PLC0415  # an extra

        self.kinds: type[SpanKind] = trace.SpanKind
        self.empty = context.Context
        self._context, self._propagate, self._trace = context, propagate, trace
        self._tracer = trace.get_tracer("mq9", VERSION)

    @property
    def is_idle(self) -> bool:
        """Whether this program has no tracer, and no context to pass on."""
        return not self._context.get_current() and isinstance(
            self._trace.get_tracer_provider(), self._trace.ProxyTracerProvider
        )

    @contextmanager
    def span(
        self,
        operation: str,
        mail_address: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        links: Sequence[Link] = (),
        began_ns: int | None = None,
    ) -> Iterator[Span]:
        """Enter a messaging span. It records an exception that is raised inside."""
        # Every reply mailbox has another name, and span names must be few.
        is_temporary = _REPLY_MAILBOX.fullmatch(mail_address) is not None
        said = {
            "messaging.system": "mq9",
            "messaging.operation.name": operation,
            "messaging.destination.name": mail_address,
            **attributes,
        }
        if operation != "request":
            said["messaging.operation.type"] = operation
        if is_temporary:
            said["messaging.destination.temporary"] = True
        name = f"{operation} {'(temporary)' if is_temporary else mail_address}"
        with self.current(name, kind, said, links, began_ns) as span:
            yield span

    @contextmanager
    def current(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        links: Sequence[Link] = (),
        began_ns: int | None = None,
    ) -> Iterator[Span]:
        """Enter a span. It records an exception that is raised inside."""
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, links=links, start_time=began_ns
        ) as span:
            try:
                yield span
            except Exception as error:
                kind_of = error.code if isinstance(error, Mq9Error) else type(error).__qualname__
                span.set_attribute("error.type", kind_of)
                raise

    def with_context(self, options: Send) -> Send:
        """Return options whose headers carry the current context, if there is room.

        Headers that are set stay unchanged.
        """
        found: dict[str, str] = {}
        self._propagate.inject(found)
        for name, value in found.items():
            if name.lower() not in dict(options.headers):
                try:
                    options = dataclasses.replace(
                        options, headers=(*options.headers, (name, value))
                    )
                except InvalidRequest as error:
                    _logger.debug("a message goes without its %s: %s", name, error)
        return options

    def links(self, messages: Sequence[Message]) -> list[Link]:
        """Return a link to the sending span of each message that names one."""
        contexts = (
            self._trace.get_current_span(self.carried_by(one)).get_span_context()
            for one in messages
        )
        return [self._trace.Link(one) for one in contexts if one.is_valid]

    @contextmanager
    def attached(self, context: Any) -> Iterator[None]:
        """Enter a context."""
        token = self._context.attach(context)
        try:
            yield
        finally:
            self._context.detach(token)

    def carried_by(self, message: Message) -> Any:
        """Return the context in the headers of a message."""
        return self._propagate.extract(message.headers, context=self.empty())
