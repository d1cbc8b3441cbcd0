"""What this process has sent to itself over TCP, and its kernel has not delivered yet."""

import os
import socket
import stat
import struct
from collections import Counter
from pathlib import Path

# Of Linux's struct tcp_info, each of 64 bits: bytes received, bytes sent, those sent again.
_RECEIVED, _SENT, _SENT_AGAIN, _LENGTH = 128, 200, 208, 216


def in_transit():
    """Tell whether a socket of this process has yet to receive what another has sent it."""
    sent, received = Counter(), {}
    for link in Path("/proc/self/fd").iterdir():
        ends = _ends_and_counts(int(link.name))
        if ends is not None:
            here, there, came, went = ends
            sent[there, here] = went
            received[here, there] = came
    return any(received[ends] < sent[ends] for ends in received if ends in sent)


def _ends_and_counts(fd):
    try:
        # A descriptor of anything else must not be closed: a database would lose its locks.
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        with socket.socket(fileno=os.dup(fd)) as one:
            if one.type != socket.SOCK_STREAM or one.family not in {
                socket.AF_INET,
                socket.AF_INET6,
            }:
                return None
            here, there = one.getsockname()[:2], one.getpeername()[:2]
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
    except OSError:  # it was closed just now, or is not connected
        return None
    (came,) = struct.unpack_from("Q", info, _RECEIVED)
    (went,) = struct.unpack_from("Q", info, _SENT)
    (again,) = struct.unpack_from("Q", info, _SENT_AGAIN)
    return here, there, came, went - again
