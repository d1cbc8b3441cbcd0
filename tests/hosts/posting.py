"""Mail for hosts under test, from somebody else."""

import time

from mq9 import MailboxNotFound, SyncMq9Client
from mq9.operations.identity import Identity

_STARTING_S = 15  # a server that was just started makes its mailbox within


def address_of(program):
    """The mailbox of a host, by the name that it is installed with."""
    return Identity(program.name).mail_address


def post(server, program, *bodies, **options):
    """Send messages to a host, whose server may be about to make the mailbox."""
    end = time.monotonic() + _STARTING_S
    with SyncMq9Client(server) as client:
        for body in bodies:
            while True:
                try:
                    client.send(address_of(program), body, **options)
                    break
                except MailboxNotFound:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)
