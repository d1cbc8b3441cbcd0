"""The state of a broker: mailboxes, messages, leases and agents in one SQLite database.

The engine is a state machine. ``machine.apply(connection, command, now_ms)`` changes it, and
``machine.read(connection, query, now_ms)`` looks at it; both are plain functions that never wait,
never read a clock and use no randomness, so that the same commands at the same instants give the
same state everywhere. What they raise is an ``Mq9Error``; no cursor and no row id gets out.
"""
