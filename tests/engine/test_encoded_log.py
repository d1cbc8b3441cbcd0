"""A log that was encoded makes the state and the outcomes that it makes as it is."""

from calls import call

from mq9.engine import codec, machine, state
from mq9.engine.commands import (
    Advance,
    Call,
    ClaimNames,
    Entry,
    Limits,
    NoteRead,
    Seen,
    SetLimits,
    Sweep,
    Undo,
)
from mq9.engine.machine import COMMANDS
from mq9.models import MailboxType, Priority
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
    Register,
    Release,
    Report,
    Send,
    Unregister,
)
from mq9.storage import store

START_MS = 1_700_000_000_123
GROUP = {"group_name": "workers", "consumer": "worker/1"}
LOG = [
    Call(SetLimits(limits=Limits(max_messages=4))),
    call(CreateMailbox, agent="planner", name="box", ttl=60, desc="Grüße", public=True),
    call(CreateMailbox, agent="planner", name="box"),
    call(CreateMailbox, "other", token="bb", name="other", type=MailboxType.LATEST),
    call(GrantMailbox, agent="planner", readers=("worker",)),
    call(Register, "other", payload=b'{"name": "worker", "mailbox": "other"}', name="worker"),
    call(Report, "", payload=b'{"name": "worker", "status": {"load": 0.5}}', name="worker"),
    Call(Seen(name="worker")),
    call(
        Send,
        agent="planner",
        payload=bytes(range(256)),
        priority=Priority.URGENT,
        key="k",
        ttl=30,
        tags=("a", "ö"),
        id="id-1",
        sender="planner",
        reply_to="other",
        correlation_id="c",
        path=("planner",),
        headers=(("x", "1"),),
    ),
    call(Send, payload=b"another body", id="id-1", sender="planner"),
    call(Send),
    call(Send, payload=b"later", delay=5),
    call(Send),
    call(Send),
    call(Fetch, agent="worker", request_id="r1", lease_ms=10_000, **GROUP),
    call(Fetch, agent="worker", group_name="workers", consumer="worker/2"),
    call(Fetch, agent="stranger", group_name="workers"),
    call(Send),
    call(Extend, agent="worker", msg_ids=(0, 1, 7), lease_ms=20_000, **GROUP),
    call(Ack, agent="worker", msg_id=0, individual=True, **GROUP),
    call(Nack, agent="worker", msg_id=1, delay_ms=500, **GROUP),
    call(Fetch, agent="worker", **GROUP),
    call(Move, agent="worker", msg_id=2, to="other", reason="no", **GROUP),
    call(Fetch, agent="worker", **GROUP),
    Call(Undo(batch="1"), "box"),
    call(Release, agent="worker", request_id="r1", **GROUP),
    call(Fetch, "other", **GROUP),
    call(NoteRead, "other", group_name="listeners", cursors=(1, 1, 1)),
    call(Delete, agent="planner", msg_id=0),
    call(Delete, agent="planner", msg_id=0),
    call(Send, payload=b"later still", delay=500),
    call(Cancel, agent="worker", delayed_id=2),
    call(Cancel, agent="planner", delayed_id=2),
    call(Advance),
    Call(ClaimNames(names=(("worker", "worker"),), addresses=(("other", "worker"),))),
    call(Unregister, "", agent="worker", name="worker"),
    call(Unregister, "", agent="worker", name="worker"),
    call(DropMailbox, agent="planner"),
    call(DropMailbox, agent="planner"),
    Call(Sweep(most=10)),
]


def carry_out(connection, entry):
    connection.execute("BEGIN")
    outcome = machine.apply(connection, entry)
    connection.execute("COMMIT")
    return outcome


def test_it_makes_the_same_state_and_the_same_outcomes():
    direct, replica = store.open_memory(), store.open_memory()
    outcomes = []
    for index, logged in enumerate(LOG, 1):
        now = START_MS + 700 * index
        outcome = carry_out(direct, Entry(index, now, logged))
        outcomes.append(outcome)
        read = codec.decode_call(codec.encode_call(logged))
        assert repr(carry_out(replica, Entry(index, now, read))) == repr(outcome)
        assert state.digest(replica) == state.digest(direct)
    assert {type(logged.request) for logged in LOG} == COMMANDS.keys()
    assert {one.error.code for one in outcomes if one.error} == {
        "agent_not_found",
        "forbidden",
        "id_conflict",
        "mailbox_exists",
        "mailbox_full",
        "mailbox_not_found",
        "message_not_found",
    }
    direct.close()
    replica.close()
