"""Options, each declared once: type, default, check and description."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar, get_origin, get_type_hints

from mq9.clock import Clock
from mq9.discovery import embeddings as finding
from mq9.discovery.embeddings import Embeddings
from mq9.models import Priority
from mq9.protocol import checks
from mq9.protocol.checks import Check

F = TypeVar("F", bound=Callable[..., object])


class Option(NamedTuple):
    """Declaration of an option: its default, and the check of its value."""

    default: Any
    check: Check


def unchecked(_name: str, value: Any) -> Any:
    """Return any value."""
    return value


_ABSENT = Option(None, unchecked)


class ClientOptions(TypedDict, total=False):
    """The options of ``Mq9Client``.

    Attributes:
        request_timeout: Seconds to wait for a reply, beside what a fetch waits for messages and
            what connecting takes; more than 0. 5 by default.
        reconnect_attempts: How often a request is repeated at most, 0 to 1 000; 5 by default.
        reconnect_delay: Seconds before each repetition but the first, which is made at once; 2 by
            default. After a refusal as ``unavailable`` the pauses begin with an eighth of it, and
            double up to it.
        clock: The clock to go by; the broker's own by default.
        randomness: Returns that many unpredictable bytes, for ids and reply addresses.
        embeddings: For an in-process broker that no client has open, what finds agents by meaning:
            any object with ``embed_documents`` and ``embed_query``. By default WordLlama, where
            the extra ``semantic`` is installed. A server has its own.
        agents: For an in-process broker, all agents that are configured, ``agent`` among them:
            their names and mailboxes are then theirs alone, and what has no creator is closed to
            ``agent``. Without it no agents are configured. A mapping says where each may send, such
            as ``{"lawyer": None, "clerk": ["lawyer", "team.*"]}``; None for everywhere. A server
            has its users file.
    """

    request_timeout: Annotated[float, Option(5.0, checks.seconds(above_zero=True))]
    reconnect_attempts: Annotated[int, Option(5, checks.whole(0, 1_000))]
    reconnect_delay: Annotated[float, Option(2.0, checks.seconds())]
    clock: Annotated[Clock | None, Option(None, unchecked)]
    randomness: Annotated[Callable[[int], bytes], Option(secrets.token_bytes, unchecked)]
    embeddings: Annotated[Embeddings | None, Option(None, checks.optional(finding.checked))]
    agents: Annotated[
        Sequence[str] | Mapping[str, Sequence[str] | None] | None, Option(None, unchecked)
    ]


class SendOptions(TypedDict, total=False):
    """The options of ``send`` and ``send_detailed``.

    Attributes:
        priority: ``critical`` before ``urgent`` before ``normal``.
        key: At most one visible message has it: this one replaces an older one.
        delay: Seconds until it becomes visible.
        ttl: Seconds from now until it expires; more than ``delay``.
        tags: Up to 64 words to find it by, without commas.
        id: The same id again, from the same sender to the same mailbox, is stored once. Made up
            when not given, so that a lost reply never stores a message twice.
        sender: Who sends it. A claim, unless the connection has authenticated.
        from_mailbox: A mailbox that the sender may take messages from, so that the reader knows on
            whose behalf it comes. The broker checks it where the connection has authenticated as an
            agent; elsewhere it is a claim.
        reply_to: The address that the answer goes to.
        correlation_id: Which question it answers, or is.
        path: The agents that this conversation has passed through.
        answer_by: Until when an answer is wanted, in Unix seconds, for the reader to see. A
            fraction is rounded up.
        tell_overdue: Whether to be told, by a message to ``reply_to``, when no answer has come by
            then. It needs ``answer_by``, ``correlation_id``, and a mailbox ``reply_to`` that the
            sender may send to.
        headers: Further headers, such as ``traceparent``: up to 64, 8 KiB together. Names are those
            of HTTP, no matter their case, and begin neither with ``mq9-`` nor with ``nats-``;
            values are 1 to 256 printable characters.
    """

    priority: Annotated[Priority | str, Option(Priority.NORMAL, unchecked)]
    key: Annotated[str | None, _ABSENT]
    delay: Annotated[int | None, _ABSENT]
    ttl: Annotated[int | None, _ABSENT]
    tags: Annotated[Sequence[str] | None, _ABSENT]
    id: Annotated[str | None, _ABSENT]
    sender: Annotated[str | None, _ABSENT]
    from_mailbox: Annotated[str | None, _ABSENT]
    reply_to: Annotated[str | None, _ABSENT]
    correlation_id: Annotated[str | None, _ABSENT]
    path: Annotated[Sequence[str] | None, _ABSENT]
    answer_by: Annotated[float | None, _ABSENT]
    tell_overdue: Annotated[bool, Option(False, unchecked)]
    headers: Annotated[Mapping[str, str] | None, _ABSENT]


@functools.cache
def _declared(kind: type) -> dict[str, tuple[Any, Option]]:
    """Return type and declaration of each option, by its name."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: (hint.__origin__, hint.__metadata__[0])
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
    }


def checked_as(kind: type, given: Mapping[str, Any], caller: str | None = None) -> dict[str, Any]:
    """Return all options that a class declares, those with their defaults that are not given.

    With the name of a ``caller`` others are refused as Python refuses them.
    """
    declared = _declared(kind)
    for name in given:
        if caller is not None and name not in declared:
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")
    return {
        name: option.check(name, given.get(name, option.default))
        for name, (_, option) in declared.items()
    }


def takes(kind: type) -> Callable[[F], F]:
    """Return a decorator that puts the options, with their defaults, into a signature."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        *others, rest = signature.parameters.values()
        declared = _declared(kind)
        options = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hint
            )
            for name, (hint, option) in declared.items()
        ]
        if declared.keys() != get_type_hints(kind).keys():
            options.append(rest)
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]  # as functools does
            parameters=[*others, *options]
        )
        return function

    return decorate
