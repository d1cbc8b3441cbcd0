"""What it takes to encode commands for a log, and to read them again.

Run it with `.venv/bin/python benchmarks/scripts/codec.py`. The least of many short rounds counts,
which is what it takes while nothing else uses the processor.
"""

import timeit

from rich.console import Console
from rich.table import Table

from mq9.engine import codec
from mq9.engine.commands import Actor, Call
from mq9.models import Priority
from mq9.protocol.requests import Ack, Fetch, Send

BODY = b"x" * 300
CONSUMER = {"group_name": "workers", "consumer": "worker/1"}
FULL = Send(
    sender="planner",
    priority=Priority.URGENT,
    key="job-17",
    ttl=3600,
    tags=("a", "b"),
    id="3f2a-77",
    reply_to="planner.replies",
    correlation_id="c-1234",
    headers=(("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),),
)
CALLS = {
    "SEND": Call(Send(sender="planner"), "box", payload=BODY),
    "SEND with all options": Call(FULL, "box", Actor("planner"), "planner/1", BODY),
    "FETCH": Call(Fetch(**CONSUMER), "box"),
    "ACK": Call(Ack(msg_id=7, batch="1.2", **CONSUMER), "box"),
}


def microseconds(function, one):
    """The least that a call took."""
    number = 200
    return min(timeit.repeat(lambda: function(one), number=number, repeat=100)) / number * 1e6


table = Table("", "bytes", "encode, µs", "decode, µs", title="Messages of 300 bytes")
for name, example in CALLS.items():
    data = codec.encode_call(example)
    table.add_row(
        name,
        f"{len(data):,}",
        f"{microseconds(codec.encode_call, example):.1f}",
        f"{microseconds(codec.decode_call, data):.1f}",
    )
Console().print(table)
