"""Applies the entries of a log on standard input, and writes the digest after each of them."""

import sys

from mq9.engine import codec, machine
from mq9.engine.commands import Entry
from mq9.engine.state import digest
from mq9.storage import store


def main():
    connection = store.open_memory()
    for line in sys.stdin:
        index, now_ms, data = line.split()
        call = codec.decode_call(bytes.fromhex(data))
        machine.apply(connection, Entry(int(index), int(now_ms), call))
        sys.stdout.write(f"{digest(connection)}\n")


main()
