"""Commands and outcomes as bytes, which can be logged, and which later releases can read."""

from mq9.engine.codec.calls import decode_call, encode_call
from mq9.engine.codec.frame import DamagedEntry, UnknownEntry, UnreadableEntry
from mq9.engine.codec.outcomes import decode_outcome, encode_outcome

__all__ = [
    "DamagedEntry",
    "UnknownEntry",
    "UnreadableEntry",
    "decode_call",
    "decode_outcome",
    "encode_call",
    "encode_outcome",
]
