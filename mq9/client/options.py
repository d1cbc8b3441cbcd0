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
    """Declaration of an option: its default and the check of its value."""

    default: Any
    check: Check


def unchecked(_name: str, value: Any) -> Any:
    """Return any value."""
    return value


_ABSENT = Option(None, unchecked)


class ClientOptions(TypedDict, total=False):
    """The options of ``Mq9Client``.

    Attributes:
        request_timeout: Seconds to wait for a reply, more than 0. The wait of a fetch and the time
            to connect come on top. Default: 5.
        reconnect_attempts: Maximum number of repetitions of a request, 0 to 1 000. Default: 5.
        reconnect_delay: Seconds before each repetition except the first, which follows at once.
            Default: 2. After ``unavailable``, the first pause is an eighth of it, and each further
            pause doubles, up to the full delay.
        clock: The clock of the client. Default: the broker's clock.
        randomness: Function that returns a given number of unpredictable bytes, for ids and reply
            addresses. Default: ``secrets.token_bytes``.
        embeddings: For an in-process broker that no other client has open: an object with
            ``embed_documents`` and ``embed_query``, for search by meaning. Default: WordLlama, if
            the extra ``semantic`` is installed. A server has its own embeddings.
        agents: For an in-process broker: the names of all configured agents, including ``agent``.
            Other agents cannot use these names and their mailboxes. ``agent`` cannot use mailboxes
            and registrations without a creator. A mapping also limits where each may send, such as
            ``{"lawyer": None, "clerk": ["lawyer", "team.*"]}``. None means everywhere. Default: no
            agents are configured. A server has its users file.
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
        priority: ``critical``, ``urgent`` or ``normal``, in the order of delivery. Default:
            ``normal``.
        key: At most one visible message has this key. The new message replaces the older one.
        delay: Seconds until the message becomes visible. Default: visible at once.
        ttl: Lifetime in seconds, counted from the send. Must exceed ``delay``. Default: the message
            never expires.
        tags: Up to 64 tags to filter by, without commas. Default: none.
        id: The idempotency id. A mailbox stores one message for each id and sender. Default: a new
            id, so that a lost reply never stores a message twice.
        sender: The name of the sender. It is a claim, unless the connection has authenticated.
        from_mailbox: A mailbox that the sender may take messages from. It shows the reader on whose
            behalf the message comes. The broker checks it if the connection has authenticated as
            an agent. Otherwise it is a claim.
        reply_to: The address for the answer.
        correlation_id: The id of the question, in the question and in its answer.
        path: The agents that this conversation has passed through.
        answer_by: The deadline for an answer, in Unix seconds, for the reader. The client rounds it
            up to whole seconds.
        tell_overdue: Whether the broker sends a message to ``reply_to`` if there is no answer by
            ``answer_by``. It needs ``answer_by``, ``correlation_id``, and a mailbox ``reply_to``
            that the sender may send to. Default: False.
        headers: Further headers, such as ``traceparent``: up to 64, 8 KiB together. Names are HTTP
            header names in any case, and start with neither ``mq9-`` nor ``nats-``. Values are 1 to
            256 printable characters.
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
