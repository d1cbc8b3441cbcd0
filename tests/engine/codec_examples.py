"""Examples of all that the codec writes: with every field set, and with none but the needed."""

from mq9.engine.commands import (
    Actor,
    Advance,
    Call,
    ClaimNames,
    Limits,
    NoteRead,
    Seen,
    SetLimits,
    Sweep,
    Undo,
)
from mq9.models import Deliver, LookPolicy, MailboxType, Occasion, Priority, Promise, SendPolicy
from mq9.models import Deliver, LookPolicy, MailboxType, Occasion, Priority, Role, SendPolicy
from mq9.protocol.checks import MAX_MSG_ID, MAX_SECONDS, MAX_UNIX_SECONDS
from mq9.protocol.requests import (
    Ack,
    Cancel,
    CreateMailbox,
    Delete,
    DropMailbox,
    Extend,
    Fetch,
    GrantMailbox,
    Move,
    Nack,
    Notify,
    Register,
    Release,
    Report,
    Send,
    Unregister,
)

WORDS = "Grüße 世界 \U0001f600"
EVERY_BYTE = bytes(range(256))

# By the names of the commands.
REQUESTS = {
    "create_mailbox": [
        CreateMailbox(
            name="box.1",
            type=MailboxType.LATEST,
            ttl=MAX_SECONDS,
            desc=WORDS,
            public=True,
            renew=True,
        ),
        CreateMailbox(prefix="private"),
        CreateMailbox(name="box.2", send_policy=SendPolicy.CREATOR),
        CreateMailbox(send_policy=SendPolicy.GRANTED),
        CreateMailbox(look_policy=LookPolicy.EVERYONE, viewers=("desk", WORDS)),
        CreateMailbox(),
    ],
    "drop_mailbox": [DropMailbox()],
    "grant_mailbox": [
        GrantMailbox(readers=("planner", WORDS)),
        GrantMailbox(readers=()),
        GrantMailbox(
            readers=("planner",),
            viewers=("desk", WORDS),
            senders=(WORDS,),
            send_policy=SendPolicy.GRANTED,
        ),
        GrantMailbox(send_policy=SendPolicy.EVERYONE),
        GrantMailbox(look_policy=LookPolicy.EVERYONE),
    ],
    "send": [
        Send(
            priority=Priority.CRITICAL,
            key=WORDS,
            delay=1,
            ttl=MAX_SECONDS,
            tags=("a", WORDS),
            id="id-1",
            sender="planner",
            reply_to="planner.replies",
            correlation_id="question-1",
            path=("planner", "planner", "worker"),
            headers=(("traceparent", "00-0af7651916cd43dd-01"), ("x-words", WORDS)),
        ),
        Send(from_mailbox="planner.questions"),
        Send(details=True),
        Send(answer_by=MAX_UNIX_SECONDS),
        Send(
            answer_by=1_900_000_000,
            tell_overdue=True,
            reply_to="planner.replies",
            correlation_id="question-1",
        ),
        Send(priority=Priority.URGENT),
        Send(),
    ],
    "fetch": [
        Fetch(
            consumer="worker/1",
            group_name="workers",
            deliver=Deliver.FROM_TIME,
            from_time=MAX_UNIX_SECONDS,
            from_id=MAX_MSG_ID,
            force_deliver=True,
            request_id="request-1",
            num_msgs=1_000,
            max_bytes=64 * 1024 * 1024,
            max_wait_ms=0,
            lease_ms=1_000,
            redeliver_own=False,
        ),
        Fetch(priority=Priority.URGENT, deliver=Deliver.FROM_ID, from_id=0),
        Fetch(deliver=Deliver.LATEST),
        Fetch(deliver=Deliver.NEW),
        Fetch(group_name="workers", begun=True),
        Fetch(group_name="workers", list_held=True),
        Fetch(group_name="workers", min_msgs=3, linger_ms=500),
        Fetch(),
    ],
    "ack": [
        Ack(
            consumer="worker/1",
            group_name="workers",
            mail_address="box",
            msg_id=MAX_MSG_ID,
            batch="batch-1",
            individual=True,
        ),
        Ack(group_name="workers", msg_id=0),
    ],
    "nack": [
        Nack(
            consumer="worker/1",
            group_name="workers",
            msg_id=7,
            batch="batch-1",
            delay_ms=86_400_000,
        ),
        Nack(group_name="workers", msg_id=7, reason=WORDS),
        Nack(group_name="workers", msg_id=7),
    ],
    "move": [
        Move(
            consumer="worker/1",
            group_name="workers",
            msg_id=7,
            batch="batch-1",
            to="worker.dead",
            reason=WORDS,
        ),
        Move(group_name="workers", msg_id=7, to="worker.dead"),
    ],
    "extend": [
        Extend(
            consumer="worker/1",
            group_name="workers",
            msg_ids=(MAX_MSG_ID, 0, 255, 256, 65_536),
            lease_ms=86_400_000,
        ),
        Extend(group_name="workers", msg_ids=(1,)),
        Extend(group_name="workers", msg_ids=(1,), begun=True),
        Extend(group_name="workers", msg_ids=(1,), begun=False),
        Extend(
            group_name="workers", msg_ids=(1,), promise=Promise(until=1_900_000_000, done=WORDS)
        ),
        Extend(group_name="workers", msg_ids=(1,), promise=Promise(until=MAX_UNIX_SECONDS)),
    ],
    "release": [
        Release(consumer="worker/1", group_name="workers", request_id="request-1"),
        Release(group_name="workers", request_id="request-1"),
    ],
    "delete": [Delete(msg_id=MAX_MSG_ID)],
    "cancel": [Cancel(delayed_id=MAX_MSG_ID, sender=WORDS), Cancel(delayed_id=1)],
    "notify": [
        Notify(
            host="claude-code",
            session=WORDS,
            occasion=Occasion.IDLE,
            may_wake=("planner", WORDS),
            max_in_a_row=0,
            max_per_hour=100,
            cooldown_s=3_600,
        ),
        Notify(host="h", session="s", occasion=Occasion.STOP, may_wake="everyone"),
        Notify(host="h", session="s", occasion=Occasion.STOP, may_wake=()),
        Notify(host="h", session="s", occasion=Occasion.PROMPT),
    ],
    "register": [
        Register(name=WORDS, mailbox="box", ttl=1),
        Register(name="worker"),
        Register(mailbox="box"),
    ],
    "unregister": [
        Unregister(name=WORDS, mailbox="box"),
        Unregister(name="worker"),
        Unregister(mailbox="box"),
    ],
    "report": [Report(name=WORDS, mailbox="box"), Report(name="worker"), Report(mailbox="box")],
    "advance": [Advance()],
    "undo": [Undo(batch="batch-1", copy=2), Undo(batch="batch-1")],
    "note_read": [
        NoteRead(group_name="listeners", cursors=(0, MAX_MSG_ID, 7)),
        NoteRead(group_name="listeners", cursors=()),
    ],
    "claim_names": [
        ClaimNames(names=(("worker", "worker"), (WORDS, WORDS)), addresses=(("box", "worker"),)),
        ClaimNames(names=(), addresses=()),
        ClaimNames(names=(), addresses=(("worker", WORDS),), with_sub_addresses=True),
    ],
    "seen": [Seen(name=WORDS)],
    "sweep": [Sweep(most=1), Sweep()],
    "set_limits": [SetLimits(limits=Limits(max_payload=1, max_bytes=2**62))],
}

CALLS = [
    *(Call(one, "box") for requests in REQUESTS.values() for one in requests),
    Call(
        Send(),
        "box",
        Actor(agent="planner", owner="worker", own=("planner", "planner.inbox"), closed=True),
        "planner/c1",
        EVERY_BYTE,
        "0af7651916cd43dd",
        "1b",
        as_text=True,
    ),
    Call(Send(from_mailbox="desk"), "box", Actor(agent="planner", other_owner="planner")),
    Call(
        Send(),
        "box",
        Actor(agent="planner", closed=True, below="planner", apart=("planner.code",), barred=True),
    ),
    Call(Send(), "box", Actor(closed=True, is_stranger=True)),
    Call(Send(), "box", Actor(may_list=True)),
    *(Call(Send(), "box", Actor(agent="boss", closed=True, role=role)) for role in Role),
    Call(Send(), "box", Actor(agent="planner", reply_owner="planner")),
    Call(Advance()),
]
